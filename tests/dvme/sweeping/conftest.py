"""A small study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.sampling.options import SubsetOptions

N = 150


@pytest.fixture(scope="session")
def labels() -> NDArray[Any]:
    return np.arange(N) % 3


@pytest.fixture(scope="session")
def features(labels: NDArray[Any], make_features: Callable[..., NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Two backbones, of which the first knows more."""
    return {"a": make_features(labels, 0.8, 0), "b": make_features(labels, 0.5, 1, dim=10)}


@pytest.fixture(scope="session")
def names(labels: NDArray[Any]) -> list[str]:
    return [str(label) for label in labels]


@pytest.fixture(scope="session")
def options() -> SubsetOptions:
    return SubsetOptions(sizes=("12", "40", "full"), n_folds=3)


@pytest.fixture(scope="session")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    features: dict[str, NDArray[Any]],
    names: list[str],
) -> Path:
    return write_embeddings(tmp_path_factory.mktemp("study") / "c.zarr", features, label=names)
