"""What identifies an image: the bytes of its file, and the frame where a file has many."""

from __future__ import annotations

import hashlib

from dvme.data.encoded import Encoded


def test_content_id__of_a_file_is_the_digest_of_its_bytes() -> None:
    """`printf abc | b2sum -l 128`."""
    assert Encoded(b"abc").content_id.hex() == "cf4ab791c62b8d2b2109c90275287816"


def test_content_id__of_a_frame_depends_on_file_and_number() -> None:
    whole = hashlib.blake2b(b"abc", digest_size=16).digest()
    assert Encoded(b"abc", 3).content_id == hashlib.blake2b(whole + b"frame 3", digest_size=16).digest()
    ids = {Encoded(data, frame).content_id for data in (b"abc", b"abd") for frame in (None, 0, 1, 10)}
    assert len(ids) == 8
