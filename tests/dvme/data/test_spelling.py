from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.data.spelling import NUMBER, check_spelling, is_clear, number_twins
from dvme.errors import DataError


def test_number_twins__by_hand() -> None:
    names = ["12", "12.0", "1.2e1", "+12", "7", "x", "12 ", "13", "1e99999", "9007199254740993", "9007199254740992.0"]
    assert sorted(number_twins(names)) == [("12", "+12"), ("12", "1.2e1"), ("12", "12.0")]
    assert number_twins(["0", "-0", "a", ""]) == [("0", "-0")]


@given(st.lists(st.from_regex(NUMBER, fullmatch=True) | st.text(max_size=3), max_size=8))
def test_number_twins__are_equal_fractions(names: list[str]) -> None:
    numbers = {name: Fraction(Decimal(name)) for name in names if NUMBER.fullmatch(name)}
    n_twins = len(numbers) - len(set(numbers.values()))
    found = number_twins(names)
    assert len(found) == n_twins
    assert all(numbers[one] == numbers[other] and one != other for one, other in found)


def test_is_clear__what_may_be_two_identifiers() -> None:
    assert not is_clear("7", "007")
    assert not is_clear("1.1", "1.10")
    assert is_clear("7", "7.0")
    assert is_clear("10", "1e1")


@pytest.mark.parametrize(
    ("column", "values", "what"),
    [
        ("group", ["12", "x", "12.0"], "groups '12' and '12.0'"),
        ("group", ["+5", "5"], "groups '5' and '+5'"),
        ("label", ["0", "unknown", "0.0"], "classes '0' and '0.0'"),
        ("label", ["1", "01"], "classes '1' and '01'"),
    ],
)
def test_check_spelling__one_number_in_two_ways(column: str, values: list[str], what: str) -> None:
    with pytest.raises(DataError, match=f"m.csv: {what.replace('+', '[+]')} are the same number; write it one way"):
        check_spelling({column: values}, "m.csv")


def test_check_spelling__what_may_be_two_is_said() -> None:
    (line,) = check_spelling({"group": ["007", "7", "1.1", "1.10"]}, "m.csv")
    assert line.endswith("1.1 and 1.10, 7 and 007")


def test_check_spelling__against_a_cache() -> None:
    with pytest.raises(DataError, match=r"'12' and '12.0' are the same number \('12' is what the cache has\)"):
        check_spelling({"group": ["12.0"]}, "m.csv", {"group": ["12"]})
    assert check_spelling({"group": ["3"]}, "m.csv", {"group": ["12", "12.0"]}) == []


@pytest.mark.parametrize("name", ["nan", "NA", "None", "null", "N/A", "#N/A", "<NA>"])
def test_check_spelling__names_of_nothing(name: str) -> None:
    (line,) = check_spelling({"label": ["x", name, name, ""]}, "m.csv")
    assert line.startswith(f"{name!r} is a class like any other, of 2 images")
    assert "leave the cell empty" in line
    (line,) = check_spelling({"group": [name, "p1"]}, "m.csv")
    assert line.startswith(f"{name!r} is a group like any other, of 1 image;")
    assert check_spelling({"split": [name]}, "m.csv") == []


def test_check_spelling__classes_in_other_capitals() -> None:
    (line,) = check_spelling({"label": ["Benign", "benign", "TRUE", "True", "x"]}, "m.csv")
    assert line == "classes that differ in capitals only, and count as two: Benign and benign, TRUE and True"
    assert check_spelling({"group": ["P1", "p1"]}, "m.csv") == []
    assert check_spelling({"label": ["x"]}, "m.csv", {"label": ["Benign", "benign"]}) == []


@pytest.mark.parametrize("name", ["8.3986e+35", "8,36E+38", "2.02E+13", "2E+15", "1e12"])
def test_check_spelling__groups_that_a_program_rounded(name: str) -> None:
    (line,) = check_spelling({"group": [name, "p1", "7", "1e5", "3.5", "2e-10"]}, "m.csv")
    assert line.startswith(f"1 group such as {name}: identifiers of many digits that a program rounded")
    assert check_spelling({"label": [name]}, "m.csv") == []


def test_check_spelling__findings() -> None:
    labels = {"label": ["|Edema|nan|", "|edema=?|Mass|", "|", ""]}
    assert check_spelling(labels, "x.csv") == [
        "findings that differ in capitals only, and count as two: Edema and edema",
        "'nan' is a finding like any other, of 1 image; where it stands for a missing value, leave the cell empty",
    ]
    assert check_spelling({"label": ["|Edema|"]}, "x.csv", {"label": ["|Edema|edema|"]}) == []
    assert len(check_spelling({"label": ["|Edema|"]}, "x.csv", {"label": ["|edema|"]})) == 1
    with pytest.raises(DataError, match=r"x.csv: findings '12' and '12.0' are the same number"):
        check_spelling({"label": ["|12|", "|12.0|"]}, "x.csv")
