from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.data import Task
from dvme.evaluation.outcome import ProbeReport, ProbeRow, Score
from dvme.evaluation.verdict import fusion_verdicts, verdict_of
from dvme.stats import Interval, Resampled
from dvme.stats.crossed import crossed

# Percentiles of 0, 0.01, ..., 1 can be read off: the p-th is p / 100. With the median as the estimate, and no units
# left out, BCa intervals are percentile intervals.
STEPS = np.arange(101) / 100


def _row(head: str, backbones: str, auc: float, validation: float = 0.5) -> ProbeRow:
    score = Score(auc, 0.0, [auc])
    return ProbeRow(tuple(backbones), head, 4, validation, {"auc": score}, Interval(auc, auc, auc), [{}])


def _of(estimate: float, resampled: NDArray[Any]) -> Resampled:
    return Resampled(np.array([estimate]), resampled, np.empty((0, 1)), np.empty(0, dtype=int))


def _resampled(rows: list[ProbeRow], **gains: float) -> dict[str, Resampled]:
    """Resampled AUCs such that a row's lead over one without a gain is spread evenly over gain to gain + 1."""
    order = np.random.default_rng(0).permutation(101)  # paired, so the order of the resamples is of no account
    base = np.random.default_rng(1).normal(size=101)
    found = {row.method: _of(0.0, base[order]) for row in rows}
    for row in rows:
        if row.head in gains:
            found[row.method] = _of(gains[row.head] + 0.5, (base + STEPS + gains[row.head])[order])
    return found


def test_fusion_verdicts__a_single_comparison_is_not_widened() -> None:
    rows = [_row("dvme", "ab", 0.9), _row("linear", "a", 0.8)]
    (verdict,) = fusion_verdicts(rows, shared_rows=0.0, resampled=_resampled(rows, dvme=-0.01))
    assert (verdict.fusion, verdict.rival) == ("dvme of 2 backbones", "a + linear")
    assert verdict.role == "best single backbone"
    assert verdict.difference.estimate == pytest.approx(0.49)
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx((0.025 - 0.01, 0.975 - 0.01))
    expected = "dvme beats the best single backbone (a + linear): +0.490 test AUC (95% CI +0.015 to +0.965)."
    assert verdict.sentence == expected


@pytest.mark.parametrize(
    ("controls", "tail"), [([], 0.025), (["mlp"], 0.0125), (["mlp", "concat", "mean-logits", "dvme-noattn"], 0.005)]
)
def test_fusion_verdicts__intervals_widen_with_the_comparisons(controls: list[str], tail: float) -> None:
    """Bonferroni: 5 per cent shared among k comparisons, half of each share on either side."""
    rows = [_row("dvme", "ab", 0.9), _row("linear", "a", 0.8), *(_row(name, "ab", 0.7) for name in controls)]
    verdicts = fusion_verdicts(rows, shared_rows=0.0, resampled=_resampled(rows, dvme=-0.01))
    assert len(verdicts) == 1 + len(controls)
    for verdict in verdicts:
        assert verdict.difference.low == pytest.approx(tail - 0.01)
        assert verdict.difference.high == pytest.approx(1 - tail - 0.01)
        assert (f"{len(verdicts)} comparisons together" in verdict.sentence) == bool(controls)
    # The same resamples show a gain over one rival alone, and none where it is one of five.
    shows_no_gain = ["no gain is shown" in verdict.sentence for verdict in verdicts]
    assert shows_no_gain == [tail < 0.01] * len(verdicts)


def test_fusion_verdicts__win_loss_and_no_gain() -> None:
    """Of 3 comparisons each tail is 0.05 / 6 = 0.00833; the fusion's resamples are 0, 0.01, ..., 1."""
    rows = [
        _row("concat", "ab", 0.95),
        _row("dvme", "ab", 0.9),
        _row("linear", "a", 0.8),
        _row("mlp", "ab", 0.85),
    ]
    rivals = {"concat of 2 backbones": 1.5, "a + linear": -0.5, "mlp of 2 backbones": 0.3}
    resampled = {name: _of(value, np.full(101, value)) for name, value in rivals.items()}
    resampled["dvme of 2 backbones"] = _of(0.5, STEPS)
    verdicts = fusion_verdicts(rows, shared_rows=0.0, resampled=resampled)
    assert [verdict.sentence for verdict in verdicts] == [
        "dvme beats the best single backbone (a + linear): +1.000 test AUC "
        "(95% CI +0.508 to +1.492, 3 comparisons together).",
        "dvme is worse than its control concat: -1.000 test AUC (95% CI -1.492 to -0.508, 3 comparisons together).",
        "dvme against its control mlp: +0.200 test AUC "
        "(95% CI -0.292 to +0.692, 3 comparisons together): no gain is shown.",
    ]
    assert [verdict.role for verdict in verdicts] == ["best single backbone", "control", "control"]


def test_fusion_verdicts__no_gain_where_the_interval_touches_zero() -> None:
    rows = [_row("dvme", "ab", 0.9), _row("linear", "a", 0.8)]
    resampled = {"dvme of 2 backbones": _of(0.25, np.array([0.0, 0.0, 0.0, 1.0])), "a + linear": _of(0.0, np.zeros(4))}
    (verdict,) = fusion_verdicts(rows, shared_rows=0.0, resampled=resampled)
    assert verdict.difference.low == 0.0
    assert verdict.sentence.endswith(": no gain is shown.")


def test_fusion_verdicts__the_best_single_backbone_is_the_best_on_validation() -> None:
    """Not on the test set, under whichever head; no fusion stands in for it, not even of one backbone."""
    rows = [
        _row("mlp", "a", 0.99),
        _row("knn", "b", 0.6),
        _row("dvme", "ab", 0.9),
        _row("linear", "a", 0.95),
    ]
    (verdict,) = fusion_verdicts(rows, shared_rows=0.0, resampled=_resampled(rows, dvme=-0.2))
    assert verdict.rival == "b + knn"
    assert verdict.difference.estimate == pytest.approx(0.3)


def test_fusion_verdicts__controls_are_those_on_the_same_backbones() -> None:
    rows = [_row("dvme", "ab", 0.9), _row("mlp", "abc", 0.8), _row("concat", "ab", 0.8), _row("linear", "ab", 0.8)]
    verdicts = fusion_verdicts(rows, shared_rows=0.0, resampled=_resampled(rows))
    assert [verdict.rival for verdict in verdicts] == ["concat of 2 backbones"]


def test_fusion_verdicts__every_fusion_by_attention_has_its_own_and_all_hold_together() -> None:
    rows = [_row("dvme", "ab", 0.9), _row("linear", "a", 0.8), _row("dvme-tokens", "ab", 0.7), _row("mlp", "ab", 0.8)]
    verdicts = fusion_verdicts(
        rows, shared_rows=0.0, resampled=_resampled(rows, dvme=0.0) | {"dvme-tokens of 2 backbones": _of(0.5, STEPS)}
    )
    assert [(verdict.fusion, verdict.rival) for verdict in verdicts] == [
        ("dvme of 2 backbones", "a + linear"),
        ("dvme of 2 backbones", "mlp of 2 backbones"),
        ("dvme-tokens of 2 backbones", "a + linear"),
        ("dvme-tokens of 2 backbones", "mlp of 2 backbones"),
    ]
    for verdict in verdicts[:2]:
        assert (verdict.difference.low, verdict.difference.high) == pytest.approx((0.00625, 0.99375))


def test_fusion_verdicts__nothing_without_a_fusion_or_without_resamples() -> None:
    singles = [_row("linear", "a", 0.9), _row("concat", "ab", 0.8)]
    assert fusion_verdicts(singles, shared_rows=0.0, resampled=_resampled(singles)) == []
    rows = [_row("dvme", "ab", 0.9), _row("linear", "a", 0.8)]
    assert fusion_verdicts(rows, shared_rows=0.0, resampled={row.method: _of(0.5, np.empty(0)) for row in rows}) == []


def test_fusion_verdicts__undefined_resamples_are_passed_over() -> None:
    rows = [_row("dvme", "ab", 0.9), _row("linear", "a", 0.8)]
    resampled = _resampled(rows, dvme=0.5)
    gappy = {
        name: _of(each.estimate, np.concatenate([each.resampled, [np.nan] * 50])) for name, each in resampled.items()
    }
    one, other = (fusion_verdicts(rows, shared_rows=0.0, resampled=each)[0].difference for each in (resampled, gappy))
    assert one == other


@pytest.mark.parametrize(
    ("auc", "gain", "sentence"),
    [
        (0.9, 0.1, "a + linear leads on validation and beats b + knn by +0.600 test AUC (95% CI +0.125 to +1.075)."),
        (
            0.81,
            -0.5,
            "a + linear leads on validation; against b + knn: +0.000 test AUC (95% CI -0.475 to +0.475), "
            "so these data do not tell them apart.",
        ),
        (
            0.5,
            -2.0,
            "a + linear leads on validation, but b + knn is better on the test set: -1.500 test AUC "
            "(95% CI -1.975 to -1.025). Trust neither yet.",
        ),
    ],
)
def test_verdict_of__sentences(auc: float, gain: float, sentence: str) -> None:
    rows = [_row("linear", "a", auc), _row("linear2", "a", 0.99), _row("knn", "b", 0.8)]
    verdict = verdict_of(rows, shared_rows=0.0, resampled=_resampled(rows, linear=gain))
    assert verdict is not None
    assert verdict.sentence == sentence
    assert (verdict.best, verdict.runner_up) == ("a + linear", "b + knn")


def test_verdict_of__several_folds_are_judged_by_the_crossed_test() -> None:
    """Heads and test images both left to chance; what folds share of their training rows widens the interval."""
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], 15)
    rows = [_row("linear", "a", 0.9), _row("knn", "b", 0.8)]
    resampled = {
        row.method: Resampled(
            row.test["auc"].mean + 0.1 * rng.normal(size=5),
            rng.normal(size=200),
            0.9 + 0.01 * rng.normal(size=(30, 5)),
            strata,
        )
        for row in rows
    }
    gap = resampled["a + linear"] - resampled["b + knn"]
    widths = []
    for shared in (0.0, 0.75):
        verdict = verdict_of(rows, resampled, shared)
        assert verdict is not None
        assert verdict.difference == crossed(gap.folds, gap.test_covariance, shared).difference
        widths.append(verdict.difference.high - verdict.difference.low)
    assert widths[1] > widths[0]


def test_verdict_of__one_set_of_backbones_compares_its_heads() -> None:
    rows = [_row("knn", "a", 0.9), _row("linear", "a", 0.8)]
    verdict = verdict_of(rows, shared_rows=0.0, resampled=_resampled(rows, knn=0.0))
    assert verdict is not None
    assert verdict.runner_up == "a + linear"


def test_verdict_of__nothing_to_say() -> None:
    rows = [_row("knn", "a", 0.9), _row("linear", "a", 0.8)]
    assert verdict_of(rows[:1], shared_rows=0.0, resampled=_resampled(rows)) is None
    assert verdict_of(rows, shared_rows=0.0, resampled={row.method: _of(0.5, np.empty(0)) for row in rows}) is None


def test_score__over_folds() -> None:
    score = Score.over([1.0, 2.0, 6.0])
    assert (score.mean, score.folds) == (3.0, [1.0, 2.0, 6.0])
    assert score.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert math.isnan(Score.over([1.0]).std)


def test_probe_report__to_json_is_plain() -> None:
    row = replace(_row("dvme", "ab", 0.9), chosen=[{"epoch": 3}])
    task = Task.from_labels(["x", "y"])
    report = ProbeReport("c.zarr", task, "plan", {}, [], [row], None, [], ["heads/dvme--a+b"])
    plain = report.to_json()
    assert (plain["rows"][0]["backbone"], plain["rows"][0]["head"]) == ("a+b", "dvme")
    assert plain["rows"][0]["chosen"] == [{"epoch": 3}]
    assert plain["task"] == task.to_json()
    assert (plain["saved"], plain["fusion"], plain["verdict"]) == (["heads/dvme--a+b"], [], None)
