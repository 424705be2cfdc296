"""What is made of findings that a reader was uncertain of, and of those of which nothing is said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dvme.defaults import BLANK, UNCERTAIN
from dvme.errors import OptionError, parameter

WORDS = {"ignore": math.nan, "zeros": 0.0, "ones": 1.0}
SOFT = "soft="


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
