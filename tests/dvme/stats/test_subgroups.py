from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, studentized_range
from simulated_findings import draw_findings

from dvme.metrics.ranking import auc
from dvme.stats.findings import can_be_judged, scored_findings
from dvme.stats.influence import scored
from dvme.stats.subgroups import (
    Subgroup,
    _adjusted,
    _largest,
    _own_alpha,
    _parts,
    gaps,
    subgroups,
    subgroups_of_findings,
)
from dvme.stats.units import Units


def _binary(second: np.ndarray) -> np.ndarray:
    return np.stack([-second, second], 1)


def _drawn(
    rng: np.random.Generator, sizes: tuple[int, ...], shifts: tuple[float, ...], per_patient: int = 1, n_heads: int = 1
) -> tuple[np.ndarray, list[np.ndarray], Units, dict[str, np.ndarray]]:
    """Subgroups of as many images of either class; patients have images of one subgroup and class."""
    of_group = np.repeat(np.arange(len(sizes)), 2 * np.array(sizes))
    labels = np.concatenate([np.repeat([0, 1], n) for n in sizes])
    patients = np.unique(np.arange(len(labels)) // per_patient * 1000 + 2 * of_group + labels, return_inverse=True)[1]
    noise = np.sqrt(0.5) * (rng.normal(size=len(labels)) + rng.normal(size=patients.max() + 1)[patients])
    values = noise + np.array(shifts)[of_group] * labels
    heads = [_binary(values + 0.5 * rng.normal(size=len(labels))) for _ in range(n_heads)]
    members = {f"group {g}": of_group == g for g in range(len(sizes))}
    return labels, heads, Units(labels, patients if per_patient > 1 else None), members


def test_subgroups__are_scored_as_test_sets_of_their_own() -> None:
    labels, heads, units, members = _drawn(np.random.default_rng(0), (40, 20), (1.0, 1.0), 3, 2)
    found = subgroups(labels, heads, units, members, "balanced_accuracy")
    assert [each.name for each in found] == ["group 0", "group 1"]
    for each, rows in zip(found, members.values(), strict=True):
        alone = Units(labels[rows], units.groups[rows])
        expected = scored(labels[rows], [head[rows] for head in heads], alone)["balanced_accuracy"]
        assert each.interval(0.9) == expected.interval(0.9)
        assert (each.n_images, each.n_units, each.reason) == (rows.sum(), len(np.unique(units.groups[rows])), "")


def test_subgroups__too_small_ones_say_so() -> None:
    """The third has images of one class only, the second three images of two patients."""
    labels = np.array([0, 1] * 10 + [0, 0, 0, 1, 1, 1] + [0] * 5)
    patients = np.r_[np.arange(20), 20, 21, 22, 30, 30, 31, 40:45]
    members = {"all": labels >= 0, "few": np.arange(31) // 20 == 1, "none": np.arange(31) >= 26}
    members["few"][26:] = False
    heads = [_binary(np.random.default_rng(0).normal(size=31))]
    found = subgroups(labels, heads, Units(labels, patients), members)
    assert [each.reason for each in found] == [
        "",
        "2 patients of class 1; it takes 3 of every class",
        "0 patients of class 1; it takes 3 of every class",
    ]
    assert np.isnan([found[1].interval().estimate, found[1].interval().low, found[2].interval().high]).all()
    nothing = gaps(found)
    assert (nothing.pairs, nothing.largest) == ((), None)
    assert nothing.reason == "1 of 3 subgroups have a score; a gap is between two"
    assert np.isnan(nothing.p)
    assert not subgroups(labels, heads, Units(labels), members)[1].reason  # three images


def test_subgroups__a_reason_calls_the_classes_by_their_names() -> None:
    labels = np.array([0, 1] * 5 + [1])
    members = {"few": np.arange(11) > 7}
    some = subgroups(labels, [_binary(labels)], Units(labels), members, classes=("without it", "with it"))
    assert some[0].reason == "1 image without it; it takes 3 of every class"


def test_subgroups__an_undefined_metric_says_so() -> None:
    labels = np.zeros(20, dtype=int)
    found = subgroups(labels, [np.eye(2)[labels]], Units(labels), {"all": labels == 0}, "kappa")
    assert found[0].reason == "kappa is not defined: labels and predictions are one class"
    assert found[0].scored is None


def test_subgroups__a_mask_is_of_all_images() -> None:
    labels = np.arange(20) % 2
    with pytest.raises(ValueError, match=r"subgroup 'a' is \(3,\), and there are \(20,\) images"):
        subgroups(labels, [np.eye(2)[labels]], Units(labels), {"a": np.ones(3, dtype=bool)})


def test_gaps__of_two_subgroups_need_no_adjustment() -> None:
    found = gaps(subgroups(*_drawn(np.random.default_rng(0), (40, 20), (2.0, 0.8))))
    (gap,) = found.pairs
    assert (gap.one, gap.other) == ("group 0", "group 1")
    assert gap.p_adjusted == gap.comparison.p == found.p
    assert found.largest == gap


def test_gaps__equal_independent_subgroups_have_tukeys_p() -> None:
    """The largest of all differences of independent normal scores with one variance is the range of them."""
    largest = _largest(list(np.eye(4)[:, :, None] * np.ones((4, 4, 1))), np.zeros((4, 1)), None, 0)
    for p in (0.2, 0.05, 0.01):
        expected = studentized_range.sf(np.sqrt(2) * norm.isf(p / 2), 4, np.inf)
        assert _adjusted(p, largest, 6) == pytest.approx(expected, rel=0.08)
    own = _own_alpha(0.05, largest, 6)
    assert own == pytest.approx(2 * norm.sf(studentized_range.isf(0.05, 4, np.inf) / np.sqrt(2)), rel=0.08)
    assert _adjusted(1e-9, largest, 6) == pytest.approx(6e-9)
    assert np.isnan(_adjusted(np.nan, largest, 6))


@pytest.mark.parametrize("patient_noise", [0.0, 1.5])
def test_gaps__know_what_subgroups_have_in_common(patient_noise: float) -> None:
    """Every patient has an image in each of two views; a third subgroup overlaps with both."""
    rng, scores, found = np.random.default_rng(0), [], []
    patients, labels = np.tile(np.arange(60), 2), np.tile(np.arange(60) % 2, 2)
    view = np.repeat([0, 1], 60)
    members = {"first": view == 0, "second": view == 1, "half": patients < 30}
    for _ in range(350):
        values = rng.normal(size=120) + patient_noise * rng.normal(size=60)[patients] + labels
        some = subgroups(labels, [_binary(values)], Units(labels, patients), members)
        scores.append([each.scored.estimate for each in some])
        parts = np.concatenate(_parts(some), axis=1)
        found.append(parts.T @ parts)
    expected = np.cov(np.array(scores).T)
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.16 * expected.max())


def test_gaps__a_subgroup_is_not_apart_from_itself() -> None:
    labels, heads, units, members = _drawn(np.random.default_rng(0), (30, 30), (1.0, 1.0))
    some = subgroups(labels, heads, units, {"a": members["group 0"], "the same": members["group 0"], **members})
    pairs = {(gap.one, gap.other): gap for gap in gaps(some).pairs}
    same = pairs["a", "the same"]
    assert same.p_adjusted == 1.0
    assert same.comparison.difference.high - same.comparison.difference.low < 0.1
    assert pairs["a", "group 1"].comparison.difference == pairs["group 0", "group 1"].comparison.difference


def test_gaps__find_the_subgroup_that_is_worse() -> None:
    found = gaps(subgroups(*_drawn(np.random.default_rng(0), (150, 100, 80), (2.5, 2.5, 0.3), 2, 3)), shared_rows=0.5)
    assert found.largest is not None
    assert {found.largest.one, found.largest.other} & {"group 2"}
    assert found.largest.p_adjusted < 0.01
    told = {(gap.one, gap.other): gap.p_adjusted < 0.05 for gap in found.pairs}
    assert not told["group 0", "group 1"]
    assert told["group 0", "group 2"]
    assert told["group 1", "group 2"]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(3, 20), min_size=2, max_size=5), st.integers(1, 3))
def test_gaps__intervals_and_p_agree(seed: int, sizes: list[int], per_patient: int) -> None:
    rng = np.random.default_rng(seed)
    shifts = tuple(rng.uniform(0.0, 3.0, len(sizes)))
    some = subgroups(*_drawn(rng, tuple(sizes), shifts, per_patient, 2))
    found = gaps(some, shared_rows=[None, 0.3][seed % 2], seed=seed)
    n = sum(each.scored is not None for each in some)
    assert len(found.pairs) == n * (n - 1) // 2
    for gap in found.pairs:
        assert gap.comparison.p <= gap.p_adjusted <= min(1.0, len(found.pairs) * gap.comparison.p) + 1e-12
        if abs(gap.p_adjusted - 0.05) > 1e-3:
            assert (gap.p_adjusted < 0.05) == (not gap.comparison.difference.includes_zero)


@pytest.mark.parametrize("per_patient", [1, 3])
def test_gaps__equal_subgroups_of_unequal_size_are_rarely_told_apart(per_patient: int) -> None:
    """The long form is tests/benchmarks/test_sites.py."""
    rng, n = np.random.default_rng(0), 150
    apart = [
        gaps(subgroups(*_drawn(rng, (90, 45, 24), (1.5,) * 3, per_patient)), seed=seed).p < 0.05 for seed in range(n)
    ]
    assert np.mean(apart) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / n)
    assert np.mean(apart) > 0.01


def test_subgroup__without_a_score_is_left_out_of_gaps() -> None:
    some = subgroups(*_drawn(np.random.default_rng(0), (30, 30), (1.0, 1.0)))
    empty = Subgroup("empty", np.zeros(120, dtype=bool), 0, None, "no image")
    (with_it,), (without,) = gaps([some[0], empty, some[1]]).pairs, gaps(some).pairs
    assert (with_it.one, with_it.other, with_it.p_adjusted) == (without.one, without.other, without.p_adjusted)
    assert with_it.comparison.difference == without.comparison.difference


def test_subgroups_of_findings__are_scored_as_test_sets_of_their_own() -> None:
    """The second finding is so rare that the smaller subgroup cannot judge it."""
    rng = np.random.default_rng(0)
    truth, heads, patients, members = draw_findings(rng, (160, 40), (0.4, 0.06, 0.3), per_patient=2, unknown=0.1)
    found, is_common = subgroups_of_findings(truth, heads, patients, members)
    assert can_be_judged(truth, patients).all()
    assert is_common.tolist() == [True, False, True]
    for each, rows in zip(found, members.values(), strict=True):
        some = truth[rows][:, [0, 2]]
        _, alone = scored_findings(some, [head[rows][:, [0, 2]] for head in heads], patients[rows])
        assert alone is not None
        assert each.interval(0.9) == alone.interval(0.9)
        by_hand = np.mean([auc(some, head[rows][:, [0, 2]]) for head in heads])
        assert each.interval().estimate == pytest.approx(by_hand)
        assert (each.n_images, each.n_units) == (rows.sum(), len(np.unique(patients[rows])))


def test_subgroups_of_findings__too_small_ones_say_so_and_decide_nothing() -> None:
    truth, heads, _, members = draw_findings(np.random.default_rng(0), (80, 80, 4), (0.4, 0.3))
    found, is_common = subgroups_of_findings(truth, heads, None, members)
    assert [each.reason for each in found] == ["", "", "no finding that 3 images have and 3 have not"]
    assert is_common.all()
    assert [(gap.one, gap.other) for gap in gaps(found).pairs] == [("group 0", "group 1")]


def test_subgroups_of_findings__without_a_common_one_nothing_is_compared() -> None:
    truth = np.full((24, 2), np.nan)
    truth[:12, 0] = truth[12:, 1] = np.arange(12) % 2
    members = {"one": np.arange(24) < 12, "other": np.arange(24) >= 12}
    found, is_common = subgroups_of_findings(truth, [np.random.default_rng(0).normal(size=(24, 2))], None, members)
    assert not is_common.any()
    assert {each.reason for each in found} == {"no finding can be judged in all subgroups"}
    assert np.isnan(found[0].interval().estimate)
    assert gaps(found).largest is None
    with pytest.raises(ValueError, match=r"subgroup 'a' is \(3,\), and there are \(24,\) images"):
        subgroups_of_findings(truth, [truth], None, {"a": np.ones(3, dtype=bool)})


def test_gaps__of_findings_know_which_patients_are_in_both() -> None:
    """What units give two means has the covariance that the means have over studies."""
    rng, scores, found = np.random.default_rng(1), [], []
    for _ in range(250):
        truth, heads, patients, members = draw_findings(
            rng, (60, 60), (0.5, 0.4), per_patient=4, are_views=True, n_heads=1
        )
        some, _ = subgroups_of_findings(truth, heads, patients, members)
        scores.append([each.interval().estimate for each in some])
        parts = np.concatenate(_parts(some), axis=1)
        found.append(parts.T @ parts)
    expected = np.cov(np.array(scores).T)
    assert expected[0, 1] > 0.1 * expected[0, 0]
    np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=0.2 * expected.max())


@pytest.mark.parametrize("are_views", [False, True])
def test_gaps__of_findings_are_rarely_found_where_there_are_none(are_views: bool) -> None:
    """The long form is tests/benchmarks/test_sites.py."""
    rng, n, apart = np.random.default_rng(0), 80, []
    for seed in range(n):
        truth, heads, patients, members = draw_findings(
            rng, (90, 60, 40), (0.4, 0.3), per_patient=3, are_views=are_views
        )
        apart.append(gaps(subgroups_of_findings(truth, heads, patients, members)[0], seed=seed).p < 0.05)
    assert np.mean(apart) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / n)


def test_gaps__of_findings_find_the_subgroup_that_is_worse() -> None:
    truth, heads, patients, members = draw_findings(np.random.default_rng(0), (150, 150), (0.4, 0.3), per_patient=2)
    worse = members["group 1"]
    noisy = [np.where(worse[:, None], -head, head) for head in heads]
    (gap,) = gaps(subgroups_of_findings(truth, noisy, patients, members)[0], shared_rows=0.5).pairs
    assert gap.p_adjusted < 0.01
    assert gap.comparison.difference.low > 0.2


def test_subgroups_of_findings__a_small_one_takes_no_finding_from_the_others() -> None:
    """It has no mean, and the reason; large ones are compared as if it was not there."""
    rng = np.random.default_rng(3)
    truth = (rng.random((240, 3)) < 0.4).astype(float)
    folds = [truth + rng.normal(size=truth.shape) for _ in range(2)]
    members = {"F": np.arange(240) % 2 == 0, "M": np.arange(240) % 2 == 1}
    small = {**members, "O": np.arange(240) >= 232}
    truth[232:, :2] = 0.0  # of these 8 only the third finding can be judged
    truth[232:, 2] = np.arange(8) % 2
    expected, common = subgroups_of_findings(truth, folds, None, members)
    found, still = subgroups_of_findings(truth, folds, None, small)
    assert common.all()
    assert still.all()
    assert [each.interval() for each in found[:2]] == [each.interval() for each in expected]
    assert found[2].scored is None
    assert found[2].reason == "1 of 3 findings can be judged; a mean takes half of them"
    (alone, other), over = subgroups_of_findings(truth, folds, None, {"F": members["F"], "O": small["O"]})
    assert over.tolist() == [False, False, True]  # of two, both are compared on what both can judge
    assert alone.scored is not None
    assert other.scored is not None
