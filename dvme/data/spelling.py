"""Names that may not be what they seem: one number written in two ways, and words that stand for nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from dvme.data.order import natural_key
from dvme.data.samples import MISSING
from dvme.errors import DataError
from dvme.wording import counted, some_of

NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")
"""`12`, `12.0`, `+12`, `1.2e1`; an exponent of more digits is a name."""
DIGITS = re.compile(r"\d+")
NOTHING = frozenset({"#n/a", "<na>", "n/a", "na", "nan", "nat", "nil", "none", "null"})
"""What spreadsheets, pandas, R and databases write where there is no value."""


def number_twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that are the same number, such as 12 and 12.0; other names may stand among them."""
    found: list[tuple[str, str]] = []
    by_value: dict[Decimal, str] = {}
    for name in sorted(set(names), key=natural_key):
        if NUMBER.fullmatch(name):
            twin = by_value.setdefault(Decimal(name), name)
            if twin != name:
                found.append((twin, name))
    return found


def is_clear(one: str, other: str) -> bool:
    """Whether two spellings of one number can hardly be two identifiers.

    007 and 7 can, and so can the sections 1.1 and 1.10. 12 and 12.0 cannot: programs write the second where a column
    of whole numbers has an empty cell.
    """
    is_whole = Decimal(one) == Decimal(one).to_integral_value()
    return is_whole and not (DIGITS.fullmatch(one) and DIGITS.fullmatch(other))


def unit_of(group: str) -> object:
    """What is equal for two spellings of one group."""
    if not NUMBER.fullmatch(group) or DIGITS.fullmatch(group) and group != "0" and group.startswith("0"):
        return group
    value = Decimal(group)
    return value if value == value.to_integral_value() else group


def check_numbers(column: str, values: Iterable[str], source: str, known: Iterable[str] = ()) -> list[str]:
    """Refuse a number that is written in two ways; of groups only where they can hardly be two.

    Args:
        column: label or group.
        values: what a source says.
        source: where it says it.
        known: what a cache holds beside them; pairs that are in the cache already are left to it.

    Returns:
        A line for groups that may be one.

    Raises:
        DataError: naming both spellings.
    """
    new, old = set(values), set(known)
    pairs = [pair for pair in number_twins(new | old) if not old.issuperset(pair)]
    for one, other in pairs:
        if column == "label" or is_clear(one, other):
            what = "classes" if column == "label" else "groups"
            held = [name for name in (one, other) if name not in new]
            beside = f" ({held[0]!r} is what the cache has)" if held else ""
            message = f"{source}: {what} {one!r} and {other!r} are the same number{beside}"
            raise DataError(f"{message}; write it one way in the {column} column")
    if not pairs:
        return []
    shown = some_of([f"{one} and {other}" for one, other in pairs], 3)
    return [f"groups that are the same number but count as two, for both may be names: {shown}"]


def odd_names(what: str, values: Sequence[str]) -> list[str]:
    """A line for each name that usually stands for a missing value.

    Args:
        what: `class` or `group`.
        values: (N,) names; "" is missing.
    """
    counts = Counter(values)
    return [
        f"{name!r} is a {what} like any other, of {counted(counts[name], 'image')}; where it stands for a missing value, "
        "leave the cell empty"
        for name in sorted(counts, key=natural_key)
        if name != MISSING and name.casefold() in NOTHING
    ]
