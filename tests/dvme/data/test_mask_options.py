from __future__ import annotations

from typing import Any

import pytest

from dvme.data import Columns
from dvme.errors import OptionError


def test_mask_classes__as_text_and_as_a_mapping_are_one() -> None:
    text = Columns(mask="a", mask_classes='0=background, 0128=lung,"255=heart, left", *=rest').masks
    assert text.classes == {"0": "background", "128": "lung", "255": "heart, left", "*": "rest"}
    assert text.names == ("lung", "heart, left", "rest")
    assert Columns(mask="a", mask_classes={0: "background", 128: "lung"}).masks.names == ("lung",)
    assert Columns(mask="a", mask_classes="1=lung,2=lung").masks.names == ("lung",)


@pytest.mark.parametrize(
    ("given", "void"), [(255, (255,)), ("254, 255", (254, 255)), ([7, 7], (7,)), ((), ()), (0, (0,))]
)
def test_mask_void__is_values(given: Any, void: tuple[int, ...]) -> None:
    assert Columns(mask="a", mask_void=given).masks.void == void


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mask_classes": "lung"}, "has 'lung', which is not VALUE=NAME"),
        ({"mask_classes": "1="}, "has '1', which is not VALUE=NAME"),
        ({"mask_classes": "-1=x"}, "has '-1', which is not VALUE=NAME"),
        ({"mask_classes": "70000=x"}, "a value from 0 to 65,535"),
        ({"mask_classes": "1=a,01=b"}, "names value 1 twice"),
        ({"mask_classes": "0=background"}, "names no class beside background"),
        ({"mask_classes": "1=a", "mask_void": 1}, "value 1 is named by mask_classes and void by mask_void=[1]"),
        ({"mask_void": "x"}, "has 'x'; values of pixels are whole numbers"),
        ({"mask_void": -1}, "has '-1'"),
        ({"mask_encoding": "coco"}, "mask_encoding='coco' is not possible; choose rle, siim"),
        ({"mask": "a,b", "mask_classes": "1=x"}, "is for one column of masks, and 2 are named"),
        ({"mask": (), "mask_void": 255}, "mask_void=[255] is of masks; name their column with mask"),
        (
            {"frame": "each"},
            "makes rows that have no mask; leave out mask, or frame: then one frame of each file is read",
        ),
    ],
)
def test_mask_options__refuses(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        Columns(**{"mask": "a"} | given)
    assert said in str(caught.value)
