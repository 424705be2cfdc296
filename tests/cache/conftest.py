"""Caches of a few rows, whose values follow from the row's index, and ways to break them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme_cache import EmbeddingCache, Fingerprint, content_id

Features = Callable[..., NDArray[Any]]
MakeCache = Callable[..., Path]
Spawn = Callable[..., "subprocess.Popen[str]"]
FailFsync = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def skip_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: a busy one makes these tests minutes. test_store.py checks that syncs are real."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def fingerprint() -> Fingerprint:
    """What every cache of these tests was made by."""
    return Fingerprint({"weights": "abc", "size": 224})


@pytest.fixture
def ids() -> Callable[[Sequence[int] | range], list[bytes]]:
    """The content ids of images numbered by integers."""
    return lambda numbers: [content_id(f"image {number}".encode()) for number in numbers]


@pytest.fixture
def features_of() -> Features:
    """(B, dim) features that depend on the row alone, so that any writer of a row writes the same bits."""

    def features(rows: Sequence[int] | NDArray[Any], dim: int = 3, dtype: str = "float32") -> NDArray[Any]:
        table = np.array([[1 + int(row) + axis / 7 for axis in range(dim)] for row in rows])
        return table.astype(dtype).reshape(-1, dim)

    return features


@pytest.fixture
def make_cache(tmp_path: Path, ids: Callable[..., list[bytes]], fingerprint: Fingerprint) -> MakeCache:
    """A cache of n_rows samples with empty embeddings of each named backbone."""

    def make(n_rows: int, *backbones: str, dim: int = 3, dtype: str = "float32") -> Path:
        path = tmp_path / "data.zarr"
        with EmbeddingCache.writing(path) as cache:
            cache.samples.add(ids(range(n_rows)), [f"{row}.png" for row in range(n_rows)])
            for name in backbones:
                cache.ensure_embeddings(name, fingerprint, dim=dim, dtype=dtype, provenance={"device": "cpu"})
        return path

    return make


@pytest.fixture
def fail_fsync(monkeypatch: pytest.MonkeyPatch) -> FailFsync:
    """Make the n-th fsync, counted from one, fail as it does on a full disk, and those before do nothing."""

    @contextmanager
    def fail(at: int) -> Iterator[None]:
        calls = 0

        def fsync(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            yield

    return fail


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Run a script in a process of its own, with its stdout to read; killed at the end of the test."""
    children: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
