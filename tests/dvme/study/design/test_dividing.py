"""A column as subgroups: every image in one of them, or counted and named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.errors import OptionError
from dvme.study.design.dividing import MOST, Divider


def _texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sex", Divider("sex")),
        (" age:0-40-60-120 ", Divider("age", (0.0, 40.0, 60.0, 120.0))),
        ("t:-10--2.5-0-10", Divider("t", (-10.0, -2.5, 0.0, 10.0))),
        ("a:b:1-2", Divider("a:b", (1.0, 2.0))),
        ("a:b", Divider("a:b")),
    ],
)
def test_of__a_column_and_edges(text: str, expected: Divider) -> None:
    assert Divider.of(text) == expected


@pytest.mark.parametrize("cuts", ["40", "40-0", "0-40-40"])
def test_of__edges_ascend(cuts: str) -> None:
    with pytest.raises(OptionError, match=rf"^edges {cuts} do not ascend; by=\['age:0-40-60-120'\] makes \[0, 40\)"):
        Divider.of(f"age:{cuts}")


def test_divide__values_in_natural_order() -> None:
    found = Divider("grade").divide(_texts("10", "2", "", "2"))
    assert {name: rows.tolist() for name, rows in found.members.items()} == {
        "2": [False, True, False, True],
        "10": [True, False, False, False],
    }
    assert found.left_out == ("1 test image without grade",)


def test_divide__lower_edges_are_in_and_upper_ones_out_but_the_last() -> None:
    found = Divider.of("age:0-40-60").divide(_texts("0", "39.9", "40", "59", "60", "60.1", "-1", "n/a", "", "4e1"))
    assert list(found.members) == ["[0, 40)", "[40, 60]"]
    young, old = (np.flatnonzero(rows).tolist() for rows in found.members.values())
    assert (young, old) == ([0, 1], [2, 3, 4, 9])
    assert found.left_out == (
        "1 test image without age",
        "1 test image whose age is no number: n/a",
        "2 test images whose age is outside of 0 to 60: -1, 60.1",
    )


def test_divide__too_many_values_ask_for_edges() -> None:
    values = _texts(*(f"{age}" for age in range(MOST + 1)))
    with pytest.raises(OptionError, match=f"^age has {MOST + 1} values, more than the {MOST} subgroups that"):
        Divider("age").divide(values)
    assert len(Divider("age").divide(values[:MOST]).members) == MOST


@given(st.lists(st.sampled_from(["", "x", "-3", "0", "1", "2.5", "4", "7", "9", "1e3"]), max_size=30))
def test_divide__every_image_is_in_one_subgroup_or_counted(values: list[str]) -> None:
    found = Divider.of("a:0-2.5-7").divide(_texts(*values))
    times = np.sum([*found.members.values()], axis=0)
    assert (times <= 1).all()
    assert sum(int(line.split()[0]) for line in found.left_out) == int((times == 0).sum())
