from __future__ import annotations

from typing import Any

import pytest

from dvme.backbones.description.variation import seen_in, split_name, view_in
from dvme.backbones.description.view import MOST_VIEWS, PLAIN, USUAL, View, further_views, view_of
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.loading.registry import get_spec
from dvme.backbones.own.custom import spec_from_mapping, spec_to_mapping
from dvme.errors import OptionError


@pytest.mark.parametrize(
    ("typed", "number", "recipe", "value"),
    [
        ("0", 0, USUAL, ""),
        ("0:rotate", 0, USUAL, ""),
        ("02", 2, USUAL, "2"),
        ("2:flip+rotate+crop", 2, USUAL, "2"),
        ("3:crop+rotate", 3, "rotate+crop", "3:rotate+crop"),
        ("1:flip", 1, "flip", "1:flip"),
    ],
)
def test_view_of__one_spelling(typed: str, number: int, recipe: str, value: str) -> None:
    view = view_of(typed)
    assert (view.number, view.recipe, view.value, view.is_plain) == (number, recipe, value, number == 0)


@pytest.mark.parametrize(
    "typed", ["", "x", "-1", "1.5", "64", "1:", "1:spin", "1:flip+flip", "1:flip,crop", "2:flip", "²"]
)
def test_view_of__refuses_what_there_is_not(typed: str) -> None:
    with pytest.raises(OptionError):
        view_of(typed)


def test_further_views__as_many_beside_the_plain_one() -> None:
    assert further_views(1) == further_views("1") == further_views("1:rotate") == []
    assert further_views(3) == [View(number=1), View(number=2)]
    assert further_views("3:rotate+crop") == [View(number=n, recipe="rotate+crop") for n in (1, 2)]
    assert len(further_views(MOST_VIEWS)) == MOST_VIEWS - 1


@pytest.mark.parametrize("views", [0, 65, -1, True, 1.5, None, "", "2:spin", "3:flip", "1:spin", "4:"])
def test_further_views__refuses_what_there_is_not(views: Any) -> None:
    with pytest.raises(OptionError):
        further_views(views)


def test_name__says_the_view_last_and_the_plain_one_not_at_all() -> None:
    assert get_spec("dino@view=0") == get_spec("dino")
    spec = get_spec("dino@view=2:crop+rotate@size=112")
    assert spec.name == "dino@size=112@view=2:rotate+crop"
    assert get_spec(spec.name) == spec
    assert split_name(spec.name) == ("dino", {"size": "112", "view": "2:rotate+crop"})
    assert view_in(spec.name) == spec.view
    assert seen_in(spec.name, PLAIN) == "dino@size=112"
    assert seen_in("dino@size=112", View(number=1)) == "dino@size=112@view=1"
    assert view_in("dino@size=112") == PLAIN


def test_fingerprint__has_the_view_where_there_is_one() -> None:
    made = {"weights": "w", "dim": 3, "dtype": "float32"}
    plain, view = (fingerprint_of(get_spec(name), **made) for name in ("dino", "dino@view=2"))  # type: ignore[arg-type]
    assert {*view.fields} - {*plain.fields} == {"view.number", "view.recipe", "view.revision"}
    assert (view.fields["view.number"], view.fields["view.recipe"]) == (2, USUAL)
    assert {key: view.fields[key] for key in plain.fields} == dict(plain.fields)


def test_spec__survives_a_file_and_a_plain_one_is_written_as_ever() -> None:
    assert "view" not in spec_to_mapping(get_spec("dino"))
    for name in ("dino", "dino@view=3:crop"):
        spec = get_spec(name)
        assert spec_from_mapping(spec_to_mapping(spec), source="x") == spec
