from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from dvme.heads.weighting import weighted_score


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_weighted_score__is_scikit_learns(n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % n_classes
    probabilities = rng.dirichlet(np.ones(n_classes), 60)
    probabilities[np.arange(60), labels] += 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights = rng.uniform(0.1, 3.0, 60)
    predicted = probabilities.argmax(axis=1)
    classes = [1] if n_classes == 2 else range(n_classes)
    areas = [roc_auc_score(labels == c, probabilities[:, c], sample_weight=weights) for c in classes]
    expected = {
        "auc": np.mean(areas),
        "accuracy": accuracy_score(labels, predicted, sample_weight=weights),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted, sample_weight=weights),
        "kappa": cohen_kappa_score(labels, predicted, weights="quadratic", sample_weight=weights),
    }
    for metric, value in expected.items():
        assert weighted_score(metric, labels, probabilities, weights) == pytest.approx(value, abs=1e-12)


def test_weighted_score__of_a_single_class() -> None:
    labels, probabilities, weights = np.zeros(3, dtype=int), np.tile([0.9, 0.1], (3, 1)), np.ones(3)
    assert np.isnan(weighted_score("auc", labels, probabilities, weights))
    assert np.isnan(weighted_score("kappa", labels, probabilities, weights))
    assert weighted_score("balanced_accuracy", labels, probabilities, weights) == 1.0
