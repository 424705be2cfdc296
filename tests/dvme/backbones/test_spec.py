from __future__ import annotations

import dataclasses

import pytest

from dvme.backbones import Checkpoint, Preprocess, get_spec


def test_preprocess__defaults_are_imagenet() -> None:
    preprocess = Preprocess()
    assert (preprocess.resize, preprocess.crop, preprocess.interpolation, preprocess.mode) == (
        256,
        224,
        "bilinear",
        "center",
    )
    assert preprocess.mean == (0.485, 0.456, 0.406)
    assert preprocess.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(("resize", "crop"), [(224, 225), (256, 0), (256, -1), (0, 0)])
def test_preprocess__crop_that_is_not_possible(resize: int, crop: int) -> None:
    with pytest.raises(ValueError, match=f"crop {crop} must be within 1 and resize {resize}"):
        Preprocess(resize=resize, crop=crop)


def test_preprocess__crop_of_the_whole_image() -> None:
    assert Preprocess(resize=224, crop=224).crop == 224


@pytest.mark.parametrize("rule", [{"keep": "("}, {"drop": "["}])
def test_checkpoint__rule_that_is_no_regular_expression(rule: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is no regular expression"):
        Checkpoint(filename="x.pth", url="", **rule)


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-NC-4.0", True),
        ("CC BY NC 4.0", True),
        pytest.param("CC BY-NC 4.0", True),
        pytest.param("cc-by-nc-4.0", True),  # as timm spells it
        ("MIT", False),
        ("Apache-2.0", False),
        ("NCSA", False),
        ("none", False),
    ],
)
def test_is_non_commercial__licences(licence: str, expected: bool) -> None:
    assert dataclasses.replace(get_spec("random"), licence=licence).is_non_commercial is expected


def test_backbone_spec__is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_spec("random").dim = 3  # type: ignore[misc]
