"""Caches of a few rows, what they hold as plain values, and their bytes on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvme.errors import DvmeError
from dvme_cache import EmbeddingCache, Fingerprint, RowState, content_id
from dvme_cache.errors import CacheError

MakeCache = Callable[..., Path]


@pytest.fixture(autouse=True)
def write_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk, and texts in chunks of a quarter of a million rows, which these caches do not have."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for module in ("samples", "tables"):
        monkeypatch.setattr(f"dvme_cache.{module}.ROWS_PER_SAMPLE_CHUNK", 4096)


@pytest.fixture
def make_cache(tmp_path: Path) -> MakeCache:
    """A cache of numbered images; the last shard of every backbone is pending, and the fourth row failed."""

    def make(
        numbers: range = range(200),
        *,
        name: str = "data.zarr",
        backbones: dict[str, tuple[int, str]] | None = None,
        root: Path = Path("/data"),
    ) -> Path:
        path = tmp_path / name
        names = [f"{number}.png" for number in numbers]
        with EmbeddingCache.writing(path) as cache:
            rows = cache.samples.add([content_id(b"image %d" % number) for number in numbers], names)
            labels = ["a", 'b, "c"\n', "ü"]
            cache.update_columns(
                rows,
                {
                    "path": [os.path.realpath(root / image) for image in names],
                    "label": [labels[number % 3] for number in numbers],
                    "split": ["test" if number % 5 == 0 else "" for number in numbers],
                },
            )
            for backbone, (dim, dtype) in (backbones or {"dino": (4, "float16"), "timm:a/b": (3, "float32")}).items():
                embeddings = cache.ensure_embeddings(
                    backbone, Fingerprint({"weights": backbone}), dim=dim, dtype=dtype, provenance={"created": "today"}
                )
                for shard in list(embeddings.pending_shards())[:-1]:
                    features = np.array([[1 + row + axis / 7 for axis in range(dim)] for row in shard], dtype=dtype)
                    reasons = {3: "not an image, or torn"} if 3 in shard else {}
                    embeddings.commit(shard, features, reasons)
        return path

    return make


@pytest.fixture
def contents() -> Callable[[Path], dict[str, Any]]:
    """Everything that a cache holds, as plain values."""

    def plain(path: Path) -> dict[str, Any]:
        cache = EmbeddingCache.open(path)
        backbones = {}
        for name in cache.backbones:
            embeddings = cache.embeddings(name)
            states = embeddings.states()
            features = embeddings.read(np.flatnonzero(states == RowState.DONE))
            backbones[name] = (
                embeddings.dim,
                embeddings.dtype,
                embeddings.fingerprint.fields,
                states.tolist(),
                embeddings.reasons().tolist(),
                features.tobytes(),
            )
        return {
            "content_ids": cache.samples.content_ids,
            "paths": cache.samples.paths,
            "columns": {name: cache.column(name).tolist() for name in cache.tables.columns},
            "backbones": backbones,
        }

    return plain


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., Any]:
    """Expect one readable line, and every file on disk exactly as it was."""

    @contextmanager
    def expect(*parts: str) -> Iterator[None]:
        before = _files(tmp_path)
        with pytest.raises((DvmeError, CacheError)) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        for part in parts:
            assert part in message
        assert _files(tmp_path) == before

    return expect


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
