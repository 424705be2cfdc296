"""One of many processes on one cache, in which every value follows from the image's number or its content id.

crowd.py write CACHE WRITER SEED    add, label and embed the writer's images, in several turns
crowd.py read CACHE STOP            check everything that can be read until the file STOP is there
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dvme_cache.samples
import dvme_cache.tables
import dvme_cache.verification
from dvme_cache import MISSING, EmbeddingCache, Embeddings, Fingerprint, RowState, content_id, verify_cache

IMAGES_PER_WRITER, NEW_PER_WRITER, N_WRITERS, TURNS = 32, 16, 4, 3
N_IMAGES = NEW_PER_WRITER * (N_WRITERS - 1) + IMAGES_PER_WRITER
IDS = [content_id(f"image {number}".encode()) for number in range(N_IMAGES)]
NUMBER_OF = {digest: number for number, digest in enumerate(IDS)}
LABELS = [f"class {number % 5}" for number in range(N_IMAGES)]
DIM, SHARD_ROWS, SAMPLE_CHUNK = 16, 16, 32
DTYPES = {"first": "float32", "second": "float16", "third": "float32"}
BACKBONES_OF = (("first", "second"), ("second", "third"), ("third", "first"), ("first", "second"))
PAUSE_S = 0.1
for module in (dvme_cache.samples, dvme_cache.tables, dvme_cache.verification):
    module.ROWS_PER_SAMPLE_CHUNK = SAMPLE_CHUNK  # several chunks, small ones


def images_of(writer: int) -> range:
    """Numbers of a writer's images; its neighbours have half of them each."""
    return range(writer * NEW_PER_WRITER, writer * NEW_PER_WRITER + IMAGES_PER_WRITER)


def features_of(digests: Sequence[bytes], backbone: str) -> NDArray[Any]:
    """(B, 16): what the backbone makes of images of these content ids."""
    hashes = [hashlib.blake2b(digest + backbone.encode(), digest_size=2 * DIM).digest() for digest in digests]
    table = np.frombuffer(b"".join(hashes), dtype="<u2").reshape(-1, DIM)
    return (table / 64).astype(DTYPES[backbone])


def write(path: Path, writer: int, seed: int) -> None:
    """Several turns at the lock, then as many as it takes until all of the writer's images are embedded."""
    rng = random.Random(seed)
    images = list(images_of(writer))
    rng.shuffle(images)
    turns = [images[turn::TURNS] for turn in range(TURNS)]
    n_pending = len(images)
    while n_pending:
        added = turns.pop(0) if turns else images
        with EmbeddingCache.writing(path, wait=True) as cache:
            rows = cache.samples.add([IDS[number] for number in added], [f"{number}.png" for number in added])
            cache.update_columns(rows, {"label": [LABELS[number] for number in added]})
            n_left = sum(embed(cache, name, rows, rng) for name in BACKBONES_OF[writer])
            n_pending = n_left if added is images else n_pending
        time.sleep(rng.uniform(0, 0.02))


def embed(cache: EmbeddingCache, name: str, rows: NDArray[Any], rng: random.Random) -> int:
    """Commit some of the pending rows of every shard; how many of the given rows are pending after it."""
    embeddings = cache.ensure_embeddings(
        name, Fingerprint({"weights": name}), dim=DIM, dtype=DTYPES[name], provenance={}, rows_per_shard=SHARD_ROWS
    )
    digests = cache.samples.content_ids
    for pending in embeddings.pending_shards():
        chosen = np.array([row for row in pending.tolist() if rng.random() < 0.7], dtype=np.int64)
        if len(chosen):
            embeddings.commit(chosen, features_of([digests[row] for row in chosen], name), {})
    return int((embeddings.states()[rows] == RowState.PENDING).sum())


def read(path: Path, stop: Path) -> dict[str, int]:
    """Read everything, again and again, with caches opened anew and with one that stays open."""
    seen: dict[str, set[bytes]] = defaultdict(set)
    kept: dict[str, Embeddings] = {}
    counts = {"passes": 0, "rows": 0}
    while not stop.exists():
        if not EmbeddingCache.exists(path):
            continue
        cache = EmbeddingCache.open(path)
        digests = cache.samples.content_ids
        assert len(set(digests)) == len(digests), "an image has two rows"
        labels = cache.column("label").tolist()
        assert all(label in {MISSING, LABELS[NUMBER_OF[digest]]} for digest, label in zip(digests, labels, strict=True))
        names = cache.backbones  # once: a writer may add another at any time
        for name in names:
            embeddings = cache.embeddings(name)
            counts["rows"] += check(embeddings, digests, seen[name])
            counts["rows"] += check(kept.setdefault(name, embeddings), digests, set())
        for rows, blocks in cache.scan(names):
            for name, block in zip(names, blocks, strict=True):
                np.testing.assert_array_equal(block, features_of([digests[row] for row in rows], name))
        verification = verify_cache(EmbeddingCache.open(path))
        assert verification.is_sound, verification.findings
        counts["passes"] += 1
        time.sleep(PAUSE_S)
    return counts


def check(embeddings: Embeddings, digests: Sequence[bytes], seen: set[bytes]) -> int:
    """Compare every row that is done, and make sure that no row is gone which was done before."""
    done = np.flatnonzero(embeddings.states() == RowState.DONE)
    held = [digests[row] for row in done]
    assert seen <= set(held), f"rows of {embeddings.name} are gone"
    seen |= set(held)
    np.testing.assert_array_equal(embeddings.read(done), features_of(held, embeddings.name))
    return len(done)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        print(json.dumps(read(Path(sys.argv[2]), Path(sys.argv[3]))))
