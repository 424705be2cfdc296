"""The mean over findings, against one finding alone, the jackknife, and simulated studies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from dvme.stats.crossed import compared
from dvme.stats.findings import MeanScored, can_be_judged, scored_findings
from dvme.stats.influence import FEWEST, scored
from dvme.stats.units import Units

NAN = np.nan


def _study(
    rng: np.random.Generator, n: int = 300, n_findings: int = 4, *, are_grouped: bool = False, rarest: float = 0.06
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Truth (N, L) with unknown cells, scores whose every AUC is norm.cdf(1.2 / sqrt 2), and patients of 1 to 4."""
    patient = np.repeat(np.arange(n), rng.integers(1, 5, n) if are_grouped else 1)[:n]
    n_patients = patient[-1] + 1
    shares = np.linspace(rarest, 0.3, n_findings)
    severity = np.sqrt(0.5) * rng.normal(size=(n_patients, 1)) + np.sqrt(0.5) * rng.normal(
        size=(n_patients, n_findings)
    )
    truth = (severity > norm.ppf(1 - shares)).astype(float)[patient]
    noise = rng.normal(size=(n_patients, 1))[patient] + rng.normal(size=(n, 1)) + rng.normal(size=(n, n_findings))
    noise += rng.normal(size=(n_patients, n_findings))[patient]
    scores = 1.2 * truth + noise / 2.0
    truth[rng.random(truth.shape) < 0.2] = NAN
    return truth, scores, patient if are_grouped else None


def _known(truth: NDArray[Any], scores: NDArray[Any], label: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = ~np.isnan(truth[:, label])
    return truth[rows, label].astype(int), scores[rows, label]


def test_scored_findings__aucs_are_scikit_learns_on_the_known_cells() -> None:
    truth, scores, _ = _study(np.random.default_rng(0))
    other = scores + np.random.default_rng(1).normal(size=scores.shape)
    found, mean = scored_findings(truth, [scores, other])
    assert mean is not None
    expected = np.array([[roc_auc_score(*_known(truth, own, label)) for own in (scores, other)] for label in range(4)])
    for each, values in zip(found, expected, strict=True):
        assert each is not None
        assert each.folds == pytest.approx(values)
    assert mean.folds == pytest.approx(expected.mean(axis=0))
    assert mean.estimate == pytest.approx(expected.mean())


def test_scored_findings__of_one_finding_is_that_finding() -> None:
    """DeLong's covariance, its degrees of freedom and its interval."""
    truth, scores, _ = _study(np.random.default_rng(2), n_findings=1)
    (_,), mean = scored_findings(truth, [scores, scores**3 - scores])
    assert mean is not None
    labels, own = _known(truth, scores, 0)
    alone = scored(labels, [np.stack([-each, each], 1) for each in (own, own**3 - own)], Units(labels), ["auc"])["auc"]
    np.testing.assert_allclose(mean.test_covariance, alone.test_covariance, rtol=1e-9)
    assert mean.test_df == pytest.approx(alone.test_df)
    assert (mean.interval().low, mean.interval().high) == pytest.approx((alone.interval().low, alone.interval().high))


def test_scored_findings__the_variance_of_a_mean_is_the_jackknifes() -> None:
    """Leaving out patient after patient: findings of one patient go together, and so do its images."""
    truth, scores, patients = _study(np.random.default_rng(3), n=600, are_grouped=True, rarest=0.25)
    assert patients is not None
    _, mean = scored_findings(truth, [scores], patients)
    assert mean is not None

    def score(rows: NDArray[np.bool_]) -> float:
        return float(np.mean([roc_auc_score(*_known(truth[rows], scores[rows], label)) for label in range(4)]))

    every = np.unique(patients)
    left = np.array([score(patients != patient) for patient in every])
    variance = (len(every) - 1) / len(every) * float(((left - left.mean()) ** 2).sum())
    assert mean.test_variance == pytest.approx(variance, rel=0.05)


def test_scored_findings__a_difference_is_paired_by_finding() -> None:
    truth, scores, patients = _study(np.random.default_rng(4), are_grouped=True)
    close = scores + 0.01 * np.random.default_rng(5).normal(size=scores.shape)
    (_, one), (_, other) = (scored_findings(truth, [own], patients) for own in (scores, close))
    assert one is not None
    assert other is not None
    gap = one - other
    assert isinstance(gap, MeanScored)
    assert gap.estimate == pytest.approx(one.estimate - other.estimate)
    assert gap.test_variance < 0.05 * one.test_variance
    assert (one - one).test_variance == 0.0
    with pytest.raises(ValueError, match="means over other findings"):
        one - scored_findings(truth[:, :2], [scores[:, :2]], patients)[1]  # type: ignore[operator]


def test_can_be_judged__counts_patients_on_both_sides() -> None:
    truth = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, NAN, 0], [0, 0, 0]])
    assert can_be_judged(truth).tolist() == [True, False, False]
    assert can_be_judged(truth, np.array([0, 0, 1, 2, 3, 4])).tolist() == [False, False, False]
    assert can_be_judged(truth, np.array([0, 1, 2, 3, 4, 5])).tolist() == [True, False, False]
    assert FEWEST == 3
    found, mean = scored_findings(truth, [np.arange(18.0).reshape(6, 3)])
    assert found[1:] == [None, None]
    assert mean is not None
    assert mean.estimate == found[0].estimate  # type: ignore[union-attr]
    assert scored_findings(truth[:, 1:], [np.zeros((6, 2))]) == ([None, None], None)


@pytest.mark.parametrize("are_grouped", [False, True])
def test_scored_findings__intervals_cover_and_equal_methods_are_hardly_told_apart(are_grouped: bool) -> None:
    """200 studies; tests/benchmarks/test_intervals.py has more. Beyond 3 standard errors of what is due is a fault."""
    rng, truth_auc = np.random.default_rng(6), float(norm.cdf(1.2 / np.sqrt(2.0)))
    inside, told = [], []
    for _ in range(200):
        truth, scores, patients = _study(rng, are_grouped=are_grouped)
        _, one = scored_findings(truth, [scores], patients)
        rival = 1.2 * np.nan_to_num(truth) + (scores - 1.2 * np.nan_to_num(truth)) * rng.choice(
            [-1.0, 1.0], (len(truth), 1)
        )
        _, other = scored_findings(truth, [rival], patients)
        assert one is not None
        assert other is not None
        interval = one.interval()
        inside.append(interval.low <= truth_auc <= interval.high)
        told.append(compared(one - other, 0.0).p < 0.05)
    assert np.mean(inside) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(told) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
