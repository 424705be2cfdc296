from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvme.data.sources.entries import LINK_TO_NOTHING, Entries, bytes_at


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/1.png", "a/1.png"),
        ("./a//1.png", "a/1.png"),
        ("/a/./1.png", "a/1.png"),
        ("a/..b/1.png", "a/..b/1.png"),
        ("a/.hidden/...", "a/.hidden/..."),
    ],
)
def test_add__names_as_addresses_have_them(name: str, expected: str) -> None:
    entries = Entries[int]()
    entries.add(name, 1)
    assert entries.places == {expected: 1}
    assert str(Path("x") / expected) == f"x/{expected}"


@pytest.mark.parametrize("name", ["..", "../1.png", "a/../1.png", "a/.."])
def test_add__names_that_lead_out(name: str) -> None:
    entries = Entries[int]()
    entries.add(name, 1)
    entries.add_folder(name)
    assert (entries.places, entries.folders, entries.outside) == ({}, [], [name, name])


def test_add_link__the_last_of_one_name_counts() -> None:
    entries = Entries[int]()
    entries.add("a", 1)
    entries.add_link("b", "a", is_relative=True)
    entries.add("b", 2)
    entries.add("c", 3)
    entries.add_link("c", "a", is_relative=True)
    entries.follow_links()
    assert entries.places == {"a": 1, "b": 2, "c": 1}
    assert entries.twice == ["b", "c"]


def test_follow_links__in_a_circle() -> None:
    entries = Entries[int]()
    entries.add_link("a", "b", is_relative=True)
    entries.add_link("b", "a", is_relative=True)
    entries.follow_links()
    assert (entries.places, entries.others) == ({}, [("a", LINK_TO_NOTHING), ("b", LINK_TO_NOTHING)])


def test_bytes_at__parts_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    whole, fd = os.pread, os.open(tmp_path / "x", os.O_RDONLY)
    monkeypatch.setattr(os, "pread", lambda fd, n, offset: whole(fd, min(n, 7), offset))  # as systems may
    assert bytes_at(fd, 50, 10) == bytes(range(10, 60))
    assert bytes_at(fd, 50, 90) == bytes(range(90, 100))
    os.close(fd)
