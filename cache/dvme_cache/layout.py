"""The disk layout in one place: names, format version, row states, shard sizes.

    <name>.zarr/                    attributes: format, format_version
      samples/                      attributes: n_rows (the commit of an append)
        content_id  (N, 16) uint8   one row per distinct image; 255 everywhere where it was pruned
        path        (N,)    string  relative path under which the content was first seen
      tables/                       attributes: current, columns, class_order if any (the commit of a replacement)
        <generation>/<column> (N,)  string, "" = missing
      embeddings/                   attributes: backbones (the commit of adding or removing one)
        <backbone>/                 attributes: fingerprint, provenance
          features  (N, D)          NaN where nothing was written, 0 of bytes
          checksum  (N,)    uint32  of the row, its image and its fingerprint (sealing.py)
          reason    (N,)    string  why a row failed
          state     (N,)    uint8   RowState; written last: the commit of a shard
      copies/                       everything above but the chunks below embeddings/, once more

Every zarr.json has the attribute `seal`. Beside the cache lies .<name>.zarr.lock, held by the writer's
process, and in .<name>.zarr.parts/ a lock for each part of an extraction. FORMAT.md has the details.
"""

from __future__ import annotations

import json
import re
from enum import IntEnum
from pathlib import Path
from urllib.parse import quote

FORMAT = "dvme-cache"
FORMAT_VERSION = 2
LOCK_SUFFIX, PARTS_SUFFIX = ".lock", ".parts"
METADATA = "zarr.json"
SEAL = "seal"
COPIES = "copies"
EMBEDDING_CHUNK = re.compile(r"embeddings/[^/]+/[^/]+/c/")

ROWS_PER_SAMPLE_CHUNK = 262_144
MIN_SHARD_ROWS, MAX_SHARD_ROWS = 64, 32_768
SHARDS_PER_DATA_SET = 256
MOST_SHARD_BYTES = 1 << 27
"""Of the features of a shard, which is held in memory as a whole."""


class RowState(IntEnum):
    """What a cache knows about one row of one backbone."""

    PENDING = 0
    DONE = 1
    FAILED = 2


def shard_rows(n_rows: int, row_bytes: int = 0, *, asked: int | None = None) -> int:
    """Rows per shard for a data set of about n_rows: a power of two in [64, 32768], fewer where rows are long.

    About 256 shards per data set, so that an interrupted run loses well under one per cent of its
    work, while a hundred million rows are still thousands of files, not millions. However long a row is, a shard of
    more than one has at most 128 MiB.

    Args:
        n_rows: of the data set.
        row_bytes: of the features of a row.
        asked: how many are wanted instead, if that is no more.
    """
    fitting = max(1, MOST_SHARD_BYTES // max(row_bytes, 1))
    if asked is not None:
        return min(asked, fitting)
    wanted = max(1, n_rows // SHARDS_PER_DATA_SET)
    usual = min(MAX_SHARD_ROWS, max(MIN_SHARD_ROWS, 1 << (wanted - 1).bit_length()))
    return min(usual, 1 << (fitting.bit_length() - 1))


def encoded(name: str) -> str:
    """A backbone's or a column's name as one folder name, whatever is in it.

    Raises:
        ValueError: if it is empty: the folder would be that of all of them.
    """
    if not name:
        raise ValueError("a backbone or a column needs a name")
    folder = quote(name, safe="")
    return folder.replace(".", "%2E") if folder.startswith(".") or folder == METADATA else folder


def copy_of(key: str) -> str:
    """Where the copy of a file or folder lies."""
    return f"{COPIES}/{key}"


def is_kept_twice(key: str) -> bool:
    """Whether a file has a copy: all that is small and that no extraction brings back."""
    return not key.startswith(f"{COPIES}/") and EMBEDDING_CHUNK.match(key) is None


def backbone_names(folder: Path) -> list[str]:
    """Names of the backbones that a cache in a folder says it has, sorted; none of what is no cache.

    One small file is read and nothing is proven: this is for a shell that completes names.
    """
    try:
        found = json.loads((folder / "embeddings" / METADATA).read_text(encoding="utf-8"))
        return sorted(found["attributes"]["backbones"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
