"""Content ids, against the digests that coreutils' `b2sum -l 128` prints."""

from __future__ import annotations

import pytest

from dvme_cache import content_id, unreadable_id


@pytest.mark.parametrize(
    ("data", "digest"),
    [(b"", "cae66941d9efbd404e4d88758ea67670"), (b"abc", "cf4ab791c62b8d2b2109c90275287816")],
)
def test_content_id__equals_b2sum(data: bytes, digest: str) -> None:
    assert content_id(data).hex() == digest
    assert len(content_id(data)) == 16


def test_content_id__follows_the_bytes() -> None:
    assert content_id(b"same bytes") == content_id(bytes(bytearray(b"same bytes")))
    assert content_id(b"same bytes") != content_id(b"same bytez")


def test_unreadable_id__never_meets_content() -> None:
    """A file that holds its own path as text keeps a different row from the unreadable file of that path."""
    path = "a/ä.png"
    assert unreadable_id(path) == unreadable_id(path)
    assert unreadable_id(path) != unreadable_id("a/b.png")
    assert unreadable_id(path) != content_id(path.encode())
    assert len(unreadable_id(path)) == 16
