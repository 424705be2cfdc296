from __future__ import annotations

import pytest
import typer

from dvme_cli.parsing import parse_names, parse_shares, site_options


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
