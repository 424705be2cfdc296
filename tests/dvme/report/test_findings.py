"""The answers on studies whose truth is known, and their numbers by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dvme.report.findings import find
from dvme.report.study import Study
from dvme.stats.curves import labels_needed
from dvme.stats.multiple import holm

Sweep = Callable[..., Path]


def _answers(folder: Path) -> tuple[list[str], str]:
    found = find(Study.load(folder / "run"))
    return [each.answer for each in found.answers], found.verdict


def test_find__a_clear_winner_and_no_gain(clear: Path, clear_study: Study) -> None:
    found = find(clear_study)
    backbone, fusion, labels = found.answers
    assert [each.question for each in found.answers] == ["Which backbone?", "Is fusion worth it?", "How many labels?"]
    assert backbone.answer == "good + linear"
    assert fusion.answer == "No gain is shown"
    assert found.verdict.startswith("good + linear is better than every other backbone; no fusion is shown to gain")
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
    assert f"Within 0.02 of its score with all 128: {bound} {needed.n[0]:,.0f} of them" in details
    assert f"{means[1] - means[0]:+.3f} (95% CI" in details


def test_find__growth_is_over_the_last_doubling(sweep_of: Sweep) -> None:
    """From 60 to 128 images, not from 120 to 128."""
    study = Study.load(sweep_of({"a": 0.6}, ["linear"], sizes=["30", "60", "120", "full"]) / "run")
    means = [study.judge.resampled[0, size].estimate for size in range(4)]
    detail = find(study).answers[2].details[0]
    assert detail.startswith(f"a + linear, from 60 to 128 training images: {means[3] - means[1]:+.3f} (")
    curves = [study.judge.both_ways(0, size) for size in (1, 3)]
    low, high = np.quantile(curves[1] - curves[0], [0.025, 0.975])
    assert f"95% CI {low:+.3f} to {high:+.3f}" in detail


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
    assert found.answers[2].answer == "Too few test images to say"
    assert all(np.isnan(each.comparison.difference.low) for each in found.differences)
