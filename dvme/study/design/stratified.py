"""Stratified folds, the same as those of scikit-learn, whose import takes longer than a small study."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def stratified_folds(labels: NDArray[Any], n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row: each class is spread over the folds as evenly as it can be.

    Args:
        labels: (N,) class indices; each class has at least `n_folds` rows.
        n_folds: at least 2.
        seed: of the order within a class.

    Returns:
        (N,) integers in [0, n_folds): the fold in which the row is held out.

    Source: `StratifiedKFold(n_folds, shuffle=True, random_state=seed)` of scikit-learn, draw by draw.
    """
    random = np.random.RandomState(seed)
    classes, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    by_appearance = np.argsort(np.argsort(first))[codes]
    dealt = np.sort(by_appearance)  # one class after the other, dealt to the folds in turn
    folds = np.empty(len(labels), dtype=np.int64)
    for index in range(len(classes)):
        shares = [np.count_nonzero(dealt[fold::n_folds] == index) for fold in range(n_folds)]
        own = np.repeat(np.arange(n_folds), shares)
        random.shuffle(own)
        folds[by_appearance == index] = own
    return folds
