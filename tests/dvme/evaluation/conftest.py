"""Scores whose standard error is known without any computation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.linalg import hadamard

from dvme.stats.influence import Scored
from dvme.stats.units import Units

PER_CLASS = 16


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
