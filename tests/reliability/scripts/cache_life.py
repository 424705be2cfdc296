"""Makes a small cache what it is to be, from whatever a killed run left; every step is printed once it counts.

Arguments: the cache, and what to make of it:

    grow   samples, columns and two backbones, one of which is removed again
    mend   repaired, and every row extracted again that was lost
    retry  the image that failed decodes after all
    prune  without three images, of which one failed
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dvme_cache.samples
import dvme_cache.tables
import dvme_cache.verification
from dvme_cache import EmbeddingCache, Embeddings, Fingerprint, content_id, repair_cache

N_FIRST, N_ROWS, FAILED = 40, 50, 7
PRUNED = [FAILED, 20, 49]
IDS = [content_id(f"image {row}".encode()) for row in range(N_ROWS)]
PATHS = [f"{row}.png" for row in range(N_ROWS)]
for module in (dvme_cache.samples, dvme_cache.tables, dvme_cache.verification):
    module.ROWS_PER_SAMPLE_CHUNK = 32  # two chunks, small ones


def grow(cache: EmbeddingCache) -> None:
    """Samples, columns, a backbone, more samples, another backbone, which is removed again, other columns."""
    first = cache.samples.add(IDS[:N_FIRST], PATHS[:N_FIRST])
    cache.update_columns(first, {"label": ["a"] * N_FIRST})
    commit(ensure(cache, "kept"))
    every = cache.samples.add(IDS, PATHS)
    commit(ensure(cache, "kept"))
    removed, done = ensure(cache, "removed"), np.delete(every, FAILED)
    removed.write(done, features_of(done))
    print("removed", *done.tolist(), flush=True)
    cache.update_columns(every, {"label": ["b"] * N_ROWS, "group": PATHS})
    cache.remove_embeddings("removed")
    cache.update_columns(every, {"label": ["c"] * N_ROWS})


def mend(cache: EmbeddingCache) -> None:
    """Repair, and extract anew what was lost."""
    repair_cache(cache)
    commit(ensure(cache, "kept"))


def retry(cache: EmbeddingCache) -> None:
    """Embed what failed."""
    embeddings = ensure(cache, "kept")
    for rows in embeddings.pending_shards(retry_failed=True):
        embeddings.commit(rows, features_of(rows), {})


def prune(cache: EmbeddingCache) -> None:
    """Take images out."""
    cache.prune(np.array(PRUNED))


def ensure(cache: EmbeddingCache, name: str) -> Embeddings:
    """The embeddings of a backbone, in shards of 16 rows."""
    made_by = Fingerprint({"weights": name})
    return cache.ensure_embeddings(name, made_by, dim=3, dtype="float32", provenance={}, rows_per_shard=16)


def commit(embeddings: Embeddings) -> None:
    """Commit every pending row; one of them fails."""
    for rows in embeddings.pending_shards():
        embeddings.commit(rows, features_of(rows), {FAILED: "it is no image"} if FAILED in rows else {})
        print(embeddings.name, *rows.tolist(), flush=True)


def features_of(rows: NDArray[Any]) -> NDArray[Any]:
    """(B, 3) that follow from the row."""
    return (rows[:, None] / np.array([1, 3, 9]) + 1).astype("float32")


if __name__ == "__main__":
    with EmbeddingCache.writing(sys.argv[1]) as opened:
        {"grow": grow, "mend": mend, "retry": retry, "prune": prune}[sys.argv[2]](opened)
