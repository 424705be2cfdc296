"""Subgroups of a study: scores of their own, one family of tests, and words that say no more than these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulated_findings import draw_findings
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from dvme.data.targets import Targets
from dvme.json_values import plain, rebuilt
from dvme.metrics.classification import log_odds
from dvme.stats.influence import scored
from dvme.stats.subgroups import gaps, subgroups, subgroups_of_findings
from dvme.stats.units import Units
from dvme.study.by_subgroup import BySubgroup, by_subgroup
from dvme.study.design.dividing import Divider
from dvme.study.panel import Panel

OTHERS = ("auc", "accuracy", "balanced_accuracy")
SEX_AND_AGE = (Divider("sex"), Divider.of("age:0-40-80"))


def _texts(*values: Any) -> np.ndarray:
    return np.array([f"{value}" for value in values], dtype=object)


def _found(panel: Panel, kept: dict[str, np.ndarray], *, metric: str = "auc", is_multilabel: bool) -> BySubgroup:
    dividers = tuple(each for each in SEX_AND_AGE if each.column in kept)
    return by_subgroup(
        "m", panel, dividers, kept, metrics=(metric, *OTHERS), is_multilabel=is_multilabel, shared_rows=0.3
    )


def test_by_subgroup__decides_by_each_heads_own_threshold(findings: tuple[Panel, dict[str, np.ndarray]]) -> None:
    """Sensitivity and specificity of each subgroup, counted image by image; heads without a threshold take no part."""
    panel, kept = findings
    cuts = [np.full(4, 0.1 * number) for number in range(len(panel.odds))]
    cuts[0] = np.array([np.nan, 0.2, 0.2, 0.2])
    dividers = (Divider("sex"),)
    found = by_subgroup(
        "m", panel, dividers, kept, metrics=["auc"], is_multilabel=True, shared_rows=0.3, thresholds=cuts
    )
    for label, name in enumerate(panel.names):
        division = next(each for each in found.divisions if each.finding == name)
        for score in division.scores:
            counts: dict[str, list[float]] = {"sensitivity": [], "specificity": []}
            for fold, cut in zip(panel.odds, cuts, strict=True):
                rights: dict[float, list[bool]] = {1.0: [], 0.0: []}
                for row in range(len(panel)):
                    if kept["sex"][row] == score.name and not np.isnan(panel.truth[row, label]):
                        said = fold[row, label] > cut[label]
                        rights[panel.truth[row, label]].append(said == (panel.truth[row, label] == 1.0))
                if not np.isnan(cut[label]):
                    counts["sensitivity"].append(np.mean(rights[1.0]) if rights[1.0] else np.nan)
                    counts["specificity"].append(np.mean(rights[0.0]) if rights[0.0] else np.nan)
            for measure, values in counts.items():
                assert score.others[measure].estimate == pytest.approx(np.mean(values), nan_ok=True)
            own = score.others["sensitivity"]
            if label < 2:
                assert own.low < own.estimate < own.high


def test_by_subgroup__of_one_class_each_has_the_other_metrics() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 120)
    logs = [np.log(rng.dirichlet(np.ones(3) + 2 * np.eye(3)[label])) for label in labels]
    panel = Panel.of(Targets(("a", "b", "c"), labels), [np.array(logs)])
    kept = {"sex": _texts(*np.where(np.arange(120) % 2, "F", "M"))}
    found = _found(panel, kept, metric="kappa", is_multilabel=False)
    for score in found.overall[0].scores:
        rows = kept["sex"] == score.name
        guesses = np.array(logs)[rows].argmax(axis=1)
        assert set(score.others) == {"auc", "accuracy", "balanced_accuracy"}
        assert score.others["accuracy"].estimate == pytest.approx((guesses == labels[rows]).mean())
        own = score.others["balanced_accuracy"]
        assert own.estimate == pytest.approx(balanced_accuracy_score(labels[rows], guesses))
        assert own.low < own.estimate < own.high
        assert score.score.estimate == pytest.approx(cohen_kappa_score(labels[rows], guesses, weights="quadratic"))


@pytest.fixture(scope="module")
def findings() -> tuple[Panel, dict[str, np.ndarray]]:
    """Four findings of 200 images of patients with two; the third only women have, the fourth nobody."""
    rng = np.random.default_rng(0)
    truth, heads, patients, members = draw_findings(rng, (120, 80), (0.4, 0.3, 0.0, 0.0), per_patient=2, unknown=0.1)
    truth[[0, 10, 20, 30], 2] = 1.0
    ages = rng.integers(0, 80, 100).repeat(2)
    kept = {"sex": _texts(*np.where(members["group 0"], "F", "M")), "age": _texts(*ages)}
    kept["age"][:3] = ["", "old", "99"]
    return Panel(("A", "B", "rare", "none"), truth, tuple(heads), patients), kept


def test_by_subgroup__of_findings_are_the_pure_functions(findings: tuple[Panel, dict[str, np.ndarray]]) -> None:
    panel, kept = findings
    found = _found(panel, kept, is_multilabel=True)
    sexes = {name: kept["sex"] == name for name in ("F", "M")}
    expected, is_common = subgroups_of_findings(panel.truth, panel.odds, panel.groups, sexes)
    first = found.overall[0]
    assert (found.metric, found.unit, first.column) == ("auc", "group", "sex")
    assert first.findings == tuple(np.array(panel.names)[is_common])
    assert [score.score for score in first.scores] == [each.interval() for each in expected]
    own = gaps(expected, shared_rows=0.3, level=1 - 0.05 / 2).largest  # two columns are tested
    assert own is not None
    assert first.gap is not None
    assert first.gap.p_adjusted == pytest.approx(min(1.0, 2 * own.p_adjusted))
    sign = np.sign(own.comparison.difference.estimate)
    assert first.gap.comparison.difference.estimate == pytest.approx(sign * own.comparison.difference.estimate)


def test_by_subgroup__each_finding_is_scored_where_it_is_known(findings: tuple[Panel, dict[str, np.ndarray]]) -> None:
    panel, kept = findings
    found = _found(panel, kept, is_multilabel=True)
    for label, name in enumerate(panel.names[:2]):
        (division,) = [each for each in found.divisions if (each.column, each.finding) == ("sex", name)]
        for score in division.scores:
            rows = (kept["sex"] == score.name) & ~np.isnan(panel.truth[:, label])
            own = panel.truth[rows, label]
            expected = np.mean([roc_auc_score(own, fold[rows, label]) for fold in panel.odds])
            assert score.score.estimate == pytest.approx(expected)
            assert (score.n_images, score.n_positive) == (rows.sum(), own.sum())
            assert score.n_units == len(np.unique(panel.groups[rows]))


def test_by_subgroup__what_cannot_be_judged_says_why(findings: tuple[Panel, dict[str, np.ndarray]]) -> None:
    found = _found(*findings, is_multilabel=True)
    of = {(each.column, each.finding): each for each in found.divisions}
    assert len(of) == 2 * 5
    assert of["sex", "none"].gap is None
    assert of["sex", "none"].why_no_gap == "0 of 2 subgroups have a score; a gap is between two"
    reasons = [score.why_not for score in of["sex", "rare"].scores]
    assert reasons == ["", "0 patients with rare; it takes 3 of every class"]
    assert all(score.why_not or not np.isnan(score.score.low) for each in found.divisions for score in each.scores)
    rule = "it takes 3 with and 3 without in each subgroup"
    assert found.remarks == (
        f"by sex, means are over A, B, and without rare: {rule}",
        "1 test image without age",
        "1 test image whose age is no number: old",
        "1 test image whose age is outside of 0 to 80: 99",
        f"by age, means are over A, B, and without rare: {rule}",
    )


def test_by_subgroup__findings_are_a_family_of_their_own(findings: tuple[Panel, dict[str, np.ndarray]]) -> None:
    panel, kept = findings
    found = _found(panel, kept, is_multilabel=True)
    n_tests = sum(each.gap is not None for each in found.divisions if each.finding)
    (first,) = [each for each in found.divisions if (each.column, each.finding) == ("sex", "A")]
    rows = ~np.isnan(panel.truth[:, 0])
    has_it = panel.truth[rows, 0].astype(int)
    folds = [np.stack([-fold[rows, 0], fold[rows, 0]], 1) for fold in panel.odds]
    members = {name: kept["sex"][rows] == name for name in ("F", "M")}
    own = gaps(subgroups(has_it, folds, Units(has_it, panel.groups[rows]), members), shared_rows=0.3).largest
    assert n_tests > 2
    assert first.gap is not None
    assert own is not None
    assert first.gap.p_adjusted == pytest.approx(min(1.0, n_tests * own.p_adjusted))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy"])
def test_by_subgroup__of_classes_is_by_the_studys_metric(n_classes: int, metric: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % n_classes
    logits = [2.0 * np.eye(n_classes)[labels] + rng.normal(size=(120, n_classes)) for _ in range(2)]
    logs = [each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in logits]
    odds = [log_odds(each) for each in logs]
    names, first = ("low", "middle", "high")[:n_classes], int(n_classes == 2)
    truth = np.eye(n_classes)[labels][:, first:]
    panel = Panel(names[first:], truth, tuple(each[:, first:] for each in odds))
    kept = {"sex": _texts(*np.where(np.arange(120) < 70, "F", "M"))}
    found = _found(panel, kept, metric=metric, is_multilabel=False)
    (division,) = found.divisions
    assert (found.metric, found.unit) == (metric, "image")
    for score in division.scores:
        rows = kept["sex"] == score.name
        expected = scored(labels[rows], [each[rows] for each in odds], Units(labels[rows]))[metric]
        assert score.score.estimate == pytest.approx(expected.estimate, abs=1e-12)
        assert score.score.low == pytest.approx(expected.interval().low, abs=1e-9)
        assert score.n_positive == (int((labels[rows] == 1).sum()) if n_classes == 2 else None)


def test_said__names_a_gap_only_where_one_is_shown() -> None:
    """Heads that rank the images of M backwards, and others that do not."""
    rng = np.random.default_rng(0)
    truth, heads, _, members = draw_findings(rng, (100, 100), (0.4, 0.4))
    is_m = members["group 1"][:, None]
    kept = {"sex": _texts(*np.where(is_m[:, 0], "M", "F")), "age": _texts(*rng.integers(0, 80, 200))}
    for folds, is_gap in ((heads, False), ([np.where(is_m, -head, head) for head in heads], True)):
        found = _found(Panel(("A", "B"), truth, tuple(folds)), kept, is_multilabel=True)
        gap = found.overall[0].gap
        assert gap is not None
        assert gap.is_shown == is_gap == (gap.comparison.difference.low > 0.0)
        start = "By sex, mean AUC is 0." if is_gap else "No gap by sex, age is shown; the largest is by "
        assert found.said().startswith(start)
    assert "higher for F than for M, p < 0.001; 1 of 2 columns show a gap." in found.said()
    assert (gap.better, gap.worse) == ("F", "M")
    alone = _found(Panel(("A", "B"), truth, tuple(heads)), {"sex": _texts(*["F"] * 200)}, is_multilabel=True)
    assert alone.said() == "No gap between subgroups by sex could be tested."


def test_by_subgroup__survives_json(findings: tuple[Panel, dict[str, np.ndarray]]) -> None:
    from dataclasses import asdict

    found = _found(*findings, is_multilabel=True)
    again = rebuilt(BySubgroup, plain(asdict(found)))
    assert repr(again) == repr(found)  # nan is no nan's equal
