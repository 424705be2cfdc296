"""Counts against scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix

from dvme.metrics.confusion import count_confusion


def test_count_confusion__as_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 3, 200), rng.dirichlet(np.ones(4), 200)  # no image is of the fourth class
    found = count_confusion(labels, p, ["a", "b", "c", "d"])
    assert np.array(found.counts).tolist() == confusion_matrix(labels, p.argmax(axis=1), labels=range(4)).tolist()
    assert found.accuracy == accuracy_score(labels, p.argmax(axis=1))


def test_count_confusion__images_that_cannot_count_and_none() -> None:
    p = np.array([[0.9, 0.1], [np.nan, 0.5], [0.3, 0.7], [0.2, 0.8]])
    found = count_confusion(np.array([0, 0, -1, 0]), p, ["a", "b"])
    assert (found.n_images, found.n_left_out, found.accuracy, found.counts) == (2, 2, 0.5, ((1, 1), (0, 0)))
    found = count_confusion(np.array([-1]), p[:1], ["a", "b"])
    assert np.isnan(found.accuracy)
    assert found.counts == ((0, 0), (0, 0))
