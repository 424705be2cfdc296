"""Mistakes by hand."""

from __future__ import annotations

import numpy as np

from dvme.study.mistakes import confident_mistakes


def test_confident_mistakes__by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.99, 0.01], [0.7, 0.3]])
    labels = np.array([0, 0, 0, 1, 1])
    assert confident_mistakes(labels, probabilities).tolist() == [3, 1, 4, 2]
