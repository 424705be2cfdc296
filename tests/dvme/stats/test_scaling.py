from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from dvme.stats.scaling import (
    FARTHEST,
    FEWEST_ROWS,
    HIGHEST,
    LOWEST,
    platt,
    temperature_of_classes,
    temperature_of_labels,
)


class _Given(ClassifierMixin, BaseEstimator):
    """Log odds as they are."""

    def __init__(self) -> None:
        self.classes_, self.n_features_in_ = np.array([0, 1]), 1

    def fit(self, *_: object) -> _Given:
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] > 0).astype(int)

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]


def _peer(z: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """scikit-learn's slope and intercept."""
    model = CalibratedClassifierCV(FrozenEstimator(_Given()), method="sigmoid", cv=2).fit(z[:, None], y)
    (fitted,) = model.calibrated_classifiers_
    return -fitted.calibrators[0].a_, -fitted.calibrators[0].b_


def _classes(rng: np.random.Generator, n: int, n_classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and the log probabilities made sharper."""
    honest = log_softmax(rng.normal(size=(n, n_classes)) * 1.5, axis=1)
    labels = np.array([rng.choice(n_classes, p=np.exp(row) / np.exp(row).sum()) for row in honest])
    return labels, log_softmax(sharpness * honest, axis=1)


def _loss(t: float, labels: np.ndarray, logs: np.ndarray, weights: np.ndarray | None = None) -> float:
    p = np.exp(log_softmax(logs / t, axis=1))
    return log_loss(labels, p, labels=np.arange(logs.shape[1]), sample_weight=weights)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_temperature_of_classes__is_the_one_that_was_put_in(n_classes: int, sharpness: float) -> None:
    labels, logs = _classes(np.random.default_rng(0), 6000, n_classes, sharpness)
    found = temperature_of_classes(labels, logs)
    assert found.value == pytest.approx(sharpness, rel=0.08)
    peer = minimize_scalar(
        lambda t: _loss(t, labels, logs), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}
    )
    assert found.value == pytest.approx(peer.x, rel=1e-5)
    assert found.reason == ""
    scaled = found.of_classes(logs)
    np.testing.assert_allclose(np.exp(scaled).sum(axis=1), 1.0)
    np.testing.assert_array_equal(scaled.argmax(axis=1), logs.argmax(axis=1))
    assert log_loss(labels, np.exp(scaled)) == pytest.approx(peer.fun)


def test_temperature_of_classes__weights_are_repetitions_and_rows_without_a_label_do_not_count() -> None:
    rng = np.random.default_rng(0)
    labels, logs = _classes(rng, 60, 3, 2.0)
    weights = rng.integers(0, 4, 60)
    found = temperature_of_classes(labels, logs, weights)
    again = temperature_of_classes(np.repeat(labels, weights), np.repeat(logs, weights, axis=0))
    assert found.value == pytest.approx(again.value, rel=1e-9)
    unlabelled = temperature_of_classes(
        np.r_[labels, [-1] * 5], np.r_[logs, rng.normal(size=(5, 3))], np.r_[weights, [9] * 5]
    )
    assert unlabelled == found


def test_temperature_of_labels__of_one_label_is_that_of_two_classes() -> None:
    labels, logs = _classes(np.random.default_rng(0), 300, 2, 2.0)
    odds = logs[:, 1] - logs[:, 0]
    found = temperature_of_labels(labels[:, None].astype(float), odds[:, None])
    assert found.value == pytest.approx(temperature_of_classes(labels, logs).value, rel=1e-9)
    np.testing.assert_allclose(expit(found.of_labels(odds[:, None])), np.exp(found.of_classes(logs))[:, 1:], rtol=1e-9)


def test_temperature_of_labels__takes_the_known_cells_of_all_labels() -> None:
    rng = np.random.default_rng(0)
    odds = 3.0 * rng.normal(size=(200, 4))
    truth = (rng.random((200, 4)) < expit(odds / 2.5)).astype(float)
    truth[rng.random((200, 4)) < 0.3] = np.nan
    weights = rng.uniform(0.2, 3.0, 200)
    known = ~np.isnan(truth)
    w = np.broadcast_to(weights[:, None], truth.shape)[known]
    peer = minimize_scalar(
        lambda t: log_loss(truth[known], expit(odds[known] / t), sample_weight=w),
        bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    assert temperature_of_labels(truth, odds, weights).value == pytest.approx(peer.x, rel=1e-5)


TEN = np.arange(10)
GOOD = np.where(TEN % 2, 2.0, -2.0) + 0.1 * TEN


@pytest.mark.parametrize(
    ("labels", "odds", "value", "reason"),
    [
        (TEN % 2, GOOD, 1.0, "every validation row is right"),
        (TEN * 0, GOOD, 1.0, "of one class"),
        (1 - TEN % 2, GOOD, 1.0, "no better than chance"),
        (TEN % 2, GOOD * 0, 1.0, "says the same of every class"),
        (TEN[:9] % 2, -GOOD[:9], 1.0, "9 known values in the validation rows; it takes 10"),
        (np.r_[TEN % 2, 0], 1e-3 * np.r_[GOOD, 1.0], LOWEST, "at the lower bound"),
        (np.r_[TEN % 2, [0] * 7], 25.0 * np.r_[GOOD / 2, [1.0] * 7], HIGHEST, "at the upper bound"),
        (TEN[:0], GOOD[:0], 1.0, "of one class"),
    ],
)  # fmt: skip
def test_temperature__of_degenerate_rows(labels: np.ndarray, odds: np.ndarray, value: float, reason: str) -> None:
    logs = log_softmax(np.stack([-odds / 2, odds / 2], axis=1), axis=1) if len(odds) else np.zeros((0, 2))
    found = temperature_of_classes(labels, logs)
    assert found.value == value
    assert reason in found.reason
    of_labels = temperature_of_labels(labels[:, None].astype(float), odds[:, None])
    assert of_labels.value == value
    assert of_labels.reason == found.reason or "of one value" in of_labels.reason


def test_temperature__probabilities_of_0_are_small_ones() -> None:
    labels, logs = _classes(np.random.default_rng(0), 400, 2, 2.0)
    logs[0, labels[0]], logs[0, 1 - labels[0]] = -np.inf, 0.0
    found = temperature_of_classes(labels, logs)
    assert np.isfinite(found.value)
    assert found.reason == ""
    scaled = found.of_classes(logs)
    assert np.isfinite(scaled).all()
    assert scaled[0, labels[0]] == pytest.approx(-FARTHEST / found.value - np.log1p(np.exp(-FARTHEST / found.value)))


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("n", [12, 300])
def test_platt__is_scikit_learns(n: int, is_weighted: bool) -> None:
    rng = np.random.default_rng(n)
    odds = 4.0 * rng.normal(size=(n, 3)) + 1.0
    truth = (rng.random((n, 3)) < expit(0.4 * odds - 1.0)).astype(float)
    truth[:2] = [[1.0] * 3, [0.0] * 3]
    weights = rng.integers(1, 4, n) if is_weighted else np.ones(n, dtype=int)
    found = platt(truth, odds, weights if is_weighted else None)
    for c in range(3):
        if not found.reasons[c]:
            peer = _peer(np.repeat(odds[:, c], weights), np.repeat(truth[:, c].astype(int), weights))
            np.testing.assert_allclose([found.slopes[c], found.intercepts[c]], peer, rtol=2e-3, atol=2e-3)
    assert "" in found.reasons
    np.testing.assert_allclose(found.of_labels(odds), found.slopes * odds + found.intercepts)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_platt__finds_the_line_that_was_put_in(sharpness: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 1)) * 1.5 - 1.0
    truth = (rng.random(honest.shape) < expit(honest)).astype(float)
    found = platt(truth, sharpness * honest + 2.0)
    assert found.slopes[0] == pytest.approx(1 / sharpness, rel=0.06)
    assert found.intercepts[0] == pytest.approx(-2.0 / sharpness, abs=0.1)


def test_platt__soft_values_and_masks_by_a_slow_minimisation() -> None:
    rng = np.random.default_rng(0)
    odds = 2.0 * rng.normal(size=(80, 1))
    truth = np.where(rng.random((80, 1)) < 0.2, 0.7, (rng.random((80, 1)) < expit(odds)).astype(float))
    truth[:15] = np.nan
    weights = rng.uniform(0.5, 2.0, 80)
    t, z, w = truth[15:, 0], odds[15:, 0], weights[15:]
    n_1, n_0 = (w * t).sum(), (w * (1 - t)).sum()
    target = t * (n_1 + 1) / (n_1 + 2) + (1 - t) / (n_0 + 2)

    def loss(line: np.ndarray) -> float:
        p = expit(line[0] * z + line[1])
        return -(w * (target * np.log(p) + (1 - target) * np.log1p(-p))).sum()

    peer = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
    found = platt(truth, odds, weights)
    np.testing.assert_allclose([found.slopes[0], found.intercepts[0]], peer, rtol=1e-5)


@pytest.mark.parametrize(
    ("truth", "odds", "reason"),
    [
        (TEN * 0, GOOD, "of one value"),
        (TEN % 2, GOOD * 0 + 3.0, "are equal"),
        (1 - TEN % 2, GOOD, "no better than chance"),
        (TEN[:9] % 2, GOOD[:9], "9 validation rows have a known value; it takes 10"),
        (TEN * np.nan, GOOD, "0 validation rows have a known value"),
    ],
)
def test_platt__leaves_degenerate_labels_as_they_are(truth: np.ndarray, odds: np.ndarray, reason: str) -> None:
    found = platt(truth[:, None].astype(float), odds[:, None])
    assert (found.slopes[0], found.intercepts[0]) == (1.0, 0.0)
    assert reason in found.reasons[0]


def test_platt__of_a_perfectly_told_label_is_finite() -> None:
    for odds in (GOOD, np.where(TEN % 2, np.inf, -np.inf)):
        found = platt((TEN % 2)[:, None].astype(float), odds[:, None])
        assert found.reasons == ("",)
        p = expit(found.of_labels(odds[:, None]))[:, 0]
        np.testing.assert_allclose(p.mean(), 0.5, atol=0.02)
        assert p.min() > 0.01  # targets are 1/7 and 6/7


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1e-6, 1.0, 1e3]), st.booleans())
def test_scaling__is_never_worse_and_always_finite(seed: int, n: int, scale: float, is_tied: bool) -> None:
    rng = np.random.default_rng(seed)
    odds = scale * rng.normal(size=(n, 2))
    odds = np.round(odds / scale) * scale if is_tied else odds
    truth = np.where(rng.random((n, 2)) < 0.2, np.nan, rng.integers(0, 2, (n, 2)).astype(float))
    weights = rng.integers(0, 3, n).astype(float)
    lines, one = platt(truth, odds, weights), temperature_of_labels(truth, odds, weights)
    assert np.isfinite(lines.slopes).all()
    assert np.isfinite(lines.intercepts).all()
    assert (lines.slopes > 0).all()
    assert LOWEST <= one.value <= HIGHEST
    known = ~np.isnan(truth) & (weights > 0)[:, None]

    def loss(z: np.ndarray) -> float:
        w = np.broadcast_to(weights[:, None], z.shape)[known]
        return (w * (np.logaddexp(0.0, z[known]) - truth[known] * z[known])).sum()

    before = loss(np.clip(odds, -FARTHEST, FARTHEST))
    assert loss(one.of_labels(odds)) <= before * (1 + 1e-9) + 1e-9


def test_scaling__shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"truth is \(3, 2\), log odds \(3, 1\); pass \(N, L\) of both"):
        platt(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"weights are \(2,\), and there are 3 rows"):
        temperature_of_labels(np.zeros((3, 2)), np.zeros((3, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"labels are \(3,\), log probabilities \(4, 2\)"):
        temperature_of_classes(np.zeros(3), np.zeros((4, 2)))
    assert FEWEST_ROWS == 10
