"""The order of classes: as the user gave it, else by the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dvme.data.findings import are_findings, names_in
from dvme.data.natural import natural_key
from dvme.errors import DataError, OptionError, parameter
from dvme.text import some_of

LEADING_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
GRADE = re.compile(r"[-+]?\d+(\.\d+)?(%|[\s_:;.,()/-]|$)")
"""A number that stands for itself: `2`, `33%`, `1 mild`, `1_mild`; not the 3 of `3T3`."""
BELOW = " < "
CLASS_ORDER = parameter("class_order")


def class_order(names: Sequence[str], given: Sequence[str] = ()) -> Callable[[str], Any]:
    """The sort key of class names: as given, by leading numbers if all have one (`2`, `33%`, `1 mild`), else natural.

    Args:
        names: what is to be sorted.
        given: the user's order; it counts where it has all of the names.
    """
    place = {name: position for position, name in enumerate(given)}
    if names and set(names) <= set(place):
        return lambda name: place[name]
    numbers = {name: match for name in names if (match := LEADING_NUMBER.match(name))}
    if len(numbers) < len(names):
        return natural_key
    return lambda name: (float(numbers[name].group()), natural_key(name))


def names_tell_order(names: Sequence[str]) -> bool:
    """Whether every name is a number or begins with one that stands for itself, and no two numbers are equal."""
    matches = [LEADING_NUMBER.match(name) for name in names if GRADE.match(name)]
    return len({float(match.group()) for match in matches if match}) == len(names)


def checked_order(order: Sequence[str], labels: Iterable[str], *, source: str = CLASS_ORDER) -> tuple[str, ...]:
    """The order, if it names each class once and leaves none out. An empty one stands for none.

    Args:
        order: class names, the lowest first; names that no label has are fine.
        labels: all that occur, also findings; "" is no label.
        source: where the order is from, for the message.

    Raises:
        OptionError: if a name is empty or there twice.
        DataError: naming the classes, or findings, that it lacks; or if some labels are findings, and others a class.
    """
    labels = set(labels)
    has_findings = are_findings(labels)
    if "" in order or len(set(order)) < len(order):
        twice = [name for name in dict.fromkeys(order) if list(order).count(name) > 1 or not name]
        what = "finding" if has_findings else "class"
        raise OptionError(
            source + f" has {some_of([repr(name) for name in twice])} twice, or empty; name each {what} once"
        )
    lacking = sorted(names_in(labels) - set(order), key=natural_key) if order else []
    if lacking and has_findings:
        raise DataError(
            source
            + f" ({some_of(order)}) lacks {some_of([repr(name) for name in lacking])}; name all findings of the cache "
            + "with "
            + CLASS_ORDER
            + ", in any order, or leave it out"
        )
    if lacking:
        raise DataError(
            source
            + f" ({order_text(order)}) lacks {some_of([repr(name) for name in lacking])}; name all classes with "
            + CLASS_ORDER
            + ", the lowest first, or give no order with "
            + parameter("class_order", [])
        )
    return tuple(order)


def order_text(names: Sequence[str], at_most: int = 10) -> str:
    """`mild < moderate < severe`; the first few of many."""
    return some_of(names, at_most, joint=BELOW)


def order_line(given: Sequence[str], present: Sequence[str]) -> str:
    """A line that shows the user's order, and which of its classes have no image; "" without one."""
    empty = [name for name in given if name not in set(present)]
    without = f"; no image is {some_of([repr(name) for name in empty])}" if empty else ""
    return f"class order: {order_text(given)}{without}" if given else ""
