from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from dvme.metrics import weighting
from dvme.metrics.classification import METRICS, score
from dvme.stats import resampling
from dvme.stats.draws import draw, jackknife_weights, resample_weights
from dvme.stats.intervals import acceleration, bca_interval, percentile_interval
from dvme.stats.resampling import fold_scores, resample, resampled_scores


def _binary(second: np.ndarray) -> np.ndarray:
    return np.stack([1 - second, second], 1)


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


def test_jackknife_weights__leave_out_one_sample_each_but_never_a_whole_class() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    weights, strata = jackknife_weights(labels, None, seed=0)
    left_out = sorted(np.flatnonzero(row == 0).tolist() for row in weights)
    assert left_out == [[0], [1], [2], [3], [4]]
    assert sorted(strata.tolist()) == [0, 0, 0, 1, 1]
    for row, stratum in zip(weights, strata, strict=True):
        assert labels[row == 0] == [stratum]


def test_jackknife_weights__groups_are_left_out_whole() -> None:
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    weights, strata = jackknife_weights(np.array([0, 1, 0, 1, 0, 1]), groups, seed=0)
    left_out = sorted(np.flatnonzero(row == 0).tolist() for row in weights)
    assert left_out == [[0, 1], [2], [3, 4, 5]]
    assert set(strata.tolist()) == {0}


def test_jackknife_weights__many_units_are_left_out_in_blocks_within_their_class() -> None:
    labels = np.repeat([0, 1, 2], [700, 290, 10])
    weights, strata = jackknife_weights(labels, None, seed=0, n_blocks=100)
    assert np.bincount(strata).tolist() == [100, 100, 10]  # a rare class keeps its units
    for row, stratum in zip(weights, strata, strict=True):
        assert set(labels[row == 0]) == {stratum}
    np.testing.assert_array_equal((weights == 0).sum(0), 1)
    np.testing.assert_array_equal((weights == 0).sum(1), np.repeat([7, 3, 2, 1], [100, 90, 10, 10]))


def _weighted_peers(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    classes = [1] if n_classes == 2 else range(n_classes)
    areas = [roc_auc_score(labels == c, probabilities[:, c], sample_weight=weight) for c in classes]
    return {
        "auc": float(np.mean(areas)),
        "accuracy": accuracy_score(labels, predicted, sample_weight=weight),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted, sample_weight=weight),
        "kappa": cohen_kappa_score(
            labels, predicted, labels=range(n_classes), weights="quadratic", sample_weight=weight
        ),
    }


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("pairs", [0, 1 << 20])
def test_resampled_scores__same_as_scikit_learn(n_classes: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "PAIRS", pairs)
    monkeypatch.setattr(weighting, "BLOCK_VALUES", 150)  # several blocks
    rng = np.random.default_rng(n_classes)
    labels = rng.permutation(np.arange(60) % n_classes)
    folds = [np.round(rng.dirichlet(np.ones(n_classes), 60), 1) for _ in range(3)]  # with ties
    weights = resample_weights(labels, None, seed=0, n_resamples=7)
    peers = [[_weighted_peers(labels, fold, weight) for fold in folds] for weight in weights]
    each, mean = fold_scores(labels, folds, weights), resampled_scores(labels, folds, weights)
    assert tuple(each) == tuple(mean) == METRICS
    for metric in METRICS:
        expected = np.array([[fold[metric] for fold in row] for row in peers])
        np.testing.assert_allclose(each[metric], expected)
        np.testing.assert_allclose(mean[metric], expected.mean(1))


@pytest.mark.parametrize("labels", [[0, 0, 2, 1, 0, 1], [0, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0]])
def test_fold_scores__counted_once_are_the_metrics_of_the_table(labels: list[int]) -> None:
    """Also where the labels lack a class."""
    rng = np.random.default_rng(0)
    folds = [rng.dirichlet(np.ones(3), 6) for _ in range(2)]
    found = fold_scores(np.array(labels), folds, np.ones((1, 6)))
    for j, fold in enumerate(folds):
        for metric, expected in score(np.array(labels), fold).items():
            assert found[metric][0, j] == pytest.approx(expected, nan_ok=True)


def test_resampled_scores__a_class_that_is_gone_leaves_nothing_to_estimate() -> None:
    labels = np.array([0, 0, 1, 2, 2])
    fold = np.eye(3)[[0, 1, 1, 2, 2]]
    scores = resampled_scores(labels, [fold], np.array([[1, 1, 0, 2, 1], [1, 1, 1, 1, 1]]))
    assert np.isnan(scores["auc"]).tolist() == [True, False]
    assert np.isnan(scores["balanced_accuracy"]).tolist() == [True, False]
    assert scores["accuracy"].tolist() == pytest.approx([4 / 5, 4 / 5])


def test_resampled_scores__kappa_without_chance_is_undefined() -> None:
    labels, fold = np.array([0, 0, 1]), np.eye(2)[[0, 0, 1]]
    scores = resampled_scores(labels, [fold], np.array([[2, 1, 0], [1, 1, 1]]))
    assert np.isnan(scores["kappa"]).tolist() == [True, False]
    assert scores["kappa"][1] == 1.0


def test_resampled_scores__asked_for_and_in_that_order() -> None:
    labels, fold = np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]]
    assert list(resampled_scores(labels, [fold], np.ones((2, 3)), ["kappa", "auc"])) == ["kappa", "auc"]
    assert resampled_scores(labels, [fold], np.empty((0, 3)))["auc"].shape == (0,)


def test_resampled_scores__interval_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    scores = labels + 1.5 * rng.normal(size=120)
    second = (scores - scores.min()) / np.ptp(scores)
    weights = resample_weights(labels, None, seed=1, n_resamples=4000)
    ours = percentile_interval(0.0, resampled_scores(labels, [_binary(second)], weights)["auc"])
    ours_bca = resample(labels, [_binary(second)], draw(labels, seed=1, n_resamples=4000))["auc"].bca_interval()

    def area(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        assert axis == -1
        return (x[..., :, None] > y[..., None, :]).mean((-1, -2))

    samples = (scores[labels == 1], scores[labels == 0])
    for method, interval in (("percentile", ours), ("BCa", ours_bca)):
        peer = bootstrap(samples, area, method=method, n_resamples=4000, rng=0, batch=100).confidence_interval
        assert interval.low == pytest.approx(peer.low, abs=0.01)
        assert interval.high == pytest.approx(peer.high, abs=0.01)
    assert ours.low < roc_auc_score(labels, scores) < ours.high


def test_resample__resamples_of_a_perfect_method_have_no_interval() -> None:
    labels = np.arange(40) % 2
    perfect = resample(labels, [_binary(labels * 0.8)] * 3, draw(labels, seed=0, n_resamples=50))
    for metric in METRICS:
        interval = perfect[metric].bca_interval()
        assert interval.estimate == pytest.approx(1.0)
        assert np.isnan([interval.low, interval.high]).all()


def test_resample__is_one_unit_at_a_time_and_paired() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    methods = [[rng.dirichlet(np.ones(3), 30) for _ in range(2)] for _ in range(2)]
    draws = draw(labels, seed=0, n_resamples=20)
    one, other = (resample(labels, folds, draws, ["kappa"])["kappa"] for folds in methods)
    gap = one - other
    assert gap.estimate == pytest.approx(one.estimate - other.estimate)
    np.testing.assert_allclose(gap.folds, one.folds - other.folds)
    np.testing.assert_allclose(gap.resampled, one.resampled - other.resampled)
    weights, strata = draws.jackknife, draws.strata
    kept = [weight > 0 for weight in weights]
    left_out = [[[score(labels[k], fold[k])["kappa"] for fold in folds] for k in kept] for folds in methods]
    expected = np.subtract(*left_out).mean(axis=1)
    assert gap.acceleration == pytest.approx(acceleration(expected, strata))
    assert gap.bca_interval() == bca_interval(gap.estimate, gap.resampled, gap.acceleration)
    assert (gap.test_covariance.shape, gap.draws) == ((2, 2), draws)
    for others in (draw(labels, seed=0, n_resamples=10), draw(labels, seed=1, n_resamples=20)):
        with pytest.raises(ValueError, match="needs the same draws"):
            _ = one - resample(labels, methods[1], others, ["kappa"])["kappa"]


def test_draw__without_resamples_there_is_no_bootstrap() -> None:
    labels = np.array([0, 1, 0, 1])
    few = resample(labels, [_binary(np.array([0.1, 0.9, 0.6, 0.5]))], draw(labels, seed=0, n_resamples=0))["auc"]
    assert few.estimate == 0.75
    assert np.isnan(few.bca_interval().low)
