"""A small cache with everything that a row can be: done, failed, pending, pruned, without a label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import once
import pytest
from numpy.typing import NDArray

from dvme_cache import EmbeddingCache, Fingerprint

N, FAILED, PRUNED, UNLABELLED = 20, 3, 7, 11
LABELS = ["" if image == UNLABELLED else ("low", "middle", "high")[image % 3] for image in range(N)]
SPLITS = ["test" if image % 4 == 0 else "train" for image in range(N)]
Write = Callable[..., Path]


def values_of(view: int = 0, dim: int = 4) -> NDArray[np.float32]:
    """(N, D) by which image, view and place can be told; the failed one is nan."""
    values = 100.0 * view + np.arange(N)[:, None] + np.arange(dim) / 8
    values[FAILED] = np.nan
    return values.astype(np.float32)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, write_embeddings: Write) -> Path:
    """`a` in three views, `b` of half precision, and `late`, of which nothing is extracted. To be read only."""
    embeddings: dict[str, NDArray[Any]] = {"a": values_of(), "a@view=1": values_of(1), "a@view=2": values_of(2)}
    embeddings["b"] = np.nan_to_num(values_of(dim=3)).astype(np.float16)
    columns = {"label": LABELS, "split": SPLITS, "group": [f"p{image // 2}" for image in range(N)]}
    target = tmp_path_factory.mktemp("dataset") / "c.zarr"
    path = write_embeddings(target, embeddings, age=[str(20 + image) for image in range(N)], **columns)
    with EmbeddingCache.writing(path) as store:
        store.ensure_embeddings("late", Fingerprint({"weights": "late"}), dim=2, dtype="float32", provenance={})
        store.prune(np.array([PRUNED]))
    return path


@pytest.fixture
def cache(written: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return once.linked(written, tmp_path / "c.zarr")


@pytest.fixture
def left() -> list[int]:
    """Images that are not pruned."""
    return [image for image in range(N) if image != PRUNED]
