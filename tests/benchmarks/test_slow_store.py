"""A cache in an object store that takes 50 ms for every answer: reading for a probe, and commits of an extraction.

The service is moto's, in a process of its own (tests/support/slow_store.py). Prints ratios within one run.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from slow_store import SlowStore, slow_store

from dvme_cache import EmbeddingCache, Embeddings, Fingerprint, content_id
from dvme_cache.parallel import each
from dvme_cache.remote import RemoteFiles

pytestmark = pytest.mark.bench

ANSWER_S = 0.05
M, SHARDS, D, ROWS_PER_SHARD = 5, 64, 64, 64
N = SHARDS * ROWS_PER_SHARD
NAMES = [f"backbone{number}" for number in range(M)]
COLUMNS = ("label", "split", "group", "path")
REPEATS = 3
N_EXTRACTED, IMAGES_PER_S = 2048, 250
"""Of the driver: all five backbones together. Two cores reach a tenth of that with five, one GPU some more."""


@pytest.fixture(scope="module")
def store() -> Iterator[SlowStore]:
    with slow_store() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def values() -> list[NDArray[Any]]:
    return list(np.random.default_rng(0).normal(size=(M, N, D)).astype(np.float32))


def begin(cache: EmbeddingCache, n: int = N) -> list[Embeddings]:
    """Rows, columns and empty embeddings."""
    cache.samples.add([content_id(str(row).encode()) for row in range(n)], [f"{row}.png" for row in range(n)])
    cache.update_columns(np.arange(n), {name: ["a", "b"] * (n // 2) for name in COLUMNS})
    layout = {"dim": D, "dtype": "float32", "provenance": {}, "rows_per_shard": ROWS_PER_SHARD}

    def lay_out(name: str) -> Embeddings:
        return cache.ensure_embeddings(name, Fingerprint({"w": name}), **layout)  # type: ignore[arg-type]

    return each(lay_out, NAMES, cache.store.files.n_readers)  # as an extraction does


def probes_read(url: str) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    cache = EmbeddingCache.open(url)
    cache.columns_and_order(COLUMNS)
    rows = cache.complete_rows(NAMES)
    found = cache.read_aligned(NAMES, rows)
    assert len(cache.samples.paths) == N
    return rows, found


@dataclass
class Measured:
    seconds: float
    asked: Counter[str]

    def __str__(self) -> str:
        return f"{self.seconds:6.2f} s, {self.asked.total():,} requests ({dict(self.asked)})"


def measured(store: SlowStore, do: Callable[[], Any]) -> tuple[Measured, Any]:
    store.counted()
    start = time.perf_counter()
    found = do()
    return Measured(time.perf_counter() - start, store.counted()), found


def load() -> str:
    return "load " + ", ".join(f"{each:.1f}" for each in os.getloadavg())


def test_read__against_one_request_after_another(
    store: SlowStore, values: list[NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "s3://bucket/read.zarr"
    store.delay(0)
    with EmbeddingCache.writing(url) as cache:
        for table, features in zip(begin(cache), values, strict=True):
            table.write(np.arange(N), features)
    bare, _ = measured(store, lambda: probes_read(url))
    store.delay(ANSWER_S)
    together = []
    for _ in range(REPEATS):
        one, (rows, found) = measured(store, lambda: probes_read(url))
        together.append(one)
        assert all((got == made).all() for got, made in zip(found, values, strict=True))
        assert len(rows) == N
    monkeypatch.setattr(RemoteFiles, "n_readers", 1)
    alone, (_, again) = measured(store, lambda: probes_read(url))
    assert all((got == made).all() for got, made in zip(again, values, strict=True))
    ratio = alone.seconds / statistics.median(one.seconds for one in together)
    print(f"\na probe's read of {M} backbones x {SHARDS} shards, {ANSWER_S * 1000:.0f} ms an answer; {load()}")
    for name, which in (("one after another", alone), *(("together", one) for one in together), ("no delay", bare)):
        print(f"  {name:18}{which}")
    print(f"  {ratio:.1f} times as fast as one request after another")
    assert alone.asked.total() == together[0].asked.total()
    assert ratio >= 20


def driven(location: Path | str, values: list[NDArray[Any]], n_writers: int | None = None) -> tuple[float, float]:
    """Seconds until the first image and from there, of a driver that computes (waits) and commits by a pool meanwhile.

    At most two shards of every backbone are held back for commits that are not done.
    """
    start = time.perf_counter()
    with EmbeddingCache.writing(location) as cache:
        tables = begin(cache, N_EXTRACTED)
        tables[0].stored.load_ids()
        began = time.perf_counter()
        with ThreadPoolExecutor(n_writers or tables[0].n_writers) as pool:
            pending: list[Future[None]] = []
            for rows in tables[0].pending_shards():
                time.sleep(len(rows) / IMAGES_PER_S)
                pending += [
                    pool.submit(table.commit, rows, made[rows], {}) for table, made in zip(tables, values, strict=True)
                ]
                while len(pending) > 2 * M:
                    pending.pop(0).result()
            wait(pending)
        end = time.perf_counter()
    return began - start, end - began


def test_extract__against_a_disk(store: SlowStore, values: list[NDArray[Any]], tmp_path: Path) -> None:
    store.delay(ANSWER_S)
    local = [driven(tmp_path / f"{at}.zarr", values) for at in range(REPEATS)]
    remote = [driven(f"s3://bucket/{at}.zarr", values) for at in range(REPEATS)]
    in_a_row = driven("s3://bucket/row.zarr", values, n_writers=1)
    store.delay(0)
    print(
        f"\n{N_EXTRACTED:,} images at {IMAGES_PER_S}/s by {M} backbones, {ANSWER_S * 1000:.0f} ms an answer; {load()}"
    )
    for name, runs in (("a disk", local), ("an object store", remote), ("one commit at a time", [in_a_row])):
        print(f"  {name:22}" + ", ".join(f"{rest:.1f} s after {first:.1f} s of opening" for first, rest in runs))
    share = statistics.median(rest for _, rest in local) / statistics.median(rest for _, rest in remote)
    print(f"  {share:.2f} of the speed on a disk once it is open")
    cache = EmbeddingCache.open("s3://bucket/0.zarr")
    rows = cache.complete_rows(NAMES)
    found = cache.read_aligned(NAMES, rows)
    assert all((got == made[rows]).all() for got, made in zip(found, values, strict=True))
    assert len(rows) == N_EXTRACTED
    assert share >= 0.8
