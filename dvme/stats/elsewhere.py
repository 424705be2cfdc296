"""What scores would be on other test images and with other draws of training images: many methods at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.stats.influence import Scored, covariance
from dvme.stats.intervals import ROUNDING

N_DRAWS = 2000


def elsewhere(cells: Sequence[Scored], shared_rows: Sequence[float], *, seed: int = 0) -> NDArray[Any]:
    """Draws of the mean scores over heads, with the covariance that test images and training images give them.

    The covariance is put together as the variance of `crossed` is: what test images give two heads in common, the
    folds' spread, and what of the spread is no test noise once more for the training rows that folds share. The draws
    are of multivariate t, with as few degrees of freedom as the most uncertain of the variances has by `crossed`.

    Args:
        cells: n scores on one test set, over the same J folds.
        shared_rows: (n,) of two folds, see `crossed`.
        seed: of the draws.

    Returns:
        (R, n); nan where a class has too few units.
    """
    means, units = np.array([cell.estimate for cell in cells]), cells[0].units
    total = covariance(units, np.stack([cell.parts.mean(axis=1) for cell in cells], axis=1))
    n_folds = len(cells[0].folds)
    df = np.array([cell.test_df for cell in cells])
    if n_folds > 1:
        own = np.mean([covariance(units, np.stack([c.parts[:, j] for c in cells], axis=1)) for j in range(n_folds)], 0)
        common = (n_folds * total - own) / (n_folds - 1)
        away = np.stack([cell.folds - cell.estimate for cell in cells])  # (n, J)
        spread = away @ away.T / (n_folds - 1)
        wider = np.sqrt(np.asarray(shared_rows) / (1.0 - np.asarray(shared_rows)))
        training = spread / n_folds + np.outer(wider, wider) * _positive(spread - _positive(own - common))
        total = common + training
        shares = np.clip(np.diag(training) / np.maximum(np.diag(total), ROUNDING**2), 0.0, 1.0)
        df = 1.0 / (shares / (n_folds - 1) + (1.0 - shares) / df)
    if np.isnan(total).any() or np.isnan(means).any():
        return np.full((N_DRAWS, len(cells)), np.nan)
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(total)
    normal = rng.standard_normal((N_DRAWS, len(cells))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    fewest = float(df.min())
    drawn: NDArray[Any] = means + normal / np.sqrt(rng.chisquare(fewest, (N_DRAWS, 1)) / fewest)
    return drawn


def _positive(matrix: NDArray[Any]) -> NDArray[Any]:
    """A symmetric matrix without its negative part."""
    if np.isnan(matrix).any():
        return matrix
    values, vectors = np.linalg.eigh(matrix)
    positive: NDArray[Any] = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return positive
