from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from dvme.metrics.classification import (
    METRICS,
    log_odds,
    macro_auc,
    score,
)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 100_000), n_classes=st.integers(2, 6), spread=st.sampled_from([0.1, 3.0, 60.0]))
def test_log_odds__of_exact_fractions(seed: int, n_classes: int, spread: float) -> None:
    """In four hundred digits: log p_c - log of the sum of the others."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, n_classes)) * spread
    with localcontext() as context:
        context.prec = 400
        powers = [[Decimal(value).exp() for value in row] for row in logits.tolist()]
        logs = [[float((each / sum(row)).ln()) for each in row] for row in powers]
        expected = [[float((each / (sum(row) - each)).ln()) for each in row] for row in powers]
    odds = log_odds(np.array(logs))
    np.testing.assert_allclose(odds, expected, rtol=1e-9, atol=1e-9)
    assert (odds.argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_log_odds__of_certainty(n_classes: int) -> None:
    with np.errstate(divide="ignore"):
        logs = np.log(np.eye(n_classes))
    np.testing.assert_array_equal(log_odds(logs), np.where(np.eye(n_classes), np.inf, -np.inf))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_score__ranks_what_is_certain_in_float32(n_classes: int) -> None:
    """Logits of about 36: every probability is 1 to the last bit of float32, and half of them to that of float64."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    wide = np.where(labels, 38.0, 34.0) + rng.normal(size=200) * 4
    logits = np.zeros((200, n_classes))
    logits[:, 1] = wide
    logs = (logits - np.logaddexp.reduce(logits, axis=1)[:, None]).astype(np.float32)
    assert (np.exp(logs[:, 1]) == 1).all()
    problem = roc_auc_score(labels, wide)
    found = score(labels, log_odds(logs))["auc"]
    # of three classes the third never occurs, and class 0 is ranked by the same odds, downwards
    assert found == pytest.approx(problem, abs=1e-12)


def test_macro_auc__multiclass_as_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 100)
    probabilities = rng.dirichlet(np.ones(4), 100)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert macro_auc(labels, probabilities) == pytest.approx(expected)


def test_macro_auc__binary_uses_the_second_class() -> None:
    labels = np.array([0, 1, 1, 0])
    second = np.array([0.1, 0.9, 0.3, 0.6])
    assert macro_auc(labels, np.stack([1 - second, second], 1)) == pytest.approx(roc_auc_score(labels, second))


def test_macro_auc__absent_class_is_passed_over_and_single_class_is_undefined() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert macro_auc(np.array([0, 1, 0]), probabilities) == 1.0
    assert np.isnan(macro_auc(np.array([0, 0, 0]), probabilities))


def test_score__has_every_metric() -> None:
    assert tuple(score(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))) == METRICS


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_score__weighted_as_scikit_learn(n_classes: int, seed: int) -> None:
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
        assert score(labels, probabilities, weights)[metric] == pytest.approx(value, abs=1e-12)


def test_score__weighted_of_a_single_class() -> None:
    labels, probabilities, weights = np.zeros(3, dtype=int), np.tile([0.9, 0.1], (3, 1)), np.ones(3)
    assert np.isnan(score(labels, probabilities, weights)["auc"])
    assert np.isnan(score(labels, probabilities, weights)["kappa"])
    assert score(labels, probabilities, weights)["balanced_accuracy"] == 1.0


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 100_000), spread=st.sampled_from([0.1, 3.0, 60.0, 300.0]))
def test_log_odds__of_independent_labels(seed: int, spread: float) -> None:
    """In four hundred digits, from the logarithms alone."""
    logits = np.random.default_rng(seed).normal(size=(5, 2)) * spread
    with localcontext() as context:
        context.prec = 400
        shares = [[1 / (1 + (-Decimal(value)).exp()) for value in row] for row in logits.tolist()]
        logs = np.array([[float(share.ln()) for share in row] for row in shares])
    np.testing.assert_allclose(log_odds(logs, is_multilabel=True), logits, rtol=1e-9, atol=1e-9)
    assert log_odds(np.array([[0.0, -np.inf]]), is_multilabel=True).tolist() == [[np.inf, -np.inf]]
