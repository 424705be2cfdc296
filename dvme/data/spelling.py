"""Names that may not be what they seem: one number written in two ways, and words that stand for nothing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from numpy.typing import NDArray

from dvme.data.findings import names_in, tells_findings
from dvme.data.natural import natural_key
from dvme.data.samples import NOTHING
from dvme.errors import DataError
from dvme.text import EXAMPLES, counted, some_of

NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")
"""`12`, `12.0`, `+12`, `1.2e1`; an exponent of more digits is a name."""
ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+?[1-9]\d")
"""`8.36e+35`, `2.02E+13`: what spreadsheets and pandas make of identifiers with many digits."""
DIGITS, PLAIN = re.compile(r"\d+"), re.compile(r"0|[1-9]\d*")
KINDS = {"label": ("class", "classes"), "group": ("group", "groups")}
FINDINGS = ("finding", "findings")


def number_twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that are the same number, such as 12 and 12.0; other names may stand among them.

    Of each number one spelling is the first of all its pairs: the plain digits, if it is written so at all.
    """
    by_value: dict[Decimal, list[str]] = defaultdict(list)
    for name in set(names):
        if NUMBER.fullmatch(name):
            by_value[Decimal(name)].append(name)
    several = [sorted(spellings, key=_plainness) for spellings in by_value.values() if len(spellings) > 1]
    return sorted((first, other) for first, *others in several for other in others)


def _plainness(number: str) -> tuple[Any, ...]:
    """Sorts plain digits first, and digits behind zeros last."""
    return not PLAIN.fullmatch(number), bool(DIGITS.fullmatch(number)), natural_key(number)


def is_clear(one: str, other: str) -> bool:
    """Whether two spellings of one number can hardly be two identifiers.

    007 and 7 can, and so can the sections 1.1 and 1.10. 12 and 12.0 cannot: programs write the second where a column
    of whole numbers has an empty cell.
    """
    is_whole = Decimal(one) == Decimal(one).to_integral_value()
    return is_whole and not (DIGITS.fullmatch(one) and DIGITS.fullmatch(other))


def check_spelling(
    columns: Mapping[str, Sequence[str] | NDArray[Any]], source: str, known: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Refuse a number that labels or groups write in two ways; of groups only where they can hardly be two.

    Args:
        columns: `label` and `group`, as far as there are any, to (N,) names; "" is missing. Others are not looked at.
        source: where they are from, for messages.
        known: what a cache holds beside them; pairs that are in the cache already are left to it.

    Returns:
        A line for groups that may be one or several, one for classes or findings that differ in capitals only, and one
        for each name that usually stands for a missing value.

    Raises:
        DataError: naming both spellings.
    """
    lines: list[str] = []
    for column, kind in KINDS.items():
        what, several = kind
        counts = Counter(str(value) for value in columns.get(column, ()))
        old = set(map(str, (known or {}).get(column, ())))
        if column == "label" and tells_findings(counts):
            (what, several), old = FINDINGS, names_in(old)
            counts = _of_findings(counts)
        lines += _by_capitals(counts, old, several) if column == "label" else _rounded(counts)
        loose = _check_numbers(column, several, counts, source, old)
        if loose:
            shown = some_of([f"{one} and {other}" for one, other in loose], EXAMPLES)
            lines.append(f"{several} that are the same number but count as two, for both may be names: {shown}")
        lines += [
            f"{name!r} is a {what} like any other, of {counted(counts[name], 'image')}; where it stands for a missing "
            "value, leave the cell empty"
            for name in sorted(counts, key=natural_key)
            if name.casefold() in NOTHING
        ]
    return lines


def _of_findings(labels: Mapping[str, int]) -> Counter[str]:
    """The images of each finding that is named."""
    counts = Counter[str]()
    for label, count in labels.items():
        counts.update(dict.fromkeys(names_in([label]), count))
    return counts


def _rounded(groups: Collection[str]) -> list[str]:
    """A line for groups of which each may be several."""
    rounded = sorted(filter(ROUNDED.fullmatch, groups))
    if not rounded:
        return []
    shown = f"{counted(len(rounded), 'group')} such as {rounded[0]}"
    return [
        f"{shown}: identifiers of many digits that a program rounded, so that several patients may be one group; "
        "take them from the table as it was published, as text"
    ]


def _by_capitals(new: Collection[str], old: Collection[str], several: str) -> list[str]:
    """A line for classes or findings that may be one."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in sorted({*new, *old}):
        by_name[name.casefold()].append(name)
    twins = [names for names in by_name.values() if len(names) > 1 and not set(old).issuperset(names)]
    shown = some_of([" and ".join(names) for names in twins], EXAMPLES)
    return [f"{several} that differ in capitals only, and count as two: {shown}"] if twins else []


def _check_numbers(
    column: str, several: str, new: Collection[str], source: str, old: Collection[str]
) -> list[tuple[str, str]]:
    """The pairs that are one number and may be two names."""
    pairs = [pair for pair in number_twins({*new, *old}) if not set(old).issuperset(pair)]
    clear = [(one, other) for one, other in pairs if column == "label" or is_clear(one, other)]
    if clear:
        one, other = clear[0]
        held = [name for name in (one, other) if name not in new]
        beside = f" ({held[0]!r} is what the cache has)" if held else ""
        message = f"{source}: {several} {one!r} and {other!r} are the same number{beside}"
        raise DataError(f"{message}; write it one way in the {column} column")
    return pairs
