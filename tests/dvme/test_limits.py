from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from dvme.errors import OptionError
from dvme.limits import every, positive, whole


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_whole__plain_numbers(value: Any) -> None:
    assert type(whole("n", value, 3)) is int


@pytest.mark.parametrize("value", [2, 3.0, True, "3", None, float("nan"), [3]])
def test_whole__anything_else(value: Any) -> None:
    with pytest.raises(OptionError, match=r"^n .* is not possible; it must be a whole number, 3 or more$"):
        whole("n", value, 3)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5)])
def test_positive__plain_numbers(value: Any) -> None:
    assert type(positive("x", value)) is float
    assert positive("x", 2) == 2.0


@pytest.mark.parametrize("value", [0, -1.0, 1.0, float("nan"), float("inf"), "0.5", None, True, 0.5j])
def test_positive__anything_else(value: Any) -> None:
    with pytest.raises(OptionError, match=r"^x .* is not possible; it must be a number above 0 and below 1$"):
        positive("x", value, 1.0)


def test_every__a_tuple_of_checked_values() -> None:
    check = partial(whole, least=1)
    assert every("k", np.array([3, 1, 3]), check) == (3, 1)  # each once
    assert every("k", 5, check) == (5,)
    for values, message in (
        ((), r"k \(\) are not possible; name one or several"),
        (None, "k None are not possible; name one or several in a tuple"),
        ((1, 0), "k 0 is not possible"),
        ("12", "k '1' is not possible"),
    ):
        with pytest.raises(OptionError, match=message):
            every("k", values, check)
