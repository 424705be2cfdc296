from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from dvme.stats import delong, draw, resample
from dvme.stats.delong import auc_parts
from dvme.stats.draws import jackknife_weights
from dvme.stats.intervals import jackknife_covariance
from dvme.stats.resampling import fold_scores


def _kernel(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def _slow_delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """DeLong et al. 1988, pair by pair."""
    v10, v01, areas = [], [], []
    for score in (first, second):
        x, y = score[labels == 1], score[labels == 0]
        v10.append([np.mean([_kernel(a, b) for b in y]) for a in x])
        v01.append([np.mean([_kernel(a, b) for a in x]) for b in y])
        areas.append(float(np.mean(v10[-1])))
    covariance = np.cov(v10) / len(v10[0]) + np.cov(v01) / len(v01[0])
    contrast = np.array([1.0, -1.0])
    return areas[0], areas[1], float(contrast @ covariance @ contrast)


def _jackknife(labels: np.ndarray, one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Variance of the mean difference."""
    left_out, strata = jackknife_weights(labels, None, seed=0)
    gaps = [fold_scores(labels, heads, left_out, ["auc"])["auc"] for heads in (one, other)]
    return float(jackknife_covariance(gaps[0] - gaps[1], strata).mean())


def _folds(second: np.ndarray) -> list[np.ndarray]:
    return [np.stack([1 - second, second], 1)]


@pytest.mark.parametrize("seed", range(4))
def test_delong__binary_is_the_published_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(60) < 0.3).astype(int)
    first = np.round(labels + rng.normal(size=60), seed)  # with ties for small seeds
    second = np.round(0.5 * labels + 0.5 * first + rng.normal(size=60), seed)
    one, other, variance = _slow_delong(labels, first, second)
    found = delong(labels, _folds(first), _folds(second))
    assert (found.one, found.other) == pytest.approx((one, other))
    assert found.one == pytest.approx(roc_auc_score(labels, first))
    z = (one - other) / np.sqrt(variance)
    assert found.z == pytest.approx(z)
    assert found.p == pytest.approx(2 * norm.sf(abs(z)))
    assert found.difference.high == pytest.approx(one - other + norm.ppf(0.975) * np.sqrt(variance))


def test_delong__several_classes_and_heads_have_the_variance_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [50, 80, 120])
    signal = 1.2 * np.eye(3)[labels]
    shared = rng.normal(size=(250, 3))
    one, other = ([signal + shared + rng.normal(size=(250, 3)) * s for _ in range(2)] for s in (0.3, 1.0))
    found = delong(labels, one, other)
    for auc, heads in ((found.one, one), (found.other, other)):
        peers = [roc_auc_score(labels == c, head[:, c]) for head in heads for c in range(3)]
        assert auc == pytest.approx(np.mean(peers))
    draws = draw(labels, seed=0, n_resamples=4000)
    gap = resample(labels, one, draws, ["auc"])["auc"] - resample(labels, other, draws, ["auc"])["auc"]
    error = (found.difference.high - found.difference.low) / (2 * norm.ppf(0.975))
    assert error == pytest.approx(gap.resampled.std(), rel=0.05)
    # The jackknife agrees but for the mix of the other classes, which leaving out a sample changes.
    assert error == pytest.approx(np.sqrt(_jackknife(labels, one, other)), rel=5e-3)


def test_delong__of_two_classes_is_the_jackknife() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [30, 70])
    one, other = ([_folds(labels + rng.normal(size=100))[0] for _ in range(2)] for _ in range(2))
    found = delong(labels, one, other)
    error = np.sqrt(_jackknife(labels, one, other))
    assert found.z == pytest.approx(found.difference.estimate / error, rel=1e-9)


def test_delong__a_class_that_labels_lack_is_passed_over() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2], 20)
    scores = rng.normal(size=(40, 3)) + np.eye(3)[labels]
    peers = [roc_auc_score(labels == c, scores[:, c]) for c in (0, 2)]
    assert delong(labels, [scores], [scores[::-1]]).one == pytest.approx(np.mean(peers))


def test_delong__without_variance() -> None:
    labels = np.array([0, 0, 1, 1])
    perfect, constant = np.array([0.1, 0.2, 0.8, 0.9]), np.full(4, 0.5)
    same = delong(labels, _folds(perfect), _folds(perfect))
    assert (same.difference.estimate, same.z, same.p) == (0.0, 0.0, 1.0)
    assert np.isnan([same.difference.low, same.difference.high]).all()
    apart = delong(labels, _folds(perfect), _folds(constant))
    assert apart.difference.estimate == 0.5
    assert np.isnan([apart.difference.low, apart.z, apart.p]).all()


def test_delong__too_few() -> None:
    scores = _folds(np.array([0.1, 0.7, 0.8]))
    assert np.isnan(delong(np.array([0, 0, 1]), scores, scores).p)
    with pytest.raises(ValueError, match="one class only"):
        delong(np.zeros(3, dtype=int), scores, scores)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
@pytest.mark.parametrize("apart", [1, 1000])
def test_auc_parts__pair_by_pair(dtype: type, apart: int) -> None:
    """Of whole numbers that are close together, and of others, with ties."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    scores = (apart * rng.integers(-3, 4, 40)).astype(dtype)
    (parts,) = auc_parts(labels, [np.stack([-scores, scores], axis=1)])
    others = [scores[labels != label] for label in (0, 1)]
    expected = [
        np.mean([_kernel(s, o) if label else 1 - _kernel(s, o) for o in others[label]])
        for label, s in zip(labels, scores, strict=True)
    ]
    np.testing.assert_allclose(parts, expected, atol=1e-12)
