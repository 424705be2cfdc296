from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.data.findings import (
    are_findings,
    from_columns,
    from_separated,
    is_one_finding,
    matching_columns,
    names_in,
    parsed,
)
from dvme.data.uncertainty import UNCERTAIN_VALUE
from dvme.errors import DataError

NAN = math.nan
CELLS = st.sampled_from([1.0, 0.0, UNCERTAIN_VALUE, 0.25, NAN])


def test_from_separated__by_hand() -> None:
    found = from_separated(["Effusion;Mass", "No Finding", "", " Mass ; no finding", "Mass;Mass"], ";")
    assert found.texts == ["|Effusion|Mass|", "|", "", "|Mass|", "|Mass|"]
    assert found.names == ("Effusion", "Mass")
    assert found.remarks == ("1 image with 'No Finding' and a finding: the finding counts",)
    assert from_separated(["a", "normal", "b,normal"], ",", "normal").texts == ["|a|", "|", "|b|"]


def test_from_separated__a_cell_that_says_nothing_has_no_label() -> None:
    found = from_separated(["nan", "Mass", "N/A", "None", "nan", "nan|Mass"], "|")
    assert found.texts == ["", "|Mass|", "", "", "", "|nan|Mass|"]
    assert found.remarks == ("4 images without a label, for the cell says 'N/A', 'None', 'nan'",)
    assert from_separated(["none", "nan"], "|", "None").texts == ["|", ""]


def test_from_columns__chexpert_by_hand() -> None:
    """1, 0, -1 and nothing; where No Finding is 1, what is empty is absent."""
    found = from_columns(
        {
            "No Finding": ["1.0", "", "", "1", ""],
            "Edema": ["", "-1.0", "1.0", "1.0", ""],
            "Mass": ["0", "", "0.67", "", ""],
        }
    )
    assert found.names == ("Edema", "Mass")
    assert found.texts == ["|", "|Edema=?|Mass=|", "|Edema|Mass=0.67|", "|Edema|", ""]
    assert found.remarks == ("1 image with 'No Finding' and a finding: the finding counts",)


@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=12))
def test_parsed__gives_back_what_the_columns_said(rows: list[tuple[float, float, float]]) -> None:
    written = [["" if math.isnan(value) else f"{value:g}" for value in column] for column in zip(*rows, strict=True)]
    found = from_columns(dict(zip(("a 1", "b", "c"), written, strict=True)))
    back = parsed(found.texts, found.names)
    expected = np.array(rows, dtype=np.float32)
    known = ~np.isnan(expected).all(axis=1)
    np.testing.assert_array_equal(back[known], expected[known])
    assert [text == "" for text in found.texts] == (~known).tolist()
    named = {name for name, column in zip(found.names, expected[known].T, strict=True) if (column != 0.0).any()}
    assert names_in(found.texts) == named


@pytest.mark.parametrize("cell", ["maybe", "2", "-2", "1.5", "inf", "1|0"])
def test_from_columns__a_cell_that_is_none(cell: str) -> None:
    with pytest.raises(DataError, match=r"column 'Mass' of x.csv has '.*' in row 2; a finding is 1, 0, -1"):
        from_columns({"Mass": ["1", cell]}, source="x.csv")


@pytest.mark.parametrize("name", ["a|b", "a=b"])
def test_from_columns__a_name_that_would_read_as_two(name: str) -> None:
    with pytest.raises(DataError, match="a finding cannot be called"):
        from_columns({name: ["1"]}, source="x.csv")
    with pytest.raises(DataError, match="a finding cannot be called"):
        from_separated([name], ";", source="x.csv")


def test_from_columns__no_finding_alone_is_no_task() -> None:
    with pytest.raises(DataError, match="'No Finding' is no finding; name the columns of findings too"):
        from_columns({"No Finding": ["1"]}, source="x.csv")


def test_matching_columns__names_and_patterns() -> None:
    there = ["id", "f_edema", "f_mass", "age"]
    assert matching_columns(["f_*"], there) == ["f_edema", "f_mass"]
    assert matching_columns(["age", "f_*", "f_mass"], there) == ["age", "f_edema", "f_mass"]
    assert matching_columns(["sex", "g_*"], there) == ["sex", "g_*"]  # for the message that they are not there


def test_parsed__a_finding_that_has_no_place() -> None:
    with pytest.raises(KeyError):
        parsed(["|Edema|"], ["Mass"])


def test_are_findings__all_or_none() -> None:
    assert are_findings(["|", "", "|a|"])
    assert not are_findings(["a|b", "", "c"])
    assert not are_findings(["", ""])
    with pytest.raises(DataError, match=r"others have one class \('a|b'\); label all of them in one way"):
        are_findings(["|a|", "a|b"])


@pytest.mark.parametrize(
    ("cells", "is_one"),
    [
        (["1.0", "", "-1.0", "0"], True),
        (["-1", "nan"], True),
        (["0", "1", ""], False),
        (["-1", "0", "1", "2"], False),
        (["-1", "0.5"], False),
        (["-1", "yes"], False),
        ([], False),
    ],
)
def test_is_one_finding__only_where_minus_one_stands_beside_0_and_1(cells: list[str], is_one: bool) -> None:
    assert is_one_finding(cells) is is_one
