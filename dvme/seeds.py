"""What a seed may be, in one place: what NumPy, scikit-learn and torch all take."""

from __future__ import annotations

import operator
from typing import Any

from dvme.errors import OptionError

SEEDS = 2**32
"""How many there are, from 0."""


def checked_seed(given: Any, what: str = "seed") -> int:
    """A seed as an int; messages call it `what`.

    Raises:
        OptionError: if it is no whole number of Python or NumPy, below 0 or above 2^32 - 1.
    """
    wanted = f"pass a whole number from 0 to {SEEDS - 1:,}"
    if isinstance(given, bool):
        raise OptionError(f"{what} {given!r} is not possible; {wanted}")
    try:
        seed = operator.index(given)
    except TypeError as error:
        raise OptionError(f"{what} {given!r} is not possible; {wanted}") from error
    if not 0 <= seed < SEEDS:
        raise OptionError(f"{what} {seed} is not possible; {wanted}")
    return seed
