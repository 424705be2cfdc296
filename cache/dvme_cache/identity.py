"""A row is an image's content, never its path."""

from __future__ import annotations

import hashlib

CONTENT_ID_BYTES = 16


def content_id(data: bytes) -> bytes:
    """The 128-bit BLAKE2b digest of a file's bytes: equal for copies, whatever they are called."""
    return hashlib.blake2b(data, digest_size=CONTENT_ID_BYTES).digest()


def unreadable_id(path: str) -> bytes:
    """A stand-in identity for a file whose bytes cannot be read, so that it keeps a row of its own."""
    return hashlib.blake2b(path.encode(), digest_size=CONTENT_ID_BYTES, person=b"dvme-unreadable").digest()
