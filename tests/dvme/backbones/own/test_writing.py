"""Specs as TOML, and which images a backbone was trained on."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dvme.backbones import BackboneSpec, Checkpoint, Layout, get_spec
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.own.custom import spec_from_architecture, spec_from_mapping, spec_from_toml, spec_to_mapping
from dvme.backbones.own.trained_on import TrainedOn, keys_of_images, read_trained_on, write_trained_on
from dvme.backbones.own.writing import spec_to_toml
from dvme.backbones.zoo import ZOO
from dvme.errors import DataError, OptionError

OWN = replace(get_spec("efficientnet-lite0"), name="mine")
ODD = replace(
    OWN,
    licence='odd "quotes", \\ and\nlines\t\x00\x7f, and Ünicode 🫁',
    architecture_args={"drop rate": 1e-05, "depths": [1, 2], "deep": {"a": [{"b": True}, {"c": float("inf")}]}},
    checkpoint=Checkpoint(
        filename="name",
        url="",
        nesting=("state_dict",),
        keep=r"module\.(?!fc)",
        drop="fc",
        rename=(("^a", r"b\g<0>"), ("'", '"')),
        wrapping="stated",
        other_layouts=(Layout(match="position"), Layout(is_nesting_optional=True, wrapping="usual")),
    ),
)


def through_toml(spec: BackboneSpec, folder: Path) -> BackboneSpec:
    path = folder / "own.toml"
    path.write_text(spec_to_toml(spec), encoding="utf-8")
    return spec_from_toml(path)


def without_place(spec: BackboneSpec) -> BackboneSpec:
    """As it was before reading found a name for what is downloaded."""
    checkpoint = spec.checkpoint and replace(spec.checkpoint, saved_as="", local="")
    return replace(spec, checkpoint=checkpoint)


@pytest.mark.parametrize("spec", ZOO, ids=lambda spec: spec.name)
def test_spec_to_toml__the_zoo_and_back(spec: BackboneSpec, tmp_path: Path) -> None:
    own = replace(spec, name=f"{spec.name}-2")
    assert without_place(through_toml(own, tmp_path)) == without_place(own)


@pytest.mark.parametrize(
    "spec",
    [
        ODD,
        spec_from_architecture("mine", "resnet18"),
        replace(get_spec("timm:resnet18"), name="timms"),
        replace(OWN, source="random", checkpoint=None, is_verified=False),
        replace(get_spec("dino@size=448@range=12bit@voi=lut@precision=bf16@in-chans=1"), name="varied"),
    ],
    ids=lambda spec: spec.name,
)
def test_spec_to_toml__own_specs_and_back(spec: BackboneSpec, tmp_path: Path) -> None:
    assert without_place(through_toml(spec, tmp_path)) == without_place(spec)


def test_spec_to_toml__reads_as_the_mapping_says() -> None:
    """Another way to the same values: what tomllib reads are those that the cache would keep, but for defaults."""
    read, mapping = tomllib.loads(spec_to_toml(ODD)), spec_to_mapping(ODD)
    assert read["architecture_args"] == mapping["architecture_args"]
    assert read["preprocess"]["std"] == list(mapping["preprocess"]["std"])
    assert read["checkpoint"]["filename"] == "name"
    assert read["checkpoint"]["other_layouts"] == [
        {"match": "position", "wrapping": "stated"},
        {"is_nesting_optional": True, "wrapping": "usual"},
    ]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (get_spec("dino"), "choose another name"),
        (replace(OWN, name="a@size=3"), "will not do"),
        (replace(OWN, source="built", checkpoint=None, build=lambda: None), "write Python"),
        (replace(OWN, source="hub", checkpoint=None), "write Python"),
        (replace(get_spec("dino@view=1"), name="mine"), "a view is a version of the image"),
        (replace(OWN, architecture_args={"norm_layer": print}), "architecture_args: norm_layer is <built-in"),
        (replace(OWN, architecture_args={"sizes": [None]}), "sizes is None, which a TOML file cannot say"),
        (replace(OWN, remark="\udcff"), "is no Unicode"),
    ],
)
def test_spec_to_toml__what_a_file_cannot_say(spec: BackboneSpec, line: str) -> None:
    with pytest.raises(DataError, match=line):
        spec_to_toml(spec)


def test_trained_on__there_and_back_and_beside_the_toml(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 255, (50, 16), dtype=np.uint8)
    before = TrainedOn(keys_of_images(ids[:1]) + 1, keys_of_images(ids[:5]))
    known = before.and_of(np.concatenate([ids[3:], ids[3:6]]), has_labels=True)
    write_trained_on(tmp_path / "own.ids", known)
    spec = through_toml(replace(OWN, trained_on="own.ids", is_transductive=True), tmp_path)
    assert spec.is_transductive
    assert spec.trained_on == str(tmp_path / "own.ids")
    by_hand = [int.from_bytes(bytes(row[:8]), "big") for row in ids]
    read = read_trained_on(spec)
    assert set(read.with_labels.tolist()) == {*by_hand[3:], by_hand[0] + 1}, "labels once learned stay learned"
    assert set(read.without_labels.tolist()) == set(by_hand[:3])
    assert set(read.and_of(ids, has_labels=False).with_labels.tolist()) == {*by_hand[3:], by_hand[0] + 1}
    assert read.is_transductive
    assert read_trained_on(OWN).keys.tolist() == []
    assert spec_from_mapping(spec_to_mapping(spec), source="a cache") == spec


def test_trained_on__a_list_that_is_gone_torn_or_none(tmp_path: Path) -> None:
    path = tmp_path / "own.ids"
    write_trained_on(path, TrainedOn.nothing().and_of(np.zeros((4, 16), dtype=np.uint8), has_labels=False))
    spec = replace(OWN, trained_on=str(path))
    for content in (path.read_bytes()[:-9], b"", b"hello world", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"own\.ids"):
            read_trained_on(spec)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_trained_on(spec)


def test_trained_on__changes_no_fingerprint_and_no_older_description() -> None:
    fingerprints = [
        fingerprint_of(spec, weights="0", dim=3, dtype="float32").digest
        for spec in (OWN, replace(OWN, trained_on="own.ids", is_transductive=True))
    ]
    assert fingerprints[0] == fingerprints[1]
    assert not {"trained_on", "is_transductive"} & set(spec_to_mapping(OWN))
    with pytest.raises(OptionError, match="needs trained_on, the list of these images"):
        replace(OWN, is_transductive=True)
