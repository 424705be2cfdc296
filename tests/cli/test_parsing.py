from __future__ import annotations

import pytest
import typer

from dvme_cli.parsing import parse_frame, parse_names, parse_range, parse_shares, site_options, vary_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b,c", ["a", "b", "c"]),
        (" a , b,", ["a", "b"]),
        ('"x,y",z', ["x,y", "z"]),
        ('z, "x,y"', ["z", "x,y"]),
        ('5" slides,b', ['5" slides', "b"]),
        ("knn@k=5:20,linear", ["knn@k=5:20", "linear"]),
    ],
)
def test_parse_names(text: str, names: list[str]) -> None:
    assert parse_names(text, "--backbones") == names


@pytest.mark.parametrize("text", ["", " ", ",", '""'])
def test_parse_names__nothing(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--backbones is empty"):
        parse_names(text, "--backbones")


def test_site_options__are_the_parameters_of_the_library() -> None:
    pairs = ["Effusion=Pleural Effusion", "ny:Mass = Lesion", "Effusion=Fluid"]
    assert site_options(test=["a.zarr"], label_map=pairs, score="test=0.5, a=.5") == {
        "test": ["a.zarr"],
        "label_map": {"Effusion": ["Pleural Effusion", "Fluid"], "ny:Mass": ["Lesion"]},
        "score": {"test": 0.5, "a": 0.5},
    }
    assert site_options(test=None, label_map=[], score=None) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"label_map": ["Effusion"]}, "--map Effusion is not OURS=THEIRS"),
        ({"label_map": ["=x"]}, "--map =x is not OURS=THEIRS"),
        ({"score": "a=x"}, "--score a=x is not NAME=WEIGHT, such as private=0.51"),
        ({"score": "0.5"}, "--score 0.5 is not NAME=WEIGHT"),
    ],
)
def test_site_options__what_is_none(given: dict[str, object], said: str) -> None:
    with pytest.raises(typer.BadParameter, match=said):
        site_options(**({"test": [], "label_map": [], "score": None} | given))  # type: ignore[arg-type]


def test_parse_shares() -> None:
    assert parse_shares(["0.1", "Effusion=0.12", "a=b=.5"], "--prevalence") == {"": 0.1, "Effusion": 0.12, "a=b": 0.5}
    assert parse_shares(None, "--prevalence") is None
    assert parse_shares([], "--prevalence") is None
    for text in ("Mass=x", "=0.1", "x", ""):
        with pytest.raises(typer.BadParameter, match=f"--prevalence {text} is neither a number nor NAME=NUMBER"):
            parse_shares([text], "--prevalence")
    for name, shown in (("", "all"), ("Mass=", "Mass")):
        with pytest.raises(typer.BadParameter, match=f"--prevalence is given twice for {shown}; give it once"):
            parse_shares([f"{name}0.1", f"{name}0.2"], "--prevalence")


@pytest.mark.parametrize(
    ("text", "bits", "in_name"),
    [
        ("percentile=0.5,99.5", None, "percentile:0.5:99.5"),
        (" percentile = 1 , 99", None, "percentile:1:99"),
        ("percentile:1:99", None, "percentile:1:99"),
        ("declared", None, "declared"),
        (None, 12, "12bit"),
        (None, None, None),
    ],
)
def test_parse_range(text: str | None, bits: int | None, in_name: str | None) -> None:
    assert parse_range(text, bits) == in_name


def test_parse_range__bits_beside_a_range() -> None:
    with pytest.raises(typer.BadParameter, match="--bits 12 is a range itself; leave out --range dtype"):
        parse_range("dtype", 12)


def test_parse_frame() -> None:
    assert [parse_frame(text) for text in (None, "each", "middle", "3")] == [
        (None, None),
        ("each", None),
        (None, "middle"),
        (None, "3"),
    ]
    for text in ("all", "-1", ""):
        with pytest.raises(typer.BadParameter, match=f"--frame {text} is not possible; pass each, middle, or"):
            parse_frame(text)


def test_vary_names__what_a_name_says_stays() -> None:
    varied = {"pool": None, "size": None, "in_chans": 1, "range": "12bit", "voi": "none", "frame": None}
    assert vary_names(["dino", "swav@voi=1"], preprocess=None, **varied) == [
        "dino@in-chans=1@range=12bit@voi=none",
        "swav@in-chans=1@range=12bit@voi=1",
    ]
    assert vary_names(["dino"], preprocess="mean=0.5", size=448) == ["dino@size=448@mean=0.5"]
