"""What is made of findings that a reader was uncertain of, and of those of which nothing is said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvme.defaults import BLANK, UNCERTAIN
from dvme.errors import OptionError, parameter
from dvme.text import counted

WORDS = {"ignore": math.nan, "zeros": 0.0, "ones": 1.0}
SOFT = "soft="
UNCERTAIN_VALUE = -1.0
"""What an uncertain cell is in an array, as in CheXpert."""


def is_unsure(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which cells somebody was uncertain of, or only a part of the readers has; as `findings.parsed` gives them."""
    unsure: NDArray[np.bool_] = (values == UNCERTAIN_VALUE) | ((values > 0.0) & (values < 1.0))
    return unsure


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """A policy. What is uncertain teaches by it alone: heads are neither chosen nor tested on it.

    Source: Irvin et al. 2019 (CheXpert), section 3: U-Ignore, U-Zeros, U-Ones; Pham et al. 2021 for soft labels.
    """

    uncertain: str = UNCERTAIN
    """`ignore`: an uncertain cell teaches nothing; `zeros`, `ones`: that it is absent, or there; `soft=0.7`: a part."""
    blank: Literal["ignore", "zeros"] = BLANK
    """An empty cell: `ignore` takes part in nothing, for that finding alone; `zeros`: the finding is absent."""

    def __post_init__(self) -> None:
        """Refuse what is no policy."""
        if self.blank not in ("ignore", "zeros"):
            raise OptionError(f"blank {self.blank!r} is not known; choose ignore or zeros")
        if self.uncertain not in WORDS and not 0.0 <= self.value <= 1.0:
            raise OptionError(f"a soft label is from 0 to 1, and this is {self.value}; pass another")

    def said_of(self, values: NDArray[Any]) -> list[str]:
        """What is made of cells that are neither there nor absent, a line each.

        Args:
            values: (N, L) as `findings.parsed` gives them.
        """
        words = {"ignore": "teach nothing", "zeros": "teach that it is absent", "ones": "teach that it is there"}
        unsure = words.get(self.uncertain, f"teach {self.value:g}") + f" (uncertain: {self.uncertain})"
        empty = ("count as absent" if self.blank == "zeros" else "take no part") + f" (blank: {self.blank})"
        kinds = (
            (values == UNCERTAIN_VALUE, ("uncertain cell",), unsure),
            ((values > 0.0) & (values < 1.0), ("cell between 0 and 1", "cells between 0 and 1"), "teach that part"),
            (np.isnan(values), ("empty cell",), empty),
        )
        lines = [f"{counted(int(own.sum()), *what)}: they {how}" for own, what, how in kinds if own.any()]
        return [*lines, "heads are chosen and tested on cells of 1 and 0 only"] if lines else []

    @property
    def value(self) -> float:
        """What an uncertain cell teaches, from 0 to 1; nan: nothing."""
        if self.uncertain in WORDS:
            return WORDS[self.uncertain]
        part = self.uncertain.removeprefix(SOFT)
        try:
            if part != self.uncertain:
                return float(part)
        except ValueError:
            pass
        choices = f"choose from {', '.join(WORDS)} and soft=0.7, with "
        raise OptionError(f"uncertain {self.uncertain!r} is not known; {choices}" + parameter("uncertain", "zeros"))
