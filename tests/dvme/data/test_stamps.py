"""Files that are not read again because they are as they were, and all that lets them be read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dvme.data.hashing import identify
from dvme.data.samples import Samples
from dvme.data.stamps import ENTRY, START, Stamps, Vouched, stamp_of
from dvme.runtime import kept_folder
from dvme_cache import content_id

LONG_AGO = 1_500_000_000_000_000_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return kept_folder("hashes")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this test count as older than two seconds."""
    monkeypatch.setattr("dvme.data.stamps.SETTLED_NS", -1)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(f"content of {name}")
    return sorted(folder.iterdir())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, as they are."""
    names: list[str] = []
    read_bytes = Path.read_bytes

    def noting(self: Path) -> bytes:
        if "images" in self.parts:
            names.append(self.name)
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", noting)
    return names


def hashed(files: list[Path], place: str = "place") -> list[bytes]:
    nothing = [""] * len(files)
    stamps = Stamps.of(place)
    found = identify(Samples(files, [*map(str, files)], nothing, nothing, nothing), 2, lambda *_: None, stamps=stamps)
    stamps.save()
    return list(found.digests)


@pytest.mark.usefixtures("settled")
def test_stamps__what_is_as_it_was_is_not_read(files: list[Path], read: list[str]) -> None:
    first = hashed(files)
    assert sorted(read) == ["a", "b", "c"]
    read.clear()
    assert hashed(files) == first == [content_id(f"content of {name}".encode()) for name in "abc"]
    assert hashed(files[1:]) == first[1:]
    assert not read
    assert hashed(files) == first
    assert read == ["a"], "what a run does not list is kept no longer"
    read.clear()
    assert hashed(files, "elsewhere") == first
    assert len(read) == 3


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", ["size", "mtime", "ctime", "other"])
def test_stamps__what_has_changed_is_read(files: list[Path], read: list[str], change: str) -> None:
    hashed(files)
    read.clear()
    target, before = files[1], files[1].stat()
    if change == "size":
        target.write_text("content of B, longer")
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "mtime":
        os.utime(target, ns=(LONG_AGO, LONG_AGO))
    elif change == "ctime":  # as by a tool that changes bytes and puts the mtime back
        target.write_text("CONTENT OF B")
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        files[2].replace(target)
        files.pop()
    assert hashed(files)[1] == content_id(target.read_bytes())
    assert set(read) == {"b"}


def test_stamps__a_file_that_has_just_changed_is_not_trusted(files: list[Path], home: Path, read: list[str]) -> None:
    hashed(files)
    assert not home.exists(), "its next change may fall into the same tick of the clock"
    hashed(files)
    assert len(read) == 6


@pytest.mark.usefixtures("settled")
def test_stamps__a_file_that_changes_while_it_is_read_is_not_kept(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def growing(self: Path) -> bytes:
        data = read_bytes(self)
        if self == files[0]:
            with self.open("ab") as file:
                file.write(b"!")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", growing)
        hashed(files)
    assert hashed(files)[0] == content_id(b"content of a!")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda _: b"",
        lambda data: data + b"x",
        lambda data: b"other " + data,
    ],
)
def test_stamps__damage_is_as_if_nothing_were_kept(
    files: list[Path], home: Path, read: list[str], harm: Callable[[bytes], bytes]
) -> None:
    first = hashed(files)
    (kept,) = home.iterdir()
    whole = kept.read_bytes()
    assert len(whole) == len(START) + 16 + 3 * ENTRY.size
    kept.write_bytes(harm(whole))
    read.clear()
    assert hashed(files) == first
    assert len(read) == 3
    assert kept.read_bytes() == whole


@pytest.mark.usefixtures("settled")
def test_stamps__names_no_file(files: list[Path], home: Path) -> None:
    secret = files[0].rename(files[0].with_name("MUELLER_ANNA.png"))
    hashed([secret])
    (kept,) = home.iterdir()
    assert b"MUELLER" not in kept.read_bytes()


@pytest.mark.usefixtures("settled")
def test_stamps__a_folder_that_cannot_be_written_costs_nothing(files: list[Path], home: Path) -> None:
    home.parent.mkdir(parents=True)
    home.write_text("a file where the folder would be")
    assert hashed(files) == hashed(files)


@pytest.mark.usefixtures("settled")
def test_stamps__of_an_archive_by_the_archive(tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", b"one")
        file.writestr("b.png", b"two")
    files = [archive / "a.png", archive / "b.png"]
    assert stamp_of(files[0]) == stamp_of(archive)
    first = hashed(files)
    stamps = Stamps.of("place")
    assert [stamps.recall(file) for file in files] == [Vouched(digest, False) for digest in first]
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", b"1")
        file.writestr("b.png", b"two")
    assert hashed(files) == [content_id(b"1"), content_id(b"two")]


def test_stamp_of__nothing_there(tmp_path: Path) -> None:
    assert stamp_of(tmp_path / "none") is None
    assert stamp_of(tmp_path / "none\0") is None
