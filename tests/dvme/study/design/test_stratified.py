"""Stratified folds against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from dvme.study.design.stratified import stratified_folds


@pytest.mark.parametrize("seed", range(25))
def test_stratified_folds__are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_classes, n_folds = int(rng.integers(1, 7)), int(rng.integers(2, 9))
    sizes = rng.integers(n_folds, 60, size=n_classes)
    labels = rng.permutation(np.repeat(rng.permutation(20)[:n_classes], sizes))
    expected = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels)):
        expected[held_out] = fold
    np.testing.assert_array_equal(stratified_folds(labels, n_folds, seed), expected)


def test_stratified_folds__by_hand() -> None:
    """Seven rows of one class and three of another in three folds: 3, 2, 2 and 1, 1, 1 by dealing in turn."""
    folds = stratified_folds(np.array([0] * 7 + [1] * 3), 3, seed=5)
    assert np.bincount(folds[:7]).tolist() == [3, 2, 2]
    assert sorted(folds[7:].tolist()) == [0, 1, 2]
