from __future__ import annotations

import json

import pytest

from dvme.data.masks.cell import Cell, Layer, check_kinds, what_is_shown
from dvme.errors import DataError


def cell(*names: str, folder: str = "/data", digest: str = "ab", is_exclusive: bool = False) -> Cell:
    layers = [
        Layer((f"{folder}/{name}/1.png", f"{folder}/{name}/2.png"), ("1 3",), {"0": -1, "255": place, "9": -2})
        for place, name in enumerate(names)
    ]
    return Cell(names, is_exclusive, (4, 6), "1" * len(names), digest, tuple(layers))


def test_cell__is_what_was_written() -> None:
    one = cell("lung", "heart, left")
    unsaid = Cell(("lung",), True, (4, 6), "?", "", (Layer(),))
    assert Cell.of(one.text) == one
    assert Cell.of(unsaid.text) == unsaid
    assert json.loads(one.text)["layers"][0]["folder"] == "/data/lung"
    assert ", " not in one.text.replace("heart, left", "")


@pytest.mark.parametrize("text", ["masks/0.png", "[]", "{}", '{"names": 3}', "null", "1 3"])
def test_cell__of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="which is no mask; dvme cache label"):
        Cell.of(text)


def test_what_is_shown__leaves_out_where_it_lies() -> None:
    one, elsewhere, other = cell("lung"), cell("lung", folder="/backup"), cell("lung", digest="cd")
    assert what_is_shown(one.text) == what_is_shown(elsewhere.text) != what_is_shown(other.text)
    assert what_is_shown("") == ""
    assert what_is_shown("a.png") == "a.png"


def test_check_kinds__classes_of_one_cache_are_the_same() -> None:
    check_kinds(["", cell("lung").text, cell("lung", folder="/b").text], "c.zarr")
    with pytest.raises(
        DataError, match=r"c\.zarr: all masks of a cache are to have the same classes, and some have heart"
    ):
        check_kinds([cell("lung").text, cell("heart").text], "c.zarr")
    with pytest.raises(DataError, match="may overlap"):
        check_kinds([cell("lung").text, cell("lung", is_exclusive=True).text], "c.zarr")
