"""The answers on studies whose truth is known, and their numbers by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dvme.report.findings import _is_fusion_worth_it, find
from dvme.report.study import Study
from dvme.stats.crossed import crossed
from dvme.stats.curves import labels_needed
from dvme.stats.intervals import Interval
from dvme.stats.multiple import holm

Sweep = Callable[..., Path]
GAIN = Interval(0.05, 0.02, 0.08)


def _answers(folder: Path) -> tuple[list[str], str]:
    found = find(Study.load(folder / "run"))
    return [each.answer for each in found.answers], found.verdict


def test_find__a_clear_winner_and_no_gain(clear: Path, clear_study: Study) -> None:
    found = find(clear_study)
    backbone, fusion, labels = found.answers
    assert [each.question for each in found.answers] == ["Which backbone?", "Is fusion worth it?", "How many labels?"]
    assert backbone.answer == "good + linear"
    assert fusion.answer == "No gain is shown"
    assert found.verdict.startswith("good + linear is better than every other backbone; no gain by fusion is shown")
    estimate = clear_study.judge.resampled[0, 1].estimate
    assert f"test AUC {estimate:.3f} (95% CI" in backbone.details[0]
    assert "noise + linear" in backbone.details[1]
    assert labels.details[0].startswith("good + linear, from 40 to 128 training images:")


def test_find__differences_are_the_crossed_tests(clear_study: Study) -> None:
    """Methods are good + linear, noise + linear, concat; each family has one rival, so Holm changes nothing."""
    differences = find(clear_study).differences
    assert [(each.name, each.against) for each in differences] == [
        ("noise + linear", "good + linear"),
        ("concat of 2 backbones", "good + linear"),
    ]
    for rival, each in zip((1, 2), differences, strict=True):
        comparison = clear_study.judge.compared(rival, 0, 1)
        assert each.comparison == comparison
        assert each.p_adjusted == pytest.approx(holm([comparison.p])[0])
    assert differences[0].comparison.difference.estimate < -0.2


def test_find__two_of_a_kind_are_not_told_apart(sweep_of: Sweep) -> None:
    answers, verdict = _answers(sweep_of({"a": 0.5, "b": 0.5}, ["linear"]))
    assert answers[0].endswith("leads, none stands out")
    assert answers[1] == "Not asked"
    assert "cannot be told apart from it" in verdict
    assert "fus" not in verdict


def test_find__a_fusion_that_pays(sweep_of: Sweep) -> None:
    """Four weak backbones with noise of their own know more together than each alone."""
    signals = dict.fromkeys("abcd", 0.3)
    answers, verdict = _answers(sweep_of(signals, ["linear", "concat"], dim=12))
    assert answers[1].startswith("concat gains +0.")
    assert "fusing by concat gains +0." in verdict


def test_find__labels_are_those_of_the_curve(clear_study: Study) -> None:
    sizes, judge = [40.0, 128.0], clear_study.judge
    means = [judge.resampled[0, size].estimate for size in (0, 1)]
    needed = labels_needed(sizes, means, means[-1] - 0.02)
    details = " ".join(find(clear_study).answers[2].details)
    bound = "at most" if needed.is_at_most[0] else "about"
    assert f"Within 0.02 of its score with all 128: {bound} {needed.n[0]:,.0f} (95% CI" in details
    assert "These train; to choose on come 50% more." in details
    assert f"{means[1] - means[0]:+.3f} (95% CI" in details


def test_find__growth_is_over_the_last_doubling(sweep_of: Sweep) -> None:
    """From 60 to 128 images, not from 120 to 128."""
    study = Study.load(sweep_of({"a": 0.6}, ["linear"], sizes=["30", "60", "120", "full"]) / "run")
    means = [study.judge.resampled[0, size].estimate for size in range(4)]
    detail = find(study).answers[2].details[0]
    assert detail.startswith(f"a + linear, from 60 to 128 training images: {means[3] - means[1]:+.3f} (")
    gap = study.judge.resampled[0, 3] - study.judge.resampled[0, 1]
    growth = crossed(gap.folds, gap.test_covariance, study.judge.shared_rows(3))
    assert f"95% CI {growth.difference.low:+.3f} to {growth.difference.high:+.3f}), p {growth.p:.3f}" in detail


def test_find__the_fusion_is_singled_out_by_validation(clear_study: Study) -> None:
    """Two fusions: the one that leads on validation is shown, even where another does better on the test set."""
    judge = clear_study.judge
    fusions = [(m, find(clear_study).differences[1]) for m in clear_study.fusions]
    assert clear_study.leader([m for m, _ in fusions]) == max(clear_study.fusions, key=lambda m: judge.validation[m, 1])
    gain = replace(fusions[0][1], p_adjusted=0.001, comparison=replace(fusions[0][1].comparison, difference=GAIN))
    none = replace(gain, name="mlp of 2 backbones", p_adjusted=0.5)
    # Method 0 leads method 1 on validation by far; here they stand in for two fusions.
    found = _is_fusion_worth_it(clear_study, 0, [(0, none), (1, gain)])
    assert (found.answer, found.clause) == ("No gain is shown", "no gain by fusion is shown")
    assert "mlp of 2 backbones +0.050" in found.details[0]
    assert found.details[1].startswith("Shown to gain as well, but picked on the test set")
    assert _is_fusion_worth_it(clear_study, 0, [(0, gain), (1, none)]).answer == "concat gains +0.050"


def test_find__says_that_random_learned_nothing(sweep_of: Sweep) -> None:
    found = find(Study.load(sweep_of({"a": 0.5, "random@size=64": 0.5}, ["linear"]) / "run"))
    assert any("random is a network that learned nothing" in line for line in found.answers[0].details)


def test_find__intervals_and_p_hold_together(sweep_of: Sweep) -> None:
    """Three rivals: Bonferroni, so that an interval holds 0 exactly where p is at least 0.05."""
    study = Study.load(sweep_of({"a": 0.6, "b": 0.6, "c": 0.3, "d": 0.0}, ["linear"]) / "run")
    lead = study.leader(study.singles)
    assert lead is not None
    rivals = [m for m in study.singles if m != lead]
    for m, each in zip(rivals, find(study).differences, strict=True):
        alone = study.judge.compared(m, lead, study.last)
        assert each.p_adjusted == pytest.approx(min(1.0, 3 * alone.p))
        assert each.comparison.difference.includes_zero is (each.p_adjusted >= 0.05)
        assert each.comparison.difference.low < alone.difference.low


def test_find__one_backbone_one_size_and_only_fusions(sweep_of: Sweep) -> None:
    answers, _ = _answers(sweep_of({"a": 1.0}, ["linear"], sizes=["full"]))
    assert answers == ["a + linear", "Not asked", "One size shows no curve"]
    answers, verdict = _answers(sweep_of({"a": 1.0, "b": 1.0}, ["concat"], sizes=["full"]))
    assert answers[:2] == ["Only fusions were fitted", "Not asked"]
    assert verdict.startswith("concat of 2 backbones leads on validation")


def test_find__too_few_patients_for_an_interval(sweep_of: Sweep) -> None:
    """Twelve patients, of whom two or three are for testing."""
    groups = [f"p{image // 3 % 12}" for image in range(240)]
    found = find(Study.load(sweep_of({"a": 1.0, "b": 0.5}, ["linear"], group=groups) / "run"))
    assert "(no interval)" in found.answers[0].details[0]
    assert [each.answer for each in found.answers] == [
        "Too few test images to say",
        "Not asked",
        "Too few test images to say",
    ]
    assert found.verdict == "a + linear leads on validation."
    assert all(np.isnan(each.comparison.difference.low) for each in found.differences)
