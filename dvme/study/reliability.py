"""How far methods can be trusted, finding by finding, as plain values: what `dvme.study.assess` found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from dvme.stats.intervals import Interval
from dvme.text import counted, difference_text, some_of

Scaling = Literal["before", "temperature", "platt"]
SCALINGS: tuple[Scaling, ...] = ("before", "temperature", "platt")
"""Probabilities as the heads give them, and after scaling that each draw's validation images were taken for."""
UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class OperatingPoint:
    """What becomes of the test images at thresholds that were chosen on validation; means over the draws' heads."""

    thresholds: tuple[float, ...]
    """By draw, as probabilities before any scaling; above is a yes. nan where validation had nothing to choose by."""
    sensitivity: Interval
    specificity: Interval
    missed: Interval
    """False negative rate, underdiagnosis: 1 less the sensitivity."""
    balanced_accuracy: Interval
    f1: Interval
    """At the prevalence of the test images, as are the next two, by Bayes' rule from sensitivity and specificity."""
    positive_predictive_value: Interval
    negative_predictive_value: Interval
    stated_prevalence: float
    """nan: none was stated, and the next two are nan."""
    stated_positive_predictive_value: Interval
    stated_negative_predictive_value: Interval
    true_positives: float
    """Test images, mean over the heads, as are the next three."""
    false_negatives: float
    false_positives: float
    true_negatives: float

    @property
    def n_draws(self) -> int:
        """Draws with a threshold; the others' heads take no part here."""
        return sum(not math.isnan(each) for each in self.thresholds)


@dataclass(frozen=True)
class Fit:
    """How probabilities fit the truth; means over the draws' heads."""

    expected_error: Interval
    """ECE, 10 bins of equal width."""
    expected_error_by_mass: Interval
    """ECE, 10 bins of equally many images."""
    largest_error: Interval
    """MCE, of the bins of equal width."""
    brier: Interval
    log_loss: Interval
    confidence: tuple[float, ...]
    """Of the bins of equal width, over the heads' images together: mean probability; nan in an empty bin."""
    share: tuple[float, ...]
    """Part that has the finding."""
    low: tuple[float, ...]
    """Of that part: Wilson's 95 per cent interval, which takes images for independent."""
    high: tuple[float, ...]
    n_images: tuple[float, ...]
    """Of each bin, mean over the heads."""


@dataclass(frozen=True)
class FindingReliability:
    """One finding, or one class against the others, by one method on the test images."""

    finding: str
    n_known: int
    """Test images of which it is known whether they have it: all numbers are of these."""
    n_positive: int
    """Of these, how many have it."""
    n_masked: int
    """Test images of which it is not known: they take no part."""
    n_uncertain: int | None
    """Of the masked ones, those that the labels call uncertain; the others are blank. None: nobody could tell."""
    prevalence: Interval
    why_not: str = ""
    """Why there is nothing below; mostly nothing."""
    brief: str = ""
    """The same in a few words."""
    auc: Interval = UNDEFINED
    auc_together: Interval = UNDEFINED
    """The same, widened for all findings that can be judged (Bonferroni): all of them hold in 95 of 100 studies."""
    average_precision: Interval = UNDEFINED
    """Chance has the prevalence."""
    at: OperatingPoint | None = None
    why_not_at: str = ""
    """Why there is no operating point, or one of some draws only; mostly nothing."""
    fits: dict[str, Fit] = field(default_factory=dict)
    """By SCALINGS."""
    notes: tuple[str, ...] = ()
    """Why probabilities of some draw are not scaled."""
    missed: tuple[Interval, ...] = ()
    """False negative rate at each of the study's `thresholds`."""
    alarms: tuple[Interval, ...] = ()
    """False positive rate at each of them."""
    risk: tuple[float, ...] = ()
    """Part of the decisions that are wrong among the images that are kept, at each of the study's `coverages`."""
    risk_area: Interval = UNDEFINED
    """Area under that curve."""
    oracle: tuple[Interval, ...] = ()
    """AUC after each of the study's `fractions` of images was referred, by the stated definition."""
    cumulative_oracle: tuple[Interval, ...] = ()
    """The same as the published tables have it: each fraction on top of those before it."""


@dataclass(frozen=True)
class MethodReliability:
    """One method at the largest size."""

    method: str
    """What it is called in a sentence."""
    findings: tuple[FindingReliability, ...]
    temperatures: tuple[float, ...]
    """By draw."""
    oracle: tuple[Interval, ...] = ()
    """Mean over the findings that can be judged, see `FindingReliability.oracle`."""
    cumulative_oracle: tuple[Interval, ...] = ()

    @property
    def judged(self) -> tuple[FindingReliability, ...]:
        """Those that can be."""
        return tuple(each for each in self.findings if not each.why_not)


@dataclass(frozen=True)
class Reliability:
    """All that is said of single findings."""

    what: str
    """`finding` or `class`."""
    at: str
    """`specificity 0.90`: what the operating points reach on validation."""
    unit: str
    """`test image` or `test group`: what the intervals are over."""
    n_units: int
    n_images: int
    n_draws: int
    n_resamples: int
    """Of the bootstrap of average precision."""
    thresholds: tuple[float, ...]
    """Probabilities."""
    coverages: tuple[float, ...]
    fractions: tuple[float, ...]
    methods: tuple[MethodReliability, ...]
    """The one that leads on validation first, then those of each kind."""

    @property
    def leading(self) -> MethodReliability:
        """The method that leads on validation."""
        return self.methods[0]

    @property
    def told(self) -> list[FindingReliability]:
        """What the leading method tells from chance, by the intervals for all findings together."""
        return [each for each in self.leading.judged if each.auc_together.low > 0.5]

    @property
    def untold(self) -> list[FindingReliability]:
        """What it is not shown to."""
        return [each for each in self.leading.judged if not each.auc_together.low > 0.5]

    @property
    def unjudged(self) -> list[FindingReliability]:
        """What the test images cannot judge."""
        return [each for each in self.leading.findings if each.why_not]

    def said(self) -> str:
        """One sentence on what the leading method finds, and what it cannot be asked."""
        own = self.leading
        judged, empty = own.judged, [each.finding for each in own.findings if each.why_not]
        lost = f"; {some_of(empty)} cannot be judged" if empty else ""
        if not judged:
            return f"No {self.what} can be judged: too few test images have one, or have it not."
        many = counted(len(judged), self.what, "classes" if self.what == "class" else "")
        start = f"{own.method} tells {len(self.told)} of {many} from chance (AUC above 0.5)"
        pointed = [each for each in judged if each.at is not None]
        if not pointed:
            return f"{start}{lost}."
        by_found = sorted(pointed, key=lambda each: -_sensitivity(each).estimate)
        ends = dict.fromkeys((by_found[0].finding, by_found[-1].finding))
        texts = [
            f"of {each.finding} {difference_text(_sensitivity(each), 2, named='95% CI', signed=False)}"
            for each in by_found
            if each.finding in ends
        ]
        most = " and ".join(("most " * (len(texts) > 1) + texts[0], *(f"least {each}" for each in texts[1:])))
        return f"{start}; at {self.at}, chosen on validation, it finds {most}{lost}."


def _sensitivity(each: FindingReliability) -> Interval:
    assert each.at is not None
    return each.at.sensitivity
