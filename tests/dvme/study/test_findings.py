"""The answers on studies whose truth is known, and their numbers by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from light import named
from scipy.linalg import hadamard
from sklearn.metrics import roc_auc_score

from dvme.stats.crossed import crossed
from dvme.stats.curves import labels_needed
from dvme.stats.influence import Scored
from dvme.stats.intervals import Comparison, Interval
from dvme.stats.units import Units
from dvme.study.answers import Difference, Findings
from dvme.study.findings import _how_many_labels, _is_fusion_worth_it, _other_backbones
from dvme.study.findings import find as find_of
from dvme.study.loaded import Study
from dvme.study.roles import Leaders, Roles
from dvme.study.standing import Against, Standing, Versus
from dvme.study.wording import Table
from dvme.text import p_text

Sweep = Callable[..., Path]
LINEAR, CONCAT = named("linear"), named("concat")
GAIN = Comparison(Interval(0.05, 0.02, 0.08), 0.001, 4.0, 9.0)
FOUR = {"a": 0.6, "b": 0.6, "c": 0.3, "d": 0.0}
PAYS = dict.fromkeys("abcd", 0.3)
"""Four weak backbones with noise of their own know more together than each alone."""


def find(study: Study) -> Findings:
    """Of the judge that read the run."""
    return find_of(study.judge, study.summary.gains)


def _table(study: Study) -> Table:
    return Table(study.judge, study.summary.gains)


def _answers(folder: Path) -> tuple[list[str], str]:
    found = find(Study.load(folder / "run"))
    return [each.answer for each in found.answers], found.verdict


def _auc(study: Study, method: int, size: int) -> float:
    """Of the stored predictions, by scikit-learn: mean over the draws."""
    jobs, labels = study.run.finished[method, size], study.judge.labels[study.run.manifest.test]
    return float(np.mean([roc_auc_score(labels, job.test, multi_class="ovr") for job in jobs]))


def _by_hand(study: Study, one: int, other: int, size: int, level: float = 0.95) -> Comparison:
    gap = study.judge.scored[one, size] - study.judge.scored[other, size]
    shared = study.judge.shared_rows[size]
    found = crossed(gap.folds, gap.test_covariance, shared, test_df=gap.test_df, level=level)
    low, high = max(found.difference.low, -1.0), min(found.difference.high, 1.0)
    return replace(found, difference=replace(found.difference, low=low, high=high))


def _check_family(study: Study, found: list[Difference], lead: int) -> None:
    """Differences from the method that leads at the largest size hold together with all of the table of two sizes."""
    n_comparisons = 2 * (len(study.run.methods) - 1)
    names = [study.name(m) for m in range(len(study.run.methods))]
    for each in found:
        place = (names.index(each.name), lead, 1)
        alone = _by_hand(study, *place)
        assert each.p_adjusted == pytest.approx(min(1.0, n_comparisons * alone.p))
        together = _by_hand(study, *place, level=1.0 - 0.05 / n_comparisons)
        assert each.comparison.difference.low == pytest.approx(together.difference.low)
        assert each.comparison.difference.includes_zero is (each.p_adjusted >= 0.05)


def test_find__a_clear_winner_and_no_gain(clear: Path, clear_study: Study) -> None:
    found = find(clear_study)
    backbone, fusion, labels = found.answers
    assert [each.question for each in found.answers] == ["Which backbone?", "Is fusion worth it?", "How many labels?"]
    assert backbone.answer == f"good + {LINEAR}"
    assert fusion.answer == "No gain is shown"
    assert found.verdict.startswith(f"good + {LINEAR} is better than every other backbone; no gain by fusion is shown")
    assert f"test AUC {_auc(clear_study, 0, 1):.3f} (95% CI" in backbone.details[0]
    assert backbone.details[1].startswith(f"Shown to be worse (intervals for 4 comparisons): noise + {LINEAR} -0.")
    assert labels.details[0].startswith(f"good + {LINEAR}, from 40 to 128 training images:")


def test_find__differences_are_the_crossed_tests(clear_study: Study) -> None:
    """Methods are good + linear, noise + linear, concat: the fusion need not beat what is shown to be worse."""
    differences = find(clear_study).differences
    assert [(each.name, each.against) for each in differences] == [
        (f"noise + {LINEAR}", f"good + {LINEAR}"),
        (f"{CONCAT} of 2 backbones", f"good + {LINEAR}"),
    ]
    _check_family(clear_study, list(differences), 0)
    assert differences[0].comparison.difference.estimate < -0.2


def test_find__two_of_a_kind_are_not_told_apart(sweep_of: Sweep) -> None:
    answers, verdict = _answers(sweep_of({"a": 0.4, "b": 0.4}, ["linear"], dim=16))
    assert answers[0].endswith("leads, none stands out")
    assert answers[1] == "Not asked"
    assert "cannot be told apart from it" in verdict
    assert "fus" not in verdict


def test_find__of_one_backbone_the_heads_are_told_apart_or_not(sweep_of: Sweep) -> None:
    """In the words of the table's marks."""
    study = Study.load(sweep_of({"a": 0.4}, ["linear", "knn"], sizes=["full"]) / "run")
    found, by_mark = find(study), {cell.mark: cell.method for cell in study.summary.cells}
    lead = by_mark.pop("*")
    ((mark, other),) = by_mark.items()
    where = "on the only backbone that was tried"
    clause, detail = {
        "=": (f"{lead} leads, {where}, but {other} cannot be told apart from it", "Not told apart from it: "),
        "": (f"{lead} is better than every other head, {where}", "Shown to be worse: "),
        "+": (
            f"{lead} leads on validation, {where}, but {other} is better on the test set",
            "Better on the test set: ",
        ),
    }[mark]
    assert found.verdict.startswith(clause)
    assert found.answers[0].details[1] == "No other backbone was tried."
    assert found.answers[0].details[2].startswith(f"{detail}{other} ")
    assert [(each.name, each.against) for each in found.differences] == [(other, lead)]


def test_find__a_fusion_that_pays(sweep_of: Sweep) -> None:
    answers, verdict = _answers(sweep_of(PAYS, ["linear", "concat"], sizes=["full"], dim=16, n_folds=5))
    assert answers[1].startswith(f"{CONCAT} gains +0.")
    assert f"fusing by {CONCAT} gains +0." in verdict
    assert " AUC" in verdict


@pytest.mark.parametrize(
    ("signals", "word"), [(PAYS, "gain"), (FOUR, ""), ({"good": 1.0, "noise": 0.2}, ""), ({"a": 1.2, "b": 1.2}, "")]
)
def test_find__headline_cards_gains_and_marks_agree(sweep_of: Sweep, signals: dict[str, float], word: str) -> None:
    study = Study.load(sweep_of(signals, ["linear", "concat"], sizes=["full"], dim=16, n_folds=5) / "run")
    found, last = find(study), study.run.manifest.sizes[-1]
    rows = [each for each in study.summary.gains if (each.size, each.role) == (last, "single backbone")]
    marks = {cell.method: cell.mark for cell in study.summary.cells if cell.size == last}
    assert [each.fusion for each in rows] == [f"{CONCAT} of {len(signals)} backbones"]
    row, shown = rows[0], [each for each in found.differences if each.name == rows[0].fusion]
    assert [(each.against, each.p_adjusted) for each in shown] == [
        (each.method, each.p_adjusted) for each in row.rivals
    ]
    is_gain = "gains" in found.verdict
    assert is_gain is (word == "gain")
    assert is_gain is ("gains" in found.answers[1].answer) is (row.word == "gain")
    assert is_gain is all(each.word == "gain" for each in shown)
    if is_gain:
        gained = f"{row.comparison.difference.estimate:+.3f}"
        assert f"{gained} AUC" in found.verdict
        assert found.answers[1].answer.startswith(f"{CONCAT} gains {gained}")
        assert min(each.comparison.difference.estimate for each in row.rivals) == row.comparison.difference.estimate
        assert (marks[row.fusion], marks[row.leader]) in {("*", ""), ("+", "*")}
        assert marks[row.fusion] != "*" or {marks[each.method] for each in row.rivals} == {""}
    else:
        assert {marks[row.fusion], marks[row.leader]} & {"="} or row.word == "loss"


def test_find__labels_are_those_of_the_curve(sweep_of: Sweep) -> None:
    study = Study.load(sweep_of({"a": 0.6}, ["linear"]) / "run")
    means = [_auc(study, 0, size) for size in (0, 1)]
    needed = labels_needed([40.0, 128.0], means, means[-1] - 0.02)
    details = " ".join(find(study).answers[2].details)
    bound = "at most" if needed.is_at_most[0] else "about"
    assert f"Within 0.02 of its score with all 128: {bound} {needed.n[0]:,.0f} (95% CI" in details
    assert "These are training images; to choose on come 50% more." in details
    assert f"{means[1] - means[0]:+.3f} (95% CI" in details


def test_find__growth_is_over_the_last_doubling(sweep_of: Sweep) -> None:
    """From 60 to 128 images, not from 120 to 128."""
    study = Study.load(sweep_of({"a": 0.6}, ["linear"], sizes=["30", "60", "120", "full"]) / "run")
    detail = find(study).answers[2].details[0]
    rise = _auc(study, 0, 3) - _auc(study, 0, 1)
    assert detail.startswith(f"a + {LINEAR}, from 60 to 128 training images: {rise:+.3f} (")
    gap = study.judge.scored[0, 3] - study.judge.scored[0, 1]
    growth = crossed(gap.folds, gap.test_covariance, study.judge.shared_rows[3], test_df=gap.test_df)
    assert f"95% CI {growth.difference.low:+.3f} to {growth.difference.high:+.3f}), p {p_text(growth.p)}" in detail


def test_find__the_fusion_is_singled_out_by_validation(clear_study: Study) -> None:
    """Two fusions: the one that leads on validation is shown, even where another does better on the test set."""
    gain, none = (Against(2, {2: Versus(GAIN, p)}) for p in (0.001, 0.5))
    # Method 0 leads method 1 on validation by far; here they stand in for two fusions, and the fusion for their rival.
    found = _is_fusion_worth_it(_table(clear_study), {1: gain, 0: none})
    assert (found.answer, found.clause) == ("No gain is shown", "no gain by fusion is shown")
    assert f"minus {CONCAT} of 2 backbones +0.050 (95% CI +0.020 to +0.080), p 0.500" in found.details[0]
    assert found.details[1].startswith("Shown to gain as well, but picked on the test set")
    assert _is_fusion_worth_it(_table(clear_study), {1: none, 0: gain}).answer.startswith(f"{LINEAR} gains")


def test_find__says_that_random_learned_nothing(sweep_of: Sweep) -> None:
    found = find(Study.load(sweep_of({"a": 0.4, "random@size=64": 0.4}, ["linear"], dim=16) / "run"))
    assert any("random is a network that learned nothing" in line for line in found.answers[0].details)


def test_find__intervals_and_p_hold_together(sweep_of: Sweep) -> None:
    """Three rivals at each of two sizes: an interval holds 0 exactly where p is at least 0.05."""
    study = Study.load(sweep_of(FOUR, ["linear"]) / "run")
    found = find(study)
    assert len(found.differences) == 3
    assert {each.word for each in found.differences} == {"loss", "no gain shown"}
    _check_family(study, list(found.differences), study.lead)
    assert "(intervals for 6 comparisons)" in found.answers[0].details[1]


def test_find__one_backbone_one_size_and_only_fusions(sweep_of: Sweep) -> None:
    answers, _ = _answers(sweep_of({"a": 1.0}, ["linear"], sizes=["full"]))
    assert answers == [f"a + {LINEAR}", "Not asked", "One size shows no curve"]
    answers, verdict = _answers(sweep_of({"a": 1.0, "b": 1.0}, ["concat"], sizes=["full"]))
    assert answers[:2] == ["Only fusions were fitted", "Not asked"]
    assert verdict.startswith(f"{CONCAT} of 2 backbones leads on validation")


def test_find__too_few_patients_for_an_interval(sweep_of: Sweep) -> None:
    """Eight patients, of whom two are for testing."""
    groups = [f"p{image // 3 % 8}" for image in range(240)]
    found = find(Study.load(sweep_of({"a": 1.0, "b": 0.5}, ["linear"], group=groups) / "run"))
    assert "(no interval)" in found.answers[0].details[0]
    assert [each.answer for each in found.answers] == [
        "Too few test images to say",
        "Not asked",
        "Too few test images to say",
    ]
    assert found.verdict == f"a + {LINEAR} leads on validation."
    assert all(np.isnan(each.comparison.difference.low) for each in found.differences)


def test_which_backbone__is_worse_only_where_all_of_its_methods_are(clear_study: Study) -> None:
    """The table marks `b + knn` as not told apart, so b is not worse, whatever its leading method is."""
    methods = (("linear", ("a",)), ("linear", ("b",)), ("knn", ("b",)), ("linear", ("c",)), ("knn", ("c",)))
    means = (0.90, 0.80, 0.89, 0.80, 0.79)
    units = Units(np.repeat([0, 1], 16))
    scored = {
        (m, 0): Scored("auc", np.full(2, mean), 0.002 * np.tile(hadamard(32)[m + 1, :, None], 2), units)
        for m, mean in enumerate(means)
    }
    standing = Standing(scored, {(m, 0): -float(m) for m in range(5)}, [0.0])
    assert [standing.mark(m, 0) for m in range(5)] == ["*", "", "=", "", ""]
    judge: Any = SimpleNamespace(
        leaders=Leaders(Roles(methods), standing, 0),
        standing=standing,
        methods=methods,
        validation=standing.validation,
        manifest=clear_study.run.manifest,
    )
    found = _other_backbones(Table(judge, []), 0)
    assert {each.name: each.word for each in found.values()} == {"b + knn": "no gain shown", "c + linear": "loss"}


def test_how_many_labels__equal_scores_are_no_lack_of_images(clear_study: Study) -> None:
    """A perfect score at both sizes: there is a test, of a difference that is 0."""
    perfect = replace(clear_study.judge.scored[0, 0], folds=np.ones(3), parts=0 * clear_study.judge.scored[0, 0].parts)
    judge = clear_study.judge
    before = dict(judge.scored)
    try:
        judge.scored.update({(0, 0): perfect, (0, 1): perfect})
        found = _how_many_labels(_table(clear_study), 0)
    finally:
        judge.scored.update(before)
    assert found.answer == "Too uncertain to say"
    assert "+0.000 (no interval), p > 0.999. That is not shown to be more than chance." in found.details[0]
