from __future__ import annotations

import pytest

from dvme.defaults import SIZES
from dvme.errors import OptionError
from dvme.study.design.sizes import PRESETS, Size, parse_sizes


def test_size__numbers_parts_and_all() -> None:
    assert [Size(text).of(250) for text in ("50", "10%", "0.5%", "33.3%", "100%", "full")] == [50, 25, 1, 83, 250, 250]
    assert Size("0.1%").of(10) == 1  # at least one


def test_size__more_than_there_are() -> None:
    with pytest.raises(OptionError, match="size 500 is more than the 480 training images of a fold; leave it out"):
        Size("500").of(480)


@pytest.mark.parametrize(
    ("preset", "subtasks", "last"),
    [
        # Truong et al. 2021, table 1: S and M of each data set, and F, which is all that there is.
        ("truong2021:patchcam", {"S": "500", "M": "5000", "F": "full"}, "full (F)"),
        ("truong2021:aptos", {"S": "50", "M": "500", "F": "full"}, "full (F)"),
        ("truong2021:pneumonia-cxr", {"S": "50", "M": "500", "F": "full"}, "full (F)"),
        ("truong2021:nih-cxr", {"S": "20", "M": "200", "F": "full"}, "full (F)"),
    ],
)
def test_presets__truong(preset: str, subtasks: dict[str, str], last: str) -> None:
    sizes = parse_sizes([preset])
    assert {size.subtask: size.text for size in sizes if size.subtask} == subtasks
    assert sizes[-1].label == last


def test_presets__truong_sizes_are_those_of_the_appendix() -> None:
    """The first columns of tables B1 to B4."""
    texts = {name.partition(":")[2]: [size.text for size in parse_sizes([name])] for name in PRESETS}
    assert texts["patchcam"] == ["50", "100", "200", "500", "1000", "2000", "5000", "10000", "20000", "full"]
    assert texts["aptos"] == texts["pneumonia-cxr"] == ["50", "100", "200", "500", "full"]
    assert texts["nih-cxr"] == ["20", "50", "100", "150", "200", "full"]


def test_presets__azizi_is_every_tenth() -> None:
    sizes = parse_sizes(["azizi2021"])
    assert [size.of(1000) for size in sizes] == list(range(100, 1001, 100))
    assert [size.label for size in sizes][:2] == ["10%", "20%"]


def test_parse_sizes__each_once_and_in_order() -> None:
    assert [size.label for size in parse_sizes(["full", "50", "10%", "50"])] == ["full", "50", "10%"]
    assert [size.label for size in parse_sizes(["truong2021:aptos", "75"])][-2:] == ["full (F)", "75"]
    assert [size.text for size in parse_sizes(SIZES)] == list(SIZES)


@pytest.mark.parametrize("text", ["0", "-5", "0%", "101%", "nan%", "%", "ten", "1.5", "", "²", "truong2021:mnist"])
def test_parse_sizes__what_is_not_a_size(text: str) -> None:
    with pytest.raises(OptionError, match="is not a number of images, a part such as 10%, full, or one of truong2021"):
        parse_sizes([text])


def test_parse_sizes__none() -> None:
    with pytest.raises(OptionError, match=r"no size is named; pass sizes=.'50', '100', '200', '500', 'full'."):
        parse_sizes([])
