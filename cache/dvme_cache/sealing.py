"""Checksums of the small files: a seal inside every zarr.json, a crc32c behind every chunk."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from dvme_cache.errors import CorruptCacheError
from dvme_cache.layout import METADATA, SEAL, copy_of, is_kept_twice
from dvme_cache.protocol import Files

CRC_BYTES = 4


def crc32c(data: bytes | NDArray[Any]) -> int:
    """The Castagnoli CRC of contiguous bytes."""
    return int(google_crc32c.value(data))


def sealed(key: str, document: bytes) -> bytes:
    """A zarr.json with its seal among the attributes, over everything else in it and over its own place.

    Args:
        key: the document's place in the cache, so that it cannot stand in for another.
        document: JSON, with or without an older seal.
    """
    content = json.loads(document)
    content.setdefault("attributes", {}).pop(SEAL, None)
    content["attributes"][SEAL] = _digest(key, content)
    return json.dumps(content, indent=2).encode()


def is_sound(key: str, data: bytes) -> bool:
    """Whether a zarr.json carries its seal, or a chunk ends in the crc32c of what comes before."""
    if key.rpartition("/")[2] != METADATA:
        stored = int.from_bytes(data[-CRC_BYTES:], "little")
        return len(data) >= CRC_BYTES and crc32c(data[:-CRC_BYTES]) == stored
    try:
        content = json.loads(data)
        seal = content["attributes"].pop(SEAL)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(seal == _digest(key, content))


def sound_file(files: Files, key: str) -> bytes | None:
    """A file's bytes; its copy's where the file is not sound.

    Raises:
        CorruptCacheError: if it is a zarr.json of which no sound copy is left.
    """
    data = files.read(key)
    if not is_kept_twice(key) or (data is not None and is_sound(key, data)):
        return data
    copy = files.read(copy_of(key))
    if copy is not None and is_sound(key, copy):
        return copy
    if data is not None and key.endswith(METADATA):
        raise CorruptCacheError(
            f"{files}/{key} and its copy are damaged; restore it from a backup, or extract into a new cache"
        )
    return data  # a chunk, whose codec finds what is wrong


def _digest(key: str, content: dict[str, Any]) -> str:
    """BLAKE2b-128 of the key, a newline, and the document as JSON with sorted keys and no spaces."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(f"{key}\n{canonical}".encode(), digest_size=16).hexdigest()


def row_checksums(rows: NDArray[Any], content_ids: NDArray[Any], fingerprint_digest: str) -> NDArray[np.uint32]:
    """What is stored beside every embedding: proof of its numbers, of its image and of what made it.

    crc32c of the row's bytes as stored, exclusive-or with the first four bytes of the image's content id and
    of the fingerprint's digest, each read as a little-endian integer. An embedding that lies under another
    image's row, or that another model made, fails the check as surely as a flipped bit does.

    Args:
        rows: (B, D) contiguous, little-endian.
        content_ids: (B, 16) uint8.
        fingerprint_digest: 32 hexadecimal digits.

    Returns:
        (B,) uint32.
    """
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    value = google_crc32c.value
    checksums = np.fromiter(map(value, raw), dtype=np.uint32, count=len(raw))
    made_by = np.uint32(int.from_bytes(bytes.fromhex(fingerprint_digest)[:CRC_BYTES], "little"))
    image = np.ascontiguousarray(content_ids[:, :CRC_BYTES]).view("<u4")[:, 0]
    return np.asarray(checksums ^ image ^ made_by, dtype=np.uint32)
