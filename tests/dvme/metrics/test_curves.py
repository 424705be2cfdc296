"""Curves against scikit-learn on probabilities, and against a slow walk over the thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from dvme.metrics.curves import GRID, precision_recall, roc

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 400)
SCORES = RNG.normal(size=(400, 3)).round(1)  # with ties
SCORES[np.arange(400), LABELS] += 1.0
P = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
NAMES = ["a", "b", "c"]


def _walked(is_positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(true, false) positives at or above each distinct score, the highest first."""
    thresholds = sorted(set(scores.tolist()), reverse=True)
    return [
        (
            sum(is_positive[i] for i in range(len(scores)) if scores[i] >= t),
            sum(not is_positive[i] for i in range(len(scores)) if scores[i] >= t),
        )
        for t in thresholds
    ]


def test_roc__areas_are_scikit_learns_and_points_are_thresholds() -> None:
    found = roc(LABELS, SCORES, NAMES)
    assert [(each.index, each.name) for each in found.curves] == list(enumerate(NAMES))
    for c, each in enumerate(found.curves):
        is_positive = np.equal(LABELS, c)
        assert each.area == pytest.approx(roc_auc_score(is_positive, SCORES[:, c]), abs=1e-12)
        assert auc(each.x, each.y) == pytest.approx(each.area, abs=1e-12)  # all corners are there
        n = int(is_positive.sum())
        known = {(false / (400 - n), true / n) for true, false in [(0, 0), *_walked(is_positive, SCORES[:, c])]}
        assert set(zip(each.x, each.y, strict=True)) <= known
    assert found.mean_area == pytest.approx(np.mean([each.area for each in found.curves]))
    loose = RNG.dirichlet(np.ones(3), 400)  # without ties
    expected = roc_auc_score(LABELS, loose, multi_class="ovr")
    assert roc(LABELS, loose, NAMES).mean_area == pytest.approx(expected, abs=1e-12)


def test_precision_recall__areas_are_scikit_learns_and_steps_are_thresholds() -> None:
    for c, each in enumerate(precision_recall(LABELS, SCORES, NAMES).curves):
        is_positive = np.equal(LABELS, c)
        assert each.area == pytest.approx(average_precision_score(is_positive, SCORES[:, c]), abs=1e-12)
        assert auc(each.x, each.y) == pytest.approx(each.area, abs=1e-12)  # the drawn steps enclose what is said
        n = int(is_positive.sum())
        known = {(true / n, true / (true + false)) for true, false in _walked(is_positive, SCORES[:, c])}
        assert set(zip(each.x[1::2], each.y[1::2], strict=True)) <= known


def test_curves__by_hand() -> None:
    """Scores 0.9, 0.8, 0.7, 0.6, of which the second and the fourth are positive; the other column decides nothing."""
    p = np.array([0.9, 0.8, 0.7, 0.6])
    labels, p = np.array([0, 1, 0, 1]), np.stack([1 - p, p], axis=1)
    (curve,) = precision_recall(labels, p, ["no", "yes"]).curves
    assert (curve.name, curve.area) == ("yes", 0.5)
    assert (curve.x, curve.y) == ((0.0, 0.5, 0.5, 1.0), (0.5, 0.5, 0.5, 0.5))
    (curve,) = roc(labels, p, ["no", "yes"]).curves
    assert (curve.x, curve.y, curve.area) == ((0.0, 0.5, 0.5, 1.0, 1.0), (0.0, 0.0, 0.5, 0.5, 1.0), 0.25)


def test_curves__all_tied_is_the_diagonal_and_the_share_of_positives() -> None:
    labels, p = np.array([0, 1, 0, 0]), np.full((4, 2), 0.5)
    (curve,) = roc(labels, p, ["no", "yes"]).curves
    assert (curve.x, curve.y, curve.area) == ((0.0, 1.0), (0.0, 1.0), 0.5)
    (curve,) = precision_recall(labels, p, ["no", "yes"]).curves
    assert (curve.x, curve.y, curve.area) == ((0.0, 1.0), (0.25, 0.25), 0.25)


def test_curves__certain_probabilities() -> None:
    """Of 1 and 0 the logarithm is infinite; the order is not."""
    labels, p = np.array([0, 0, 1, 1]), np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
    for kind in (roc, precision_recall):
        (curve,) = kind(labels, p, ["no", "yes"]).curves
        assert curve.area == 1.0


@pytest.mark.parametrize("n_classes", [2, 3])
def test_curves__classes_that_all_or_none_have(n_classes: int) -> None:
    p = np.full((4, n_classes), 1.0 / n_classes)
    labels, names = np.full(4, 1), NAMES[:n_classes]
    found = roc(labels, p, names)
    assert (found.curves, found.n_undefined, found.mean) == ((), 1 if n_classes == 2 else 3, ())
    assert np.isnan(found.mean_area)
    found = precision_recall(labels, p, names)  # precision among images of one class is 1
    assert [(each.name, each.area) for each in found.curves] == [("b", 1.0)]


def test_curves__a_class_of_one_image_and_one_of_none() -> None:
    labels = np.array([0, 0, 0, 1])
    p = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.4, 0.5, 0.1], [0.5, 0.4, 0.1]])
    found = roc(labels, p, NAMES)
    assert [each.name for each in found.curves] == ["a", "b"]
    assert [each.area for each in found.curves] == pytest.approx([2 / 3, 2 / 3])
    assert found.n_undefined == 1
    found = precision_recall(labels, p, NAMES)
    assert found.curves[1].area == 0.5  # one image is above the one


def test_curves__images_without_a_label_or_a_finite_probability() -> None:
    p, labels = P.copy(), LABELS.copy()
    p[0, 1], p[1, 0], labels[2] = np.nan, np.inf, -1
    for kind in (roc, precision_recall):
        found, rest = kind(labels, p, NAMES), kind(LABELS[3:], P[3:], NAMES)
        assert (found.n_images, found.n_left_out) == (397, 3)
        assert (found.curves, found.mean) == (rest.curves, rest.mean)
        none = kind(labels[:3], p[:3], NAMES)
        assert (none.n_images, none.n_left_out, none.curves) == (0, 3, ())


def test_curves__fewer_points_of_many_look_the_same() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 50_000)
    score = rng.beta(2, 2, 50_000) * 0.7 + 0.3 * labels
    score[score < 0.5] = 0.4  # a jump across many images
    p = np.stack([1 - score, score], axis=1)
    (curve,) = roc(labels, p, ["no", "yes"]).curves
    assert len(curve.x) <= 500
    walked = np.array([[((score >= t) & (labels == c)).sum() for c in (0, 1)] for t in np.quantile(score, GRID)])
    x, y = (walked / np.bincount(labels)).T
    # Kept points are 2 / 500 apart, across and up together, but where the curve is straight.
    np.testing.assert_allclose(np.interp(x + y, np.add(curve.x, curve.y), curve.x), x, atol=0.004)
    (curve,) = precision_recall(labels, p, ["no", "yes"]).curves
    assert len(curve.x) <= 1_000
    assert auc(curve.x, curve.y) == pytest.approx(average_precision_score(labels, score), abs=2e-3)


def test_curves__of_many_classes_fewer_points_of_each() -> None:
    rng = np.random.default_rng(2)
    found = roc(rng.integers(0, 40, 4_000), rng.dirichlet(np.ones(40), 4_000), [str(c) for c in range(40)])
    assert {len(each.x) for each in found.curves} <= set(range(100, 126))


def test_roc__mean_by_hand() -> None:
    """Nine classes ranked perfectly and one at random: tied scores make the diagonal."""
    labels = np.arange(10).repeat(4)
    p = np.eye(10)[labels]
    p[:, 9] = 0.5
    found = roc(labels, p, [str(index) for index in range(10)])
    np.testing.assert_allclose(found.mean, 0.9 + 0.1 * GRID)
    assert found.mean_area == pytest.approx(0.95)
