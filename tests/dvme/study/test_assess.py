"""Every number of a finding against a peer library, a slow version, or by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from sklearn import metrics

from dvme.metrics.classification import log_odds
from dvme.metrics.referral import cumulative_oracle_auc, oracle_auc, risk_coverage_area
from dvme.stats.scaling import platt, temperature_of_classes, temperature_of_labels
from dvme.stats.units import Units
from dvme.study.assess import COVERAGES, FRACTIONS, THRESHOLDS, assessed, gathered, n_resamples_of
from dvme.study.operation import Operation
from dvme.study.panel import Panel
from dvme.study.reliability import FindingReliability, MethodReliability

N, J = 120, 3
NAMES = ("common", "rare", "single", "nowhere")


def _drawn(n: int, seed: int) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Truth of which a tenth is unknown, and log odds of J heads."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 4)) < [0.4, 0.15, 0.0, 0.0]).astype(float)
    odds = truth + rng.normal(size=(n, 4)) - [0.5, 1.5, 2.0, 2.0]
    folds = [odds + 0.4 * rng.normal(size=(n, 4)) for _ in range(J)]
    truth[rng.random((n, 4)) < 0.1] = np.nan
    truth[:2, 2] = 1.0, 0.0
    return truth, folds


TRUTH, ODDS = _drawn(N, 0)
PATIENTS = np.arange(N) // 2
CHOSEN_ON = [_drawn(80, 10 + fold) for fold in range(J)]
VALIDATION = [Panel(NAMES, truth, (odds[0],)) for truth, odds in CHOSEN_ON]
TEST = Panel(NAMES, TRUTH, tuple(ODDS))


def _assessed(test: Panel = TEST, validation: list[Panel] | None = None, **asked: Any) -> MethodReliability:
    units = Units(np.zeros(len(test), dtype=np.int64), test.groups)
    operation = Operation(**asked)
    return assessed("m", test, VALIDATION if validation is None else validation, units, operation, is_exclusive=False)


@pytest.fixture(scope="module")
def found() -> MethodReliability:
    return _assessed(prevalence={"common": 0.05})


@pytest.fixture(scope="module")
def common(found: MethodReliability) -> FindingReliability:
    return found.findings[0]


def _known(label: int = 0) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    rows = ~np.isnan(TRUTH[:, label])
    return TRUTH[rows, label], [fold[rows, label] for fold in ODDS]


def _thresholds(label: int = 0) -> list[float]:
    """The lowest of the negatives' validation scores that nine in ten of them do not exceed, one by one."""
    found = []
    for truth, odds in CHOSEN_ON:
        own = np.sort(odds[0][truth[:, label] == 0.0, label])
        found.append(next(each for each in own if (own <= each).mean() >= 0.9))
    return found


def test_assessed__counts(common: FindingReliability) -> None:
    truth, _ = _known()
    assert (common.n_known, common.n_positive, common.n_masked) == (len(truth), int(truth.sum()), N - len(truth))
    assert common.n_uncertain is None
    assert common.prevalence.estimate == pytest.approx(truth.mean())
    assert common.prevalence.low < truth.mean() < common.prevalence.high
    unsure = np.zeros((N, 4), dtype=bool)
    unsure[:7] = True
    with_them = assessed(
        "m", TEST, VALIDATION, Units(np.zeros(N, dtype=np.int64)), Operation(), is_exclusive=False, uncertain=unsure
    )
    assert with_them.findings[0].n_uncertain == np.isnan(TRUTH[:7, 0]).sum()


def test_assessed__ranking_is_scikit_learns(common: FindingReliability) -> None:
    truth, folds = _known()
    assert common.auc.estimate == pytest.approx(np.mean([metrics.roc_auc_score(truth, fold) for fold in folds]))
    precision = np.mean([metrics.average_precision_score(truth, fold) for fold in folds])
    assert common.average_precision.estimate == pytest.approx(precision)
    assert common.average_precision.low < precision < common.average_precision.high


def test_assessed__average_precision_is_resampled() -> None:
    """The interval beside that of a loop over scikit-learn, with resamples of its own."""
    truth, folds = _known()
    rng, many = np.random.default_rng(5), []
    for _ in range(400):
        rows = rng.integers(0, len(truth), len(truth))
        many.append(np.mean([metrics.average_precision_score(truth[rows], fold[rows]) for fold in folds]))
    interval = _assessed().findings[0].average_precision
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(many, [0.025, 0.975])), abs=0.03)


def test_assessed__operating_point_is_scikit_learns_at_thresholds_of_validation(common: FindingReliability) -> None:
    truth, folds = _known()
    at, thresholds = common.at, _thresholds()
    assert at is not None
    assert at.thresholds == pytest.approx(expit(thresholds))
    yes = [fold > own for fold, own in zip(folds, thresholds, strict=True)]
    tables = np.mean([metrics.confusion_matrix(truth, each).ravel() for each in yes], axis=0)
    found = (at.true_negatives, at.false_positives, at.false_negatives, at.true_positives)
    assert found == pytest.approx(tables)
    recall = np.mean([metrics.recall_score(truth, each) for each in yes])
    left = np.mean([metrics.recall_score(1 - truth, ~each) for each in yes])
    assert (at.sensitivity.estimate, at.specificity.estimate) == pytest.approx((recall, left))
    assert (at.missed.estimate, at.missed.low) == pytest.approx((1 - recall, 1 - at.sensitivity.high))
    assert at.balanced_accuracy.estimate == pytest.approx((recall + left) / 2)
    assert at.stated_prevalence == 0.05
    stated = 0.05 * recall / (0.05 * recall + 0.95 * (1 - left))
    assert at.stated_positive_predictive_value.estimate == pytest.approx(stated)
    absent = 0.95 * left / (0.95 * left + 0.05 * (1 - recall))
    assert at.stated_negative_predictive_value.estimate == pytest.approx(absent)
    for name in ("sensitivity", "specificity", "f1", "positive_predictive_value", "negative_predictive_value"):
        interval = getattr(at, name)
        assert interval.low < interval.estimate < interval.high


def test_assessed__of_one_head_predictive_values_are_scikit_learns() -> None:
    truth, (fold, *_) = _known()
    at = _assessed(replace(TEST, odds=TEST.odds[:1]), VALIDATION[:1]).findings[0].at
    assert at is not None
    yes = fold > _thresholds()[0]
    assert at.positive_predictive_value.estimate == pytest.approx(metrics.precision_score(truth, yes))
    assert at.negative_predictive_value.estimate == pytest.approx(metrics.precision_score(1 - truth, ~yes))
    assert at.f1.estimate == pytest.approx(metrics.f1_score(truth, yes))
    assert at.balanced_accuracy.estimate == pytest.approx(metrics.balanced_accuracy_score(truth, yes))
    assert math.isnan(at.stated_prevalence)
    assert math.isnan(at.stated_positive_predictive_value.estimate)


def test_assessed__test_images_choose_nothing() -> None:
    """Other truth of the test images: the same thresholds and temperatures."""
    other = _assessed(replace(TEST, truth=TRUTH[::-1].copy()))
    mine = _assessed()
    assert mine.temperatures == other.temperatures
    assert [each.at and each.at.thresholds for each in mine.findings[:2]] == [
        each.at and each.at.thresholds for each in other.findings[:2]
    ]


@pytest.mark.parametrize("name", ["before", "temperature", "platt"])
def test_assessed__fits_are_of_scalings_of_validation(common: FindingReliability, name: str) -> None:
    truth, _ = _known()
    rows = ~np.isnan(TRUTH[:, 0])
    p = []
    for (own, odds), fold in zip(CHOSEN_ON, ODDS, strict=True):
        scaled = {
            "before": lambda z: z,
            "temperature": temperature_of_labels(own, odds[0]).of_labels,
            "platt": platt(own, odds[0]).of_labels,
        }[name](fold)
        p.append(expit(scaled[rows, 0]))
    fit = common.fits[name]
    assert fit.brier.estimate == pytest.approx(np.mean([metrics.brier_score_loss(truth, each) for each in p]))
    assert fit.log_loss.estimate == pytest.approx(np.mean([metrics.log_loss(truth, each) for each in p]))
    slow = []
    for each in p:
        bins = [(each > low / 10) & (each <= (low + 1) / 10) for low in range(10)]
        slow.append(sum(abs(truth[own].mean() - each[own].mean()) * own.mean() for own in bins if own.any()))
    assert fit.expected_error.estimate == pytest.approx(np.mean(slow))
    assert sum(fit.n_images) == pytest.approx(len(truth))
    together, again = np.concatenate(p), np.tile(truth, J)
    inside = (together > 0.2) & (together <= 0.3)
    assert fit.share[2] == pytest.approx(again[inside].mean())
    assert fit.confidence[2] == pytest.approx(together[inside].mean())


def test_assessed__missed_over_thresholds(common: FindingReliability) -> None:
    truth, folds = _known()
    for place, at in enumerate(THRESHOLDS):
        yes = [expit(fold) > at for fold in folds]
        missed = np.mean([1 - metrics.recall_score(truth, each) for each in yes])
        alarms = np.mean([each[truth == 0].mean() for each in yes])
        assert (common.missed[place].estimate, common.alarms[place].estimate) == pytest.approx((missed, alarms))


def test_assessed__risk_and_coverage(common: FindingReliability) -> None:
    truth, folds = _known()
    areas, kept_half = [], []
    for fold, at in zip(folds, _thresholds(), strict=True):
        wrong, away = ((fold > at) != truth).astype(float), np.abs(fold - at)
        areas.append(risk_coverage_area(wrong, away))
        kept = np.argsort(-away)[: math.ceil(len(truth) / 2)]
        kept_half.append(wrong[kept].mean())
    assert common.risk_area.estimate == pytest.approx(np.mean(areas))
    assert common.risk[COVERAGES.index(0.5)] == pytest.approx(np.mean(kept_half))
    assert common.risk_area.low < common.risk_area.estimate < common.risk_area.high


def test_assessed__oracle_aucs_are_the_metrics(found: MethodReliability) -> None:
    for mine, metric in (("oracle", oracle_auc), ("cumulative_oracle", cumulative_oracle_auc)):
        slow = np.mean([metric(TRUTH, expit(fold)) for fold in ODDS], axis=0)  # (T, L)
        for label in (0, 1):
            assert [each.estimate for each in getattr(found.findings[label], mine)] == pytest.approx(slow[:, label])
        assert [each.estimate for each in getattr(found, mine)] == pytest.approx(slow[:, :2].mean(axis=1))
        assert len(slow) == len(FRACTIONS)


def test_assessed__what_cannot_be_judged_says_why(found: MethodReliability) -> None:
    single, nowhere = found.findings[2:]
    n = single.n_known
    assert single.why_not == f"1 test image with it, {n - 1} without: it takes 3 of either"
    assert (single.brief, nowhere.brief) == ("1 with, takes 3", "0 with, takes 3")
    assert (single.at, single.fits, single.missed, single.oracle) == (None, {}, (), ())
    assert math.isnan(single.auc.estimate)
    assert nowhere.prevalence.estimate == 0.0
    assert nowhere.prevalence.high > 0.0
    assert [each.finding for each in found.judged] == ["common", "rare"]


def test_assessed__patients_are_counted_and_widen_intervals() -> None:
    """Two images each, with the same truth and scores; three images of one patient are one patient."""
    truth, odds = np.repeat(TRUTH, 2, axis=0), tuple(np.repeat(fold, 2, axis=0) for fold in ODDS)
    patients = np.repeat(np.arange(N), 2)
    of_patients = _assessed(Panel(NAMES, truth, odds, patients)).findings
    of_images = _assessed(Panel(NAMES, truth, odds)).findings
    once = _assessed().findings
    for name in ("sensitivity", "specificity", "f1"):
        wide, narrow, alone = (getattr(each[0].at, name) for each in (of_patients, of_images, once))
        assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)
        assert (wide.low, wide.high) == pytest.approx((alone.low, alone.high), abs=0.03)
    assert of_patients[2].why_not.startswith("1 test group with it")


def test_assessed__thresholds_without_positives_say_so() -> None:
    """One draw without, then all of them; specificity needs none."""
    empty = VALIDATION[1].truth.copy()
    empty[empty[:, 0] == 1.0, 0] = np.nan
    one = [VALIDATION[0], replace(VALIDATION[1], truth=empty), VALIDATION[2]]
    row = _assessed(validation=one, at="sensitivity=0.9").findings[0]
    assert row.why_not_at == "no threshold: no validation image of draw 2 has it; what follows is of the others"
    assert row.at is not None
    assert (row.at.n_draws, math.isnan(row.at.thresholds[1])) == (2, True)
    others = _assessed(
        replace(TEST, odds=(ODDS[0], ODDS[2])), [VALIDATION[0], VALIDATION[2]], at="sensitivity=0.9"
    ).findings[0]
    assert others.at is not None
    assert row.at.sensitivity == others.at.sensitivity
    row = _assessed(validation=[replace(VALIDATION[1], truth=empty)] * 3, at="sensitivity=0.9").findings[0]
    assert (row.at, row.why_not_at) == (None, "no threshold: no validation image of any draw has it")
    assert not math.isnan(row.auc.estimate)
    assert any(note.startswith("Platt scaling of draw 1, 2, 3: ") for note in row.notes)
    assert _assessed(validation=one).findings[0].why_not_at == ""


def test_assessed__classes_share_a_temperature() -> None:
    """Of three classes the one that scikit-learn-like softmax has; the odds of a panel are enough for it."""
    rng = np.random.default_rng(3)
    labels, logs = rng.integers(0, 3, 90), rng.normal(size=(90, 3))
    logs[np.arange(90), labels] += 1.0
    logs = 3.0 * logs
    logs -= np.logaddexp.reduce(logs, axis=1, keepdims=True)
    truth = (labels[:, None] == np.arange(3)).astype(float)
    panel = Panel(("a", "b", "c"), truth, (log_odds(logs),))
    found = assessed("m", panel, [panel], Units(labels), Operation(), is_exclusive=True)
    scaling = temperature_of_classes(labels, logs)
    assert found.temperatures == pytest.approx((scaling.value,), abs=1e-6)
    p = np.exp(scaling.of_classes(logs))
    brier = [metrics.brier_score_loss(truth[:, c], p[:, c]) for c in range(3)]
    assert [each.fits["temperature"].brier.estimate for each in found.findings] == pytest.approx(brier, abs=1e-6)
    np.testing.assert_allclose(log_expit(log_odds(logs)), logs, atol=1e-9)


def test_assessed__heads_that_are_never_in_doubt() -> None:
    """Log odds of plus and minus infinity, as of votes: numbers, no warnings."""
    sure = np.where(np.nan_to_num(ODDS[0]) > 0, np.inf, -np.inf)
    votes = [Panel(NAMES, truth, (np.where(odds[0] > 0, np.inf, -np.inf),)) for truth, odds in CHOSEN_ON]
    row = _assessed(Panel(NAMES, TRUTH, (sure,) * J), votes).findings[0]
    assert row.at is not None
    assert not math.isnan(row.at.sensitivity.low)
    assert all(0.0 <= each <= 1.0 for each in row.risk)


def test_gathered__says_what_it_is_of(found: MethodReliability) -> None:
    units = Units(np.zeros(N, dtype=np.int64), PATIENTS)
    whole = gathered([found], TEST, units, Operation(at="sensitivity=0.95"), "finding")
    assert (whole.unit, whole.n_units, whole.n_images, whole.n_draws) == ("test group", N // 2, N, J)
    assert (whole.at, whole.leading) == ("sensitivity 0.95", found)
    assert gathered([found], TEST, Units(np.zeros(N)), Operation(), "finding").unit == "test image"


@pytest.mark.parametrize(("n", "n_findings", "expected"), [(100, 14, 1000), (25_000, 14, 571), (10**6, 100, 200)])
def test_n_resamples_of(n: int, n_findings: int, expected: int) -> None:
    assert n_resamples_of(n, n_findings) == expected
