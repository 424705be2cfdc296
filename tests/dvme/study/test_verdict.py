from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dvme.data import Task
from dvme.stats.influence import Scored
from dvme.stats.intervals import Interval
from dvme.study.methods import method_name
from dvme.study.outcome import Cell, Column, FusionVerdict, Score, StudyReport, Verdict
from dvme.study.roles import Roles
from dvme.study.standing import Standing
from dvme.study.verdict import Verdicts

Make = Callable[..., Scored]
Line = tuple[str, str, float]
"""Head, backbones by one letter each, and test AUC."""
ERROR = 0.05
"""Of every difference."""


def _verdicts(lines: Sequence[Line], standing: Standing) -> Verdicts:
    return Verdicts(Roles([(head, tuple(names)) for head, names, _ in lines]), standing, 0, "auc")


def _standing(make: Make, lines: Sequence[Line], **settings: Any) -> Standing:
    """The first line is the best on validation."""
    scored = {(n, 0): make(auc, ERROR / np.sqrt(2), n + 1, **settings) for n, (_, _, auc) in enumerate(lines)}
    return Standing(scored, {(n, 0): -float(n) for n in range(len(lines))}, [0.0])


def _fusions(make: Make, *lines: Line, **settings: Any) -> list[FusionVerdict]:
    return _verdicts(lines, _standing(make, lines, **settings)).fusions()


def _verdict(make: Make, *lines: Line, **settings: Any) -> Verdict | None:
    return _verdicts(lines, _standing(make, lines, **settings)).leading()


def _ends(difference: float, n_comparisons: int) -> tuple[float, float]:
    """Bonferroni: 5 per cent shared among the comparisons, half of each share on either side."""
    margin = ERROR * float(stats.t.ppf(1 - 0.025 / n_comparisons, 30))
    return difference - margin, difference + margin


def _text(difference: float, n_comparisons: int) -> str:
    low, high = _ends(difference, n_comparisons)
    together = f" for {n_comparisons} comparisons" if n_comparisons > 1 else ""
    return f"{difference:+.3f} test AUC (95% CI {low:+.3f} to {high:+.3f}{together})"


def test_fusions__a_single_comparison_is_not_widened(make_scored: Make) -> None:
    (verdict,) = _fusions(make_scored, ("dvme", "ab", 0.92), ("linear", "a", 0.80))
    assert (verdict.fusion, verdict.rival) == ("dvme of 2 backbones", "a + linear")
    assert (verdict.role, verdict.word) == ("single backbone", "gain")
    assert verdict.difference.estimate == pytest.approx(0.12)
    assert verdict.p_adjusted == pytest.approx(2 * stats.t.sf(0.12 / ERROR, 30))
    expected = "dvme beats the single backbone that leads on validation (a + linear): "
    assert verdict.sentence == expected + "+0.120 test AUC (95% CI +0.018 to +0.222)."


@pytest.mark.parametrize("controls", [(), ("mlp",), ("mlp", "concat", "mean-logits", "dvme-noattn")])
def test_fusions__intervals_widen_with_the_comparisons(make_scored: Make, controls: tuple[str, ...]) -> None:
    """The same difference is a gain over one rival alone, and none where it is one of five."""
    lines = [("dvme", "ab", 0.92), ("linear", "a", 0.80), *((name, "ab", 0.80) for name in controls)]
    verdicts = _fusions(make_scored, *lines)
    assert [verdict.rival for verdict in verdicts] == [method_name(head, names) for head, names, _ in lines[1:]]
    n = 1 + len(controls)
    for verdict in verdicts:
        assert (verdict.difference.low, verdict.difference.high) == pytest.approx(_ends(0.12, n))
        assert verdict.p_adjusted == pytest.approx(n * 2 * stats.t.sf(0.12 / ERROR, 30))
        assert verdict.word == ("gain" if n < 3 else "no gain shown")
        assert (f"for {n} comparisons" in verdict.sentence) == (n > 1)


def test_fusions__sentences(make_scored: Make) -> None:
    """Each of the 3 comparisons counts as 3."""
    lines = ("dvme", "ab", 0.75), ("concat", "ab", 0.95), ("linear", "a", 0.50), ("mlp", "ab", 0.70)
    verdicts = _fusions(make_scored, *lines)
    assert [(verdict.role, verdict.word) for verdict in verdicts] == [
        ("single backbone", "gain"),
        ("control", "loss"),
        ("control", "no gain shown"),
    ]
    assert [verdict.sentence for verdict in verdicts] == [
        f"dvme beats the single backbone that leads on validation (a + linear): {_text(0.25, 3)}.",
        f"dvme is worse than its control concat: {_text(-0.20, 3)}.",
        f"dvme against its control mlp: {_text(0.05, 3)}: no gain is shown.",
    ]


def test_fusions__every_single_backbone_that_may_be_the_best_has_to_be_beaten(make_scored: Make) -> None:
    """`b + knn` is second on validation and cannot be told apart from the first; `a + linear` is clearly worse."""
    lines = ("dvme", "ab", 0.92), ("knn", "a", 0.75), ("knn", "b", 0.85), ("linear", "a", 0.50)
    (verdict,) = _fusions(make_scored, *lines)
    hardest = "b + knn, the hardest of the 2 single backbones that may be the best"
    assert (verdict.rival, verdict.word) == ("b + knn", "no gain shown")
    assert verdict.sentence == f"dvme against {hardest}: {_text(0.07, 3)}: no gain is shown."
    (alone,) = _fusions(make_scored, *lines[:2], lines[3])
    assert (alone.rival, alone.word) == ("a + knn", "gain")


def test_fusions__no_fusion_stands_in_for_a_single_backbone(make_scored: Make) -> None:
    lines = ("mlp", "a", 0.99), ("knn", "b", 0.60), ("dvme", "ab", 0.90), ("linear", "a", 0.30)
    (verdict,) = _fusions(make_scored, *lines)
    assert (verdict.rival, verdict.word) == ("b + knn", "gain")


def test_fusions__controls_are_those_on_the_same_backbones(make_scored: Make) -> None:
    lines = ("dvme", "ab", 0.9), ("mlp", "abc", 0.8), ("concat", "ab", 0.8), ("linear", "ab", 0.8)
    assert [verdict.rival for verdict in _fusions(make_scored, *lines)] == ["concat of 2 backbones"]


def test_fusions__every_fusion_by_attention_has_its_own(make_scored: Make) -> None:
    lines = ("dvme", "ab", 0.9), ("linear", "a", 0.8), ("dvme-tokens", "ab", 0.7), ("mlp", "ab", 0.8)
    assert [(verdict.fusion, verdict.rival) for verdict in _fusions(make_scored, *lines)] == [
        ("dvme of 2 backbones", "a + linear"),
        ("dvme of 2 backbones", "mlp of 2 backbones"),
        ("dvme-tokens of 2 backbones", "a + linear"),
        ("dvme-tokens of 2 backbones", "mlp of 2 backbones"),
    ]


def test_fusions__nothing_without_a_fusion_or_with_two_images_of_a_class(make_scored: Make) -> None:
    assert _fusions(make_scored, ("linear", "a", 0.9), ("concat", "ab", 0.8)) == []
    assert _fusions(make_scored, ("dvme", "ab", 0.9), ("linear", "a", 0.8), n_second=2) == []


def test_fusions__the_same_predictions_are_no_gain(make_scored: Make) -> None:
    same = make_scored(0.9, ERROR, 1)
    standing = Standing({(0, 0): same, (1, 0): same}, {(0, 0): 0.0, (1, 0): -1.0}, [0.0])
    (verdict,) = _verdicts([("dvme", "ab", 0.9), ("linear", "a", 0.9)], standing).fusions()
    assert (verdict.word, verdict.p_adjusted) == ("no gain shown", 1.0)
    assert "+0.000 test AUC (no interval: both are right about the same images): no gain is shown." in verdict.sentence


@pytest.mark.parametrize(
    ("auc", "sentence"),
    [
        (0.95, "a + linear leads on validation and beats b + knn by {}."),
        (0.81, "a + linear leads on validation; against b + knn: {}, so these data do not tell them apart."),
        (0.60, "a + linear leads on validation, but b + knn is better on the test set: {}. Trust neither yet."),
    ],
)
def test_leading__sentences(make_scored: Make, auc: float, sentence: str) -> None:
    """The first on other backbones is compared, here the third on validation; both comparisons count."""
    verdict = _verdict(make_scored, ("linear", "a", auc), ("concat", "a", auc + 0.4), ("knn", "b", 0.80))
    assert verdict is not None
    assert verdict.sentence == sentence.format(_text(auc - 0.80, 2))
    assert (verdict.best, verdict.runner_up) == ("a + linear", "b + knn")
    assert verdict.p_adjusted == pytest.approx(min(1.0, 2 * 2 * stats.t.sf(abs(auc - 0.80) / ERROR, 30)))


def test_leading__several_folds_that_share_rows(make_scored: Make) -> None:
    """What folds share of their training rows widens the interval, by the crossed test worked out by hand."""
    folds = [np.array([0.90, 0.92, 0.97]), np.array([0.80, 0.85, 0.81])]
    spread = float(np.var(folds[0] - folds[1], ddof=1))
    for shared in (0.0, 0.75):
        scored = {}
        for n in (0, 1):
            flat = make_scored(0.0, ERROR / np.sqrt(2), n + 1, n_folds=3)
            scored[n, 0] = Scored("auc", folds[n], flat.parts, flat.units)
        standing = Standing(scored, {(0, 0): 0.9, (1, 0): 0.8}, [shared])
        verdict = _verdicts([("linear", "a", 0.93), ("knn", "b", 0.82)], standing).leading()
        assert verdict is not None
        from_folds = spread * (1 / 3 + shared / (1 - shared))
        variance = ERROR**2 + from_folds  # heads with the same parts have their whole test variance in common
        df = variance / (from_folds / 2 + ERROR**2 / 30)
        margin = math.sqrt(variance) * float(stats.t.ppf(0.975, df))
        assert verdict.difference.estimate == pytest.approx(0.11)
        assert (verdict.difference.low, verdict.difference.high) == pytest.approx((0.11 - margin, 0.11 + margin))


def test_leading__one_set_of_backbones_compares_its_heads(make_scored: Make) -> None:
    verdict = _verdict(make_scored, ("knn", "a", 0.9), ("linear", "a", 0.8))
    assert verdict is not None
    assert verdict.runner_up == "a + linear"


def test_leading__nothing_to_say(make_scored: Make) -> None:
    lines = ("knn", "a", 0.9), ("linear", "a", 0.8)
    assert _verdict(make_scored, lines[0]) is None
    assert _verdict(make_scored, *lines, n_second=2) is None


def test_score__over_folds() -> None:
    score = Score.over([1.0, 2.0, 6.0])
    assert (score.mean, score.folds) == (3.0, [1.0, 2.0, 6.0])
    assert score.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert math.isnan(Score.over([1.0]).std)


def test_fusions__roles_go_by_the_head_whatever_its_settings(make_scored: Make) -> None:
    """`dvme@heads=2` is a fusion by attention, `concat@strengths=1.0` its control, `knn@k=5` a single backbone's."""
    lines = ("dvme@heads=2", "ab", 0.75), ("concat@strengths=1.0", "ab", 0.95), ("knn@k=5", "a", 0.50)
    verdicts = _fusions(make_scored, *lines)
    assert [(each.role, each.word) for each in verdicts] == [("single backbone", "gain"), ("control", "loss")]
    assert [each.sentence for each in verdicts] == [
        f"dvme@heads=2 beats the single backbone that leads on validation (a + knn@k=5): {_text(0.25, 2)}.",
        f"dvme@heads=2 is worse than its control concat@strengths=1.0: {_text(-0.20, 2)}.",
    ]


def _cell(head: str, backbones: str, size: str, validation: float) -> Cell:
    scores = {"auc": Score(0.9, 0.0, [0.9])}
    between, nan = Interval(0.9, 0.8, 0.95), math.nan
    return Cell(head, tuple(backbones), size, validation, scores, between, "=", False, None, nan, None, 1.0, 3, [{}])


def test_study_report__rows_are_those_of_the_largest_size_and_json_is_plain() -> None:
    task = Task.from_labels(["x", "y"])
    lines = [("dvme", "ab", 0.7), ("knn", "a", math.nan), ("linear", "b", 0.8)]
    cells = [_cell(head, names, size, each) for size in ("full", "10") for head, names, each in lines]
    columns = [Column("full", 40.0, 10.0), Column("10", 10.0, 3.0)]  # the largest is no matter of the order
    report = StudyReport(
        *(None, "c.zarr", "hash", task, "plan", "auc", columns, cells, [], [], [], 12, 0, {}), saved=["heads/dvme--a+b"]
    )
    assert [(row.method, row.size) for row in report.rows] == [
        *(("b + linear", "full"), ("dvme of 2 backbones", "full"), ("a + knn", "full"))
    ]
    assert report.methods == [("dvme", ("a", "b")), ("knn", ("a",)), ("linear", ("b",))]
    plain = report.to_json()
    found = plain["cells"][0]
    assert (found["method"], found["head"], found["mark"]) == ("dvme of 2 backbones", "dvme", "=")
    assert (list(found["backbones"]), found["chosen"]) == (["a", "b"], [{}])
    assert plain["task"] == task.to_json()
    assert (plain["saved"], plain["fusion"], plain["verdict"], plain["run"]) == (["heads/dvme--a+b"], [], None, None)
