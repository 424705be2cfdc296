"""Mistakes and doubtful labels by hand, and against a slow version."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvme.report.mistakes import confident_mistakes, likely_wrong_labels


def test_confident_mistakes__by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.99, 0.01], [0.7, 0.3]])
    labels = np.array([0, 0, 0, 1, 1])
    assert confident_mistakes(labels, probabilities).tolist() == [3, 1, 4, 2]


def test_likely_wrong_labels__by_hand() -> None:
    """Thresholds are 0.5 for class 0, of 0.9, 0.8, 0.7 and -0.4 less, and 0.7 for class 1."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # class 0: (0.9 + 0.8 + 0.1) / 3 = 0.6; class 1: (0.8 + 0.5 + 0.7) / 3 = 0.667. Image 2 reaches class 1 only;
    # image 4 reaches neither.
    assert likely_wrong_labels(labels, probabilities).tolist() == [2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 5))
def test_likely_wrong_labels__against_a_slow_version(seed: int, n: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(n_classes), n)
    labels = rng.integers(0, n_classes, n)
    expected = []
    for i in range(n):
        reached = {}
        for c in range(n_classes):
            own = [probabilities[j, c] for j in range(n) if labels[j] == c]
            if own and probabilities[i, c] >= np.mean(own):
                reached[c] = probabilities[i, c]
        if reached and (likely := max(reached, key=lambda c: reached[c])) != labels[i]:
            others = [probabilities[i, c] for c in range(n_classes) if c != labels[i]]
            expected.append((probabilities[i, labels[i]] - max(others), i, likely))
    assert likely_wrong_labels(labels, probabilities).tolist() == [i for _, i, _ in sorted(expected)]
