"""Decisions by hand and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_cases import Case, cases
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score

from dvme.errors import DataError, OptionError
from dvme.metrics.decisions import Decisions, decide, decide_over, subset_accuracy

CLOSE = 1e-9


def test_false_negative_rate__by_hand() -> None:
    """Three positives at 0.2, 0.5 and 0.9, and a threshold that equals one of them: that one is missed."""
    truth = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0], [np.nan, 0]])
    p = np.array([[0.2], [0.5], [0.9], [0.95], [0.0]]).repeat(2, axis=1)
    found = decide_over(truth, p, np.array([0.1, 0.5, 0.2, 0.9, 0.4])).false_negative_rate
    assert found[:, 0] == pytest.approx([0, 2 / 3, 1 / 3, 1, 1 / 3])
    assert np.isnan(found[:, 1]).all()  # no positives
    # the one at 0.2 counts three times
    weighted = decide_over(truth, p, np.array([0.4]), np.array([3, 1, 1, 1, 1])).false_negative_rate
    assert weighted[0, 0] == pytest.approx(3 / 5)


def test_decide__by_hand() -> None:
    truth = np.array([[1.0], [1], [1], [0], [0], [0], [0]])
    p = np.array([[0.9], [0.6], [0.4], [0.6], [0.5], [0.1], [0.2]])
    found = decide(truth, p)
    counts = (found.true_positives, found.false_negatives, found.false_positives, found.true_negatives)
    assert [each.tolist() for each in counts] == [[2], [1], [1], [3]]
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == pytest.approx(3 / 4)
    assert found.precision == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 3 / 4) / 2)
    # of 1,000 people 100 have it: 66.7 found, 225 false alarms, 675 rightly left alone, 33.3 missed
    assert found.positive_predictive_value(0.1) == pytest.approx(66.66666666666667 / (66.66666666666667 + 225))
    assert found.negative_predictive_value(0.1) == pytest.approx(675 / (675 + 33.333333333333336))


@settings(max_examples=50, deadline=None)
@given(case=cases(), threshold=st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]))
def test_decide__as_scikit_learn(case: Case, threshold: float) -> None:
    found = decide(case.truth, case.p, threshold, case.weights)
    for r, label, truth, p, weight in case.each():
        yes = p > threshold

        def by(metric, **more):
            return metric(truth, yes, sample_weight=weight, zero_division=np.nan, **more)  # noqa: B023

        expected = {"sensitivity": np.nan, "false_negative_rate": np.nan, "f1": np.nan, "specificity": np.nan}
        if truth.any():
            recall = by(recall_score)
            expected |= {"sensitivity": recall, "false_negative_rate": 1 - recall, "f1": by(f1_score)}
        if not truth.all():
            expected["specificity"] = by(recall_score, pos_label=0)
        expected["precision"] = by(precision_score) if yes.any() else np.nan
        has_both = len(np.unique(truth)) == 2
        expected["balanced_accuracy"] = (
            balanced_accuracy_score(truth, yes, sample_weight=weight) if has_both else np.nan
        )
        for name, value in expected.items():
            assert getattr(found, name)[r, label] == pytest.approx(value, abs=CLOSE, nan_ok=True), name


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_decide_over__is_decide_at_each_threshold_in_any_order(case: Case) -> None:
    thresholds = np.array([0.5, 0.1, 0.5, 1.0, 0.0, -1.0, 0.3])
    found = decide_over(case.truth, case.p, thresholds, case.weights)
    for place, threshold in enumerate(thresholds):
        at_one = decide(case.truth, case.p, threshold, case.weights)
        for name in ("true_positives", "false_negatives", "false_positives", "true_negatives"):
            np.testing.assert_allclose(getattr(found, name)[:, place], getattr(at_one, name), atol=CLOSE)


@settings(max_examples=60, deadline=None)
@given(case=cases(), prevalence=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_predictive_values__as_precision_of_images_weighted_to_the_prevalence(case: Case, prevalence: float) -> None:
    found = decide(case.truth, case.p, 0.5, case.weights)
    positive, negative = found.positive_predictive_value(prevalence), found.negative_predictive_value(prevalence)
    for r, label, truth, p, weight in case.each():
        if len(np.unique(truth)) < 2:
            assert np.isnan([positive[r, label], negative[r, label]]).all()
            continue
        share = (weight * truth).sum() / weight.sum()
        moved = weight * np.where(truth == 1, prevalence / share, (1 - prevalence) / (1 - share))
        for value, wanted in ((positive, 1), (negative, 0)):
            said = (p > 0.5) == wanted
            expected = np.average(truth[said] == wanted, weights=moved[said]) if moved[said].sum() > 0 else np.nan
            assert value[r, label] == pytest.approx(expected, abs=CLOSE, nan_ok=True)


@pytest.mark.parametrize("prevalence", [-0.1, 2, np.nan])
def test_predictive_values__refuse_what_is_no_share(prevalence: float) -> None:
    one = Decisions(*(np.ones(1) for _ in range(4)))
    with pytest.raises(OptionError, match=r"2 per cent is 0\.02"):
        one.positive_predictive_value(prevalence)


def test_decide__a_threshold_for_each_label() -> None:
    truth, p = np.array([[1.0, 1, 1], [0, 0, 0]]), np.array([[0.4, 0.4, 0.4], [0.2, 0.2, 0.2]])
    found = decide(truth, p, np.array([0.1, 0.3, np.nan]))
    assert found.specificity[:2].tolist() == [0.0, 1.0]
    assert np.isnan([found.sensitivity[2], found.true_negatives[2], found.f1[2], found.precision[2]]).all()
    with pytest.raises(DataError, match=r"thresholds are \(2,\), and there are 3 labels"):
        decide(truth, p, np.array([0.1, 0.3]))


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_subset_accuracy__as_scikit_learn_and_a_slow_loop(case: Case) -> None:
    found = subset_accuracy(case.truth, case.p, weights=case.weights)
    whole = np.nan_to_num(case.truth)
    of_whole = subset_accuracy(whole, case.p, weights=case.weights)
    for r, weight in enumerate(case.weights):
        right = total = 0.0
        for truth, p, w in zip(case.truth, case.p, weight, strict=True):
            known = [(t == 1, q > 0.5) for t, q in zip(truth, p, strict=True) if not np.isnan(t)]
            total += w * bool(known)
            right += w * (bool(known) and all(t == said for t, said in known))
        assert found[r] == pytest.approx(right / total if total else np.nan, abs=CLOSE, nan_ok=True)
        if weight.any():
            expected = accuracy_score(whole, (case.p > 0.5).astype(int), sample_weight=weight)
            assert of_whole[r] == pytest.approx(expected, abs=CLOSE)


def test_subset_accuracy__a_label_without_a_threshold_takes_no_part() -> None:
    truth, p = np.array([[1.0, 0], [0, 1], [np.nan, 1]]), np.array([[0.9, 0.9], [0.1, 0.1], [0.5, 0.9]])
    assert subset_accuracy(truth, p) == pytest.approx(1 / 3)
    assert subset_accuracy(truth, p, np.array([0.5, np.nan])) == 1.0
