"""How a method is meant to be used: the operating point of each finding, and how common the findings are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.defaults import AT
from dvme.errors import OptionError, UnknownNameError, parameter
from dvme.metrics.operating_points import thresholds_at_sensitivity, thresholds_at_specificity
from dvme.text import some_of

CHOICES = {"specificity": thresholds_at_specificity, "sensitivity": thresholds_at_sensitivity}
"""What an operating point may be asked to reach on validation."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What `at` and `prevalence` ask for, checked."""

    at: str = AT
    """`specificity=0.9`, or `sensitivity=0.9`."""
    everywhere: float | None = None
    """Prevalence of every finding that has none of its own below; None: not stated."""
    prevalence: Mapping[str, float] = field(default_factory=dict)
    """By finding."""

    def __post_init__(self) -> None:
        """Refuse what cannot be reached, and what is no share."""
        if self.measure not in CHOICES or not 0.0 < self.target <= 1.0:
            wanted = parameter("at", "specificity=0.9") + " or " + parameter("at", "sensitivity=0.9")
            raise OptionError(f"an operating point at {self.at!r} is not possible; pass " + wanted)
        stated = {**({} if self.everywhere is None else {"": self.everywhere}), **self.prevalence}
        for name, value in stated.items():
            if not 0.0 < value < 1.0:
                what = f" of {name}" if name else ""
                step = "; it lies between 0 and 1, 2 per cent is " + parameter("prevalence", 0.02)
                raise OptionError(f"a prevalence{what} of {value:g} is not possible" + step)

    @classmethod
    def of(cls, at: str, prevalence: float | Mapping[str, float] | None) -> Self:
        """From what callers give; in a mapping the name "" stands for all other findings.

        Raises:
            OptionError: if it is not possible.
        """
        if not isinstance(prevalence, Mapping):
            return cls(at=at, everywhere=prevalence)
        own = {name: value for name, value in prevalence.items() if name}
        return cls(at=at, everywhere=prevalence.get(""), prevalence=own)

    @property
    def measure(self) -> str:
        """What is to be reached."""
        return self.at.partition("=")[0].strip()

    @property
    def target(self) -> float:
        """How much of it; nan if it is no number."""
        try:
            return float(self.at.partition("=")[2])
        except ValueError:
            return float("nan")

    @property
    def described(self) -> str:
        """`specificity 0.90`."""
        digits = 2 if round(self.target, 2) == self.target else 3
        return f"{self.measure} {self.target:.{digits}f}"

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse a prevalence of what the study does not have.

        Raises:
            UnknownNameError: naming what it has.
        """
        for name in self.prevalence:
            if name not in names:
                step = f"; it has {some_of(names)}: name one of them in " + parameter("prevalence")
                raise UnknownNameError(f"the study has no finding or class {name!r}" + step)

    def stated(self, name: str) -> float:
        """Of a finding; nan if it is not stated."""
        value = self.prevalence.get(name, self.everywhere)
        return float("nan") if value is None else value

    def thresholds(self, truth: NDArray[Any], odds: NDArray[Any]) -> NDArray[np.float64]:
        """(L,) of validation images; nan without positives, or negatives, to choose by."""
        return CHOICES[self.measure](truth, odds, self.target)
