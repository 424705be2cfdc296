from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from dvme.evaluation.bootstrap import Interval, percentile_interval, resample_weights, resampled_auc


def test_resample_weights__stratified_draws_keep_every_class_count() -> None:
    labels = np.array([0] * 30 + [1] * 5 + [2])
    weights = resample_weights(labels, None, seed=0, n_resamples=200)
    for c, count in ((0, 30), (1, 5), (2, 1)):
        np.testing.assert_array_equal(weights[:, labels == c].sum(1), count)
    assert weights[:, :30].std() > 0.5


def test_resample_weights__groups_are_drawn_whole() -> None:
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    weights = resample_weights(np.array([0, 1, 0, 1, 0, 1]), groups, seed=0, n_resamples=100)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    np.testing.assert_array_equal(weights[:, [0, 2, 3]].sum(1), 3)


def test_resample_weights__same_seed_same_draws() -> None:
    labels = np.arange(20) % 2
    one, other = (resample_weights(labels, None, seed=7, n_resamples=5) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_resampled_auc__interval_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    scores = labels + 1.5 * rng.normal(size=120)
    low, high = scores.min(), scores.max()
    second = (scores - low) / (high - low)
    weights = resample_weights(labels, None, seed=1, n_resamples=4000)
    ours = percentile_interval(0.0, resampled_auc(labels, [np.stack([1 - second, second], 1)], weights))
    positives, negatives = scores[labels == 1], scores[labels == 0]

    def area(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        assert axis == -1
        return (x[..., :, None] > y[..., None, :]).mean((-1, -2))

    peer = bootstrap((positives, negatives), area, method="percentile", n_resamples=4000, rng=0, batch=100)
    assert ours.low == pytest.approx(peer.confidence_interval.low, abs=0.01)
    assert ours.high == pytest.approx(peer.confidence_interval.high, abs=0.01)
    assert ours.low < roc_auc_score(labels, scores) < ours.high


def test_resampled_auc__mean_over_folds_and_classes() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(30) % 3
    folds = [rng.dirichlet(np.ones(3), 30) for _ in range(2)]
    expected = np.mean([roc_auc_score(labels, p, multi_class="ovr", average="macro") for p in folds])
    assert resampled_auc(labels, folds, np.ones((1, 30)))[0] == pytest.approx(expected)


def test_percentile_interval__hand_worked_and_undefined() -> None:
    interval = percentile_interval(0.5, np.r_[np.linspace(0, 1, 101), np.nan])
    assert (interval.low, interval.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert np.isnan(percentile_interval(0.5, np.array([np.nan])).low)


def test_interval__includes_zero() -> None:
    assert Interval(0.1, -0.1, 0.3).includes_zero
    assert not Interval(0.2, 0.1, 0.3).includes_zero
