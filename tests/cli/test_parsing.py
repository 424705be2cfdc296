from __future__ import annotations

import pytest
import typer

from dvme_cli.parsing import parse_names, parse_shares


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


def test_parse_shares() -> None:
    assert parse_shares(["0.1", "Effusion=0.12", "a=b=.5"], "--prevalence") == {"": 0.1, "Effusion": 0.12, "a=b": 0.5}
    assert parse_shares(None, "--prevalence") is None
    assert parse_shares([], "--prevalence") is None
    with pytest.raises(typer.BadParameter, match="--prevalence Mass=x is neither a number nor NAME=NUMBER"):
        parse_shares(["Mass=x"], "--prevalence")
