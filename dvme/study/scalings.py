"""Probabilities as heads give them, and after scaling on validation: how they fit the truth of the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.calibration import wilson
from dvme.metrics.classification import log_odds
from dvme.metrics.probability_errors import SMALLEST
from dvme.stats.miscalibration import Gaps, mean_loss
from dvme.stats.scaling import platt, temperature_of_classes, temperature_of_labels
from dvme.study.panel import Panel
from dvme.study.reliability import Fit, Scaling
from dvme.text import some_of
from dvme_cache.deferred import deferred

special = deferred("scipy.special")


@dataclass(frozen=True)
class Scalings:
    """One method's, by draw: each is taken from the images that the draw's head was chosen on."""

    test: Panel
    """What its J heads say of the test images."""
    validation: Sequence[Panel]
    """J, for each draw what its head says of its validation images."""
    is_exclusive: bool
    """Whether an image has one of the findings, which are classes then."""

    @cached_property
    def temperatures(self) -> list[Any]:
        """(J,) one for all findings."""
        found = []
        for each in self.validation:
            if self.is_exclusive and len(each.names) > 1:
                found.append(temperature_of_classes(each.truth.argmax(axis=1), special.log_expit(each.odds[0])))
            else:
                found.append(temperature_of_labels(each.truth, each.odds[0]))
        return found

    @cached_property
    def platts(self) -> list[Any]:
        """(J,) a line for each finding."""
        return [platt(each.truth, each.odds[0]) for each in self.validation]

    @cached_property
    def odds(self) -> dict[str, list[NDArray[np.float64]]]:
        """By SCALINGS, J of (N, L) log odds."""
        tempered = []
        for scaling, odds in zip(self.temperatures, self.test.odds, strict=True):
            if self.is_exclusive and len(self.test.names) > 1:
                tempered.append(log_odds(scaling.of_classes(special.log_expit(odds))))
            else:
                tempered.append(scaling.of_labels(odds))
        lines = [each.of_labels(odds) for each, odds in zip(self.platts, self.test.odds, strict=True)]
        return {"before": list(self.test.odds), "temperature": tempered, "platt": lines}

    def notes(self, label: int) -> tuple[str, ...]:
        """Why probabilities of some draw are left as they are, or nearly."""
        reasons = [("temperature", [each.reason for each in self.temperatures])]
        reasons += [("Platt scaling", [each.reasons[label] for each in self.platts])]
        found = []
        for what, own in reasons:
            for reason in dict.fromkeys(filter(None, own)):
                draws = [draw for draw, each in enumerate(own, start=1) if each == reason]
                found.append(f"{what} of draw {some_of(draws)}: {reason}")
        return tuple(found)

    def fit(self, name: Scaling, label: int) -> Fit:
        """How the probabilities of one finding fit the truth, of which both sides are known."""
        known = np.flatnonzero(~np.isnan(self.test.truth[:, label]))
        has_it = self.test.truth[known, label] == 1.0
        groups = None if self.test.groups is None else self.test.groups[known]
        p = [special.expit(fold[known, label]) for fold in self.odds[name]]
        truth = has_it.astype(np.float64)
        gaps = Gaps.of(truth, p, groups)
        expected, largest = gaps.intervals()
        by_mass, _ = Gaps.of(truth, p, groups, "mass").intervals()
        both = np.stack(p, axis=1)
        right = np.where(has_it[:, None], both, 1.0 - both)
        weight = gaps.weight.sum(axis=0)
        filled = np.where(weight > 0, weight, np.nan)
        confidence = (np.nan_to_num(gaps.confidence) * gaps.weight).sum(axis=0) / filled
        part = confidence + (gaps.gap * gaps.weight).sum(axis=0) / filled
        n = weight * len(known) / len(p)
        return Fit(
            expected,
            by_mass,
            largest,
            mean_loss((both - truth[:, None]) ** 2, groups),
            mean_loss(-np.log(np.clip(right, SMALLEST, 1.0 - SMALLEST)), groups),
            *(tuple(each.tolist()) for each in (confidence, part, *wilson(np.clip(part, 0.0, 1.0), n), n)),
        )
