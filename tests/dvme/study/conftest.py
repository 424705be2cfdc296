"""A small study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard

from dvme.stats.influence import Scored
from dvme.stats.units import Units
from dvme.study.design.options import SubsetOptions

N = 150
PER_CLASS = 16


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


@pytest.fixture(scope="session")
def make_scored() -> Callable[..., Scored]:
    """An AUC on 16 images of each of two classes.

    Its images' parts follow one row of Hadamard's matrix, of which any two are orthogonal. So the variance of a
    difference of two patterns is the sum of both squared errors, with 2 * 15 = 30 degrees of freedom.
    """

    def make(mean: float, error: float, pattern: int, *, n_second: int = PER_CLASS, n_folds: int = 2) -> Scored:
        rows = np.r_[0:PER_CLASS, 0:n_second]
        units = Units(np.repeat([0, 1], [PER_CLASS, n_second]))
        part = hadamard(PER_CLASS)[pattern, rows] * error * np.sqrt((PER_CLASS - 1) / (2 * PER_CLASS**2))
        return Scored("auc", np.full(n_folds, mean), np.tile(part[:, None], n_folds), units)

    return make
