from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from dvme.backbones import BackboneSpec, Checkpoint, Layout, Preprocess, get_spec
from dvme.errors import OptionError


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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Preprocess(mode="squish"), "mode 'squish' is not known; choose one of 'center', 'squash'"),  # type: ignore[arg-type]
        (lambda: Preprocess(interpolation="cubic"), "interpolation 'cubic' is not known"),  # type: ignore[arg-type]
        (lambda: Preprocess(mean="dark"), "mean 'dark' must be a list of numbers"),  # type: ignore[arg-type]
        (lambda: Preprocess(crop=2.5), "crop 2.5 must be a whole number"),  # type: ignore[arg-type]
        (lambda: Layout(match="pos"), "match 'pos' is not known; choose one of 'name', 'position'"),  # type: ignore[arg-type]
        (lambda: Layout(tensors="dinov4"), "tensors 'dinov4' is not known"),  # type: ignore[arg-type]
        (lambda: Layout(nesting="state_dict"), "nesting 'state_dict' must be a list of keys"),  # type: ignore[arg-type]
        (lambda: Layout(rename=(("a", r"\2"),)), "cannot replace what 'a' matches: invalid group reference 2"),
        (lambda: Layout(rename=("ab",)), "rename ('ab',) must be a list of pairs"),  # type: ignore[arg-type]
        (lambda: Checkpoint(filename="a/..", url=""), "filename 'a/..' must name a file"),
        (lambda: Checkpoint(filename="a", url="", other_layouts=(3,)), "other_layouts holds 3"),  # type: ignore[arg-type]
        (lambda: varied(pooling="avg"), "pooling 'avg' is not known; choose one of 'average'"),
        (lambda: varied(position_resampling="dyno"), "position_resampling 'dyno' is not known"),
        (lambda: varied(source="web"), "source 'web' is not known"),
        (lambda: varied(source="checkpoint"), "random: there is no checkpoint"),
        (lambda: varied(dim=0), "random: dim 0 must be a whole number above 0"),
    ],
)
def test_descriptions__what_cannot_be(make: Callable[[], object], says: str) -> None:
    with pytest.raises(OptionError) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def varied(**changes: Any) -> BackboneSpec:
    return dataclasses.replace(get_spec("random"), **changes)


def test_preprocess__lists_become_tuples() -> None:
    preprocess = Preprocess(mean=[0.5] * 3, std=[0.25] * 3)  # type: ignore[arg-type]
    assert preprocess == Preprocess(mean=(0.5,) * 3, std=(0.25,) * 3)
    assert hash(preprocess) == hash(Preprocess(mean=(0.5,) * 3, std=(0.25,) * 3))


@pytest.mark.parametrize(
    ("filename", "saved_as", "expected"),
    [("a.pth", "", "a.pth"), ("sub/a.pth", "", "a.pth"), ("/etc/a.pth", "", "a.pth"), ("a", "../b.pth", "b.pth")],
)
def test_local_name__is_never_a_path(filename: str, saved_as: str, expected: str) -> None:
    assert Checkpoint(filename=filename, saved_as=saved_as, url="").local_name == expected
