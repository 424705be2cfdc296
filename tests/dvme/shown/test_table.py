from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from dvme.shown.table import Entry, record_of, table_of, value_text


def test_table_of__numbers_stand_on_the_right() -> None:
    records = [{"dim": 8, "backbone": "dino", "share": 0.5, "is_there": True}, {"dim": 1200, "backbone": "swav"}]
    table = table_of(records, "two of them")
    assert (table.names, table.numbers) == (("backbone", "is_there"), ("dim", "share"))
    assert [row.names for row in table.rows] == [("dino", "yes"), ("swav", "-")]
    assert [row.entries for row in table.rows] == [(Entry("8"), Entry("0.5")), (Entry("1,200"), Entry("-"))]
    assert table.caption == "two of them"


def test_table_of__a_column_that_says_nothing_is_left_out() -> None:
    table = table_of([{"backbone": "dino", "remark": "", "choice": None}, {"backbone": "swav", "choice": ""}])
    assert (table.names, table.numbers) == (("backbone",), ())


def test_table_of__nothing() -> None:
    assert table_of([]).rows == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (np.float64("nan"), "-"),
        (np.float32("nan"), "-"),
        (np.float32(0.5), "0.5"),
        (False, "no"),
        (1234, "1,234"),
        (np.int64(7), "7"),
        (0.123456, "0.1235"),
        (math.inf, "inf"),
        (("a", "b"), "a, b"),
        (list("abcdefg"), "a, b, c, d, e, ..."),
        ("as it is", "as it is"),
    ],
)
def test_value_text(value: object, text: str) -> None:
    assert value_text(value) == text


def test_record_of__fields_of_one_value() -> None:
    @dataclass
    class Found:
        name: str
        n: int
        share: float | None
        reasons: dict[str, str] = field(default_factory=dict)
        parts: tuple[int, ...] = ()

    assert record_of(Found("a", 1, None, {"x": "torn"}, (1,))) == {"name": "a", "n": 1, "share": None}
