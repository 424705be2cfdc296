"""The disk layout in one place: names, format version, row states, shard and chunk sizes.

    <name>.zarr/                    attributes: format, format_version
      samples/                      attributes: n_rows (the commit of an append)
        content_id  (N, 16) uint8   one row per distinct image
        path        (N,)    string  relative path under which the content was first seen
      tables/                       attributes: current, columns (the commit of a replacement)
        <generation>/<column> (N,)  string, "" = missing
      embeddings/<backbone>/        attributes: fingerprint, provenance (written last at creation)
        features    (N, D)          NaN where nothing was written
        reason      (N,)    string  why a row failed
        state       (N,)    uint8   RowState; written last: the commit of a shard

Beside it lies .<name>.zarr.lock, held by the writer's process. ARCHITECTURE.md says why.
"""

from __future__ import annotations

from enum import IntEnum

FORMAT = "dvme-cache"
FORMAT_VERSION = 1
LOCK_SUFFIX = ".lock"

ROWS_PER_SAMPLE_CHUNK = 65_536
MIN_SHARD_ROWS, MAX_SHARD_ROWS = 64, 32_768
SHARDS_PER_DATA_SET = 256
CHUNK_BYTES = 1 << 20


class RowState(IntEnum):
    """What a cache knows about one row of one backbone."""

    PENDING = 0
    DONE = 1
    FAILED = 2


def shard_rows(n_rows: int) -> int:
    """Rows per shard for a data set of about n_rows: a power of two in [64, 32768].

    About 256 shards per data set, so that an interrupted run loses well under one per cent of its
    work, while a hundred million rows are still thousands of files, not millions.
    """
    wanted = max(1, n_rows // SHARDS_PER_DATA_SET)
    return min(MAX_SHARD_ROWS, max(MIN_SHARD_ROWS, 1 << (wanted - 1).bit_length()))


def chunk_rows(rows_per_shard: int, row_bytes: int) -> int:
    """Rows per chunk, the unit of reading: a power of two that divides the shard, at most about 1 MiB."""
    fitting = max(1, CHUNK_BYTES // row_bytes)
    return min(rows_per_shard, 1 << (fitting.bit_length() - 1))
