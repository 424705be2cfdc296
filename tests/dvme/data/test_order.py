"""Which class comes before which, and who said so."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvme.data.order import checked_order, class_order, names_tell_order, order_line, order_text
from dvme.errors import DataError, OptionError

ODD = [
    "1e3",
    "v1.10",
    "v1.9",
    "-2",
    "+2",
    "2",
    "02",
    "a01",
    "a1",
    "a",
    "A1",
    "a1b",
    "33%",
    "1 mild",
    "²",
    "٣",
    "x" + "9" * 5000,
]
NAMES = st.lists(st.sampled_from(ODD) | st.text("aB019 .-e%²", max_size=5), max_size=9, unique=True)
WORDS = st.text("aB .-%é", max_size=3)


@pytest.mark.parametrize(
    "names",
    [
        ["grade1", "grade2", "grade10", "grade11"],
        ["a1b2", "a1b10", "a2b1"],
        ["G2", "G10", "g1"],
        ["a", "a0", "a00", "a01", "a1", "a2", "a10"],
        ["v1.9", "v1.10", "v2.0"],
        ["-2", "-1", "0", "3"],
        ["1.10", "1.9"],
        ["1 a2", "1 a10", "2 a1"],
        ["9", "10", "none"],
        ["Cat", "ant", "dog"],
        ["x" + "9" * 400, "x1" + "0" * 5000],
    ],
)
def test_class_order__by_hand(names: list[str]) -> None:
    for shuffled in (names[::-1], random.Random(0).sample(names, len(names))):
        assert sorted(shuffled, key=class_order(shuffled)) == names


@settings(derandomize=True, deadline=None, database=None)
@given(names=NAMES, seed=st.integers(0, 99))
def test_class_order__does_not_depend_on_the_order_of_the_names(names: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(names, len(names))
    assert sorted(shuffled, key=class_order(shuffled)) == sorted(names, key=class_order(names))
    assert len({class_order(names)(name) for name in names}) == len(names)


@settings(derandomize=True, deadline=None, database=None)
@given(before=WORDS, numbers=st.lists(st.integers(0, 10**9), min_size=2, max_size=5, unique=True), after=WORDS)
def test_class_order__numbers_in_names_ascend(before: str, numbers: list[int], after: str) -> None:
    names = {f"x{before}{number}{after}": number for number in numbers}
    assert [names[name] for name in sorted(names, key=class_order(list(names)))] == sorted(numbers)


def test_class_order__as_given_where_every_name_is() -> None:
    order = ["none", "mild", "severe", "worst"]
    assert sorted(["mild", "none", "severe"], key=class_order(["mild", "none", "severe"], order)) == order[:3]
    assert sorted(["mild", "10", "9"], key=class_order(["mild", "10", "9"], order)) == ["9", "10", "mild"]


@pytest.mark.parametrize(
    ("names", "is_told"),
    [
        (["0", "1", "2"], True),
        (["-1", "0.5", "+2"], True),
        (["0%", "33%", "100%"], True),
        (["1 mild", "2_moderate", "3: severe", "4-worst", "5)"], True),
        (["1 mild", "1 severe"], False),
        (["1", "1.0", "2"], False),
        (["3T3", "4T1", "293T"], False),
        (["grade1", "grade2", "grade3"], False),
        (["1", "2", "none"], False),
        (["1e3", "2", "3"], False),
        ([], True),
    ],
)
def test_names_tell_order__numbers_and_what_begins_with_one(names: list[str], is_told: bool) -> None:
    assert names_tell_order(names) is is_told


def test_checked_order__takes_what_has_every_label() -> None:
    assert checked_order(["b", "a", "c"], ["a", "", "b", "a"]) == ("b", "a", "c")
    assert checked_order([], ["a", "b"]) == ()


def test_checked_order__refusals() -> None:
    with pytest.raises(DataError, match=r"class_order \(b < a\) lacks 'c2', 'c10'; name all classes"):
        checked_order(["b", "a"], ["a", "c10", "b", "c2"])
    with pytest.raises(DataError, match="lacks '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' and 20 more; name all"):
        checked_order(["a"], [f"{number}" for number in range(30)])
    with pytest.raises(OptionError, match="class_order has 'a' twice, or empty; name each class once"):
        checked_order(["a", "b", "a"], [])
    with pytest.raises(OptionError, match="has '' twice, or empty"):
        checked_order(["a", ""], [])


def test_order_text__the_first_few_of_many() -> None:
    assert order_text(["mild", "severe"]) == "mild < severe"
    assert order_text([f"c{n}" for n in range(300)], 2) == "c0 < c1 and 298 more"


def test_order_line__says_what_has_no_image() -> None:
    assert order_line(["a", "b", "c"], ["c", "a"]) == "class order: a < b < c; no image is 'b'"
    assert order_line(["a", "b"], ["b", "a"]) == "class order: a < b"
    assert order_line([], ["a"]) == ""


def test_checked_order__of_findings_speaks_of_findings() -> None:
    with pytest.raises(
        DataError, match=r"class_order \(b, c\) lacks 'a'; name all findings of the cache with class_order"
    ):
        checked_order(["b", "c"], ["|a|b|", "|"])
    with pytest.raises(OptionError, match="name each finding once"):
        checked_order(["a", "a"], ["|a|"])
