from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dvme.backbones.description.dense import Grid, grids_of, grids_text, is_dense, maps_text
from dvme.backbones.description.variation import split_name
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.loading.registry import get_spec
from dvme.backbones.own.custom import resolved, spec_from_mapping, spec_from_toml, spec_to_mapping
from dvme.backbones.own.writing import spec_to_toml
from dvme.errors import DataError, OptionError

EXAMPLE = Path(__file__).parents[4] / "examples" / "own_backbone.toml"


def test_grids_of__what_fingerprints_say() -> None:
    grids = (Grid(14, 14, 384), Grid(7, 8, 2048))
    assert grids_text(grids) == "14x14x384,7x8x2048"
    assert grids_of({"maps": grids_text(grids)}) == grids
    assert (grids[1].n_tokens, grids[1].n_values) == (56, 56 * 2048)
    assert grids_of({"pooling": "average"}) == grids_of({"maps": ""}) == ()


def test_maps_text__equal_ones_are_counted() -> None:
    small, large = Grid(7, 7, 320), Grid(14, 14, 112)
    assert maps_text([large]) == "14 x 14 x 112"
    assert maps_text([large, small, small]) == "14 x 14 x 112, 2 of 7 x 7 x 320"


def test_name__says_the_layers_and_what_is_not_usual_for_them() -> None:
    spec = get_spec("dino@size=448@dense=9+3+3@precision=bf16")
    assert spec.name == "dino@dense=3+9@size=448@precision=bf16"
    assert get_spec(spec.name) == spec
    assert (spec.dense, spec.dim) == ("3+9", None)
    assert split_name(spec.name)[1]["dense"] == "3+9"
    assert is_dense(spec.name)
    assert not is_dense("dino@size=448")
    assert get_spec("dino").dense == ""


def test_preprocess__the_whole_image_unless_the_name_says_otherwise() -> None:
    published, dense = get_spec("dino").preprocess, get_spec("dino@dense=last").preprocess
    assert (published.resize, published.crop, published.mode) == (256, 224, "center")
    assert dense == dataclasses.replace(published, resize=224, mode="squash")
    assert get_spec("dino@dense=last@crop=112").name == "dino@dense=last@size=112"
    for name in ("dino@dense=last@mode=center", "dino@dense=last@resize=256", "dino@dense=last@resize=256@mode=center"):
        assert get_spec(name).name == name
    assert get_spec("dino@dense=last@resize=256@mode=center").preprocess == published
    assert get_spec("dino@dense=last@mode=squash@resize=224").name == "dino@dense=last"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dino@dense=last@pool=average", "pool=average and dense=last contradict each other"),
        ("dino@dense=last@view=1", "dense features are of the plain image only"),
        ("dino@dense=first", "dense=first is not possible"),
        ("dino@dense=last@dense=3", "says dense twice"),
    ],
)
def test_name__what_cannot_be_beside_dense_features(name: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        get_spec(name)


def test_mapping__keeps_the_layers_and_others_stay_as_they_were() -> None:
    spec = get_spec("dino@dense=last-4")
    kept = spec_to_mapping(spec)
    assert kept["dense"] == "last-4"
    assert spec_from_mapping(kept, source="a cache") == spec
    assert "dense" not in spec_to_mapping(get_spec("dino"))


def test_file__dense_features_are_said_by_name_alone(tmp_path: Path) -> None:
    place = tmp_path / "own.toml"
    place.write_text('dense = "last"\n' + EXAMPLE.read_text())
    with pytest.raises(DataError, match="@dense=last"):
        spec_from_toml(place)
    dense = dataclasses.replace(get_spec("random"), name="mine", dense="last")
    with pytest.raises(DataError, match="dense"):
        spec_to_toml(dense)
    with pytest.raises(DataError, match="@dense=last"):
        resolved(dense, "own.py:mine")


def test_fingerprint__layers_and_grids_in_place_of_a_pooling() -> None:
    made = fingerprint_of(get_spec("dino@dense=2+4"), weights="w", dim=8, dtype="int8", maps="1x2x2,1x2x2").fields
    assert (made["dense"], made["maps"], made["dtype"]) == ("2+4", "1x2x2,1x2x2", "int8")
    assert "pooling" not in made
    plain = fingerprint_of(get_spec("dino"), weights="w", dim=8, dtype="float32").fields
    assert plain["pooling"] == "class-token-last-4"
    assert not {"dense", "maps"} & plain.keys()
