"""What a head's settings may be: each check returns the value as a plain one, or refuses it in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeVar

from dvme.errors import OptionError

T = TypeVar("T")


def whole(name: str, value: Any, least: int) -> int:
    """A whole number from `least` on.

    Raises:
        OptionError: if it is anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} {value!r} is not possible; it must be a whole number, {least} or more")
    return int(value)


def positive(name: str, value: Any, below: float = math.inf) -> float:
    """A finite number above 0, and below a bound if there is one.

    Raises:
        OptionError: if it is anything else.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not 0.0 < float(value) < below:
        allowed = "above 0 and finite" if math.isinf(below) else f"above 0 and below {below:g}"
        raise OptionError(f"{name} {value!r} is not possible; it must be a number {allowed}")
    return float(value)


def every(name: str, values: Any, check: Callable[[str, Any], T]) -> tuple[T, ...]:
    """One or several values, each of which passes a check; each once.

    Raises:
        OptionError: if there is none, or one does not pass.
    """
    try:
        several = (values,) if isinstance(values, Real) else values
        checked = tuple(dict.fromkeys(check(name, value) for value in several))
    except TypeError as error:  # None, say
        raise OptionError(f"{name} {values!r} are not possible; name one or several in a tuple") from error
    if not checked:
        raise OptionError(f"{name} {values!r} are not possible; name one or several")
    return checked
