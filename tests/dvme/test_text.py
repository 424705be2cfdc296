from __future__ import annotations

from collections.abc import Callable

import pytest

from dvme.stats.curves import Amount, LabelsSaved
from dvme.stats.intervals import Interval
from dvme.study.outcome import Score
from dvme.text import (
    by_name_text,
    counted,
    difference_text,
    first_few,
    first_line,
    number_text,
    saved_text,
    some_of,
    spread_text,
    together_text,
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, "image"), "1 image"),
        ((0, "image"), "0 images"),
        ((1200, "image"), "1,200 images"),
        ((1, "entry", "entries"), "1 entry"),
        ((2, "entry", "entries"), "2 entries"),
    ],
)
def test_counted(arguments: tuple[int, str], expected: str) -> None:
    assert counted(*arguments) == expected


NOWHERE = Interval(0.0154, float("nan"), float("nan"))
UNKNOWN = Amount(float("nan"), "=")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (difference_text(Interval(0.0154, -0.0041, 0.034)), "+0.015 (-0.004 to +0.034)"),
        (difference_text(Interval(0.8, 0.7, 0.9), named="95% CI", signed=False), "0.800 (95% CI 0.700 to 0.900)"),
        (difference_text(NOWHERE), "+0.015"),
        (difference_text(NOWHERE, 4, without="no interval"), "+0.0154 (no interval)"),
        (number_text(float("nan")), "undefined"),
        (number_text(float("nan"), undefined=""), ""),
        (spread_text(Score(0.8154, 0.0123, [0.8, 0.83])), "0.815 ± 0.012"),
        (spread_text(Score(0.8154, float("nan"), [0.8])), "0.815"),
        (saved_text(None), ""),
        (
            saved_text(LabelsSaved(Amount(1200.4, "="), Amount(-0.2, "<="), Amount(float("nan"), "="))),
            "1,200 (≤ 0 to ?)",
        ),
        (saved_text(LabelsSaved(Amount(12, "="), *[Amount(float("nan"), "=")] * 2)), "12 (no interval)"),
        (together_text(("dino",)), "dino"),
        (together_text(("dino", "swav")), "2 together"),
    ],
)
def test_numbers__are_written_one_way(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize("shown", [first_few, some_of])
def test_names__a_long_one_keeps_both_of_its_ends(shown: Callable[[list[str]], str]) -> None:
    assert shown(["x" * 300]) == "x" * 300
    long = f"/begin/{'folder/' * 60}end: No such file or directory"
    found = shown([long, "next"])
    assert found.startswith("/begin/folder")
    assert found.endswith("end: No such file or directory, next")
    assert " ... " in found
    assert len(found) <= 300 + len(", next")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("one\ntwo", "one"),
        ("\n  two\n", "two"),
        ("a \x0e b\tc", "a ? b?c"),
        ("", "ValueError"),
        ("x" * 999, "x" * 147 + " ... " + "x" * 147),
    ],
)
def test_first_line__is_fit_for_a_message(said: str, shown: str) -> None:
    assert first_line(ValueError(said)) == shown


def test_by_name_text__has_the_first_and_what_differs_from_it() -> None:
    assert by_name_text({"a": 128, "b": 128, "c": 64, "d": 32}) == "128; 64 of c; 32 of d"
    assert by_name_text({"a": 1}) == "1"
