from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hospitals import write_site

from dvme.errors import DataError, OptionError
from dvme.study.sites.asked import SiteOptions, mapped, open_sites
from dvme_cache import EmbeddingCache, FingerprintMismatchError

VALUES = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = ["0", "1"] * 3


def test_places__are_called_by_their_stem_or_as_it_was_said(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.zarr"
    odd.mkdir()
    given = ["x/here.zarr", "ny=y/there.zarr", "s3://bucket/far.zarr/", "s3://bucket/k=v", odd, "plain"]
    assert SiteOptions(test=given).places == {
        "here": "x/here.zarr",
        "ny": "y/there.zarr",
        "far": "s3://bucket/far.zarr/",
        "k=v": "s3://bucket/k=v",
        "a=b": str(odd),
        "plain": "plain",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"test": ["a/c.zarr", "b/c.zarr"]},
            r"^b/c.zarr would be called 'c', as a/c.zarr is; give it another name with test='OTHER=b/c.zarr'$",
        ),
        (
            {"test": ["test.zarr"]},
            r"would be called 'test', as the study's own test set is; .*test='OTHER=test.zarr'",
        ),
        ({"score": {"a": 1.0}}, "score is about other sites; name them with test"),
        ({"label_map": {"a": "b"}}, "label_map is about other sites; name them with test"),
        ({"test": ["a.zarr"], "score": {"b": 1.0}}, "names 'b', which is no site; there are test, a; NAME=PATH"),
        ({"test": ["a.zarr"], "score": {"a": 0.5, "test": 0.4}}, "the weights sum to 0.9; weights are above 0"),
        ({"test": ["a.zarr"], "score": {"a": 1.5, "test": -0.5}}, "the weight of a is 1.5; weights are above 0"),
    ],
)
def test_options__that_cannot_be_are_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as refused:
        _ = SiteOptions(**options).places
    assert "\n" not in str(refused.value)


def test_options__weights_may_miss_1_by_rounding() -> None:
    assert SiteOptions(test=["a.zarr", "b.zarr"], score={"a": 0.1 + 0.2, "b": 0.7}).score["b"] == 0.7


def test_mapped__a_name_for_one_site_comes_before_one_for_all() -> None:
    classes = ("Effusion", "a:b")
    options = SiteOptions(
        test=["ny.zarr", "la.zarr"],
        label_map={"ny:Effusion": "Fluid", "Effusion": ["Pleural Effusion", "Hydrothorax"], "a:b": "c"},
    )
    assert mapped(options, "ny", classes) == {"Effusion": ("Fluid",), "a:b": ("c",)}
    assert mapped(options, "la", classes) == {"Effusion": ("Pleural Effusion", "Hydrothorax"), "a:b": ("c",)}
    turned = SiteOptions(test=["ny.zarr"], label_map=dict(reversed(options.label_map.items())))
    assert mapped(turned, "ny", classes) == {"Effusion": ("Fluid",), "a:b": ("c",)}
    with pytest.raises(OptionError, match=r"what 'Oedema' is called elsewhere, .*choose from 'Effusion', 'a:b'"):
        mapped(SiteOptions(test=["ny.zarr"], label_map={"Oedema": "x"}), "ny", classes)
    with pytest.raises(OptionError, match="what 'sf:Effusion' is called"):
        mapped(SiteOptions(test=["ny.zarr"], label_map={"sf:Effusion": "x"}), "ny", classes)


def test_open_sites__other_embeddings_are_refused_by_name_field_and_step(tmp_path: Path) -> None:
    own = EmbeddingCache.open(write_site(tmp_path / "own.zarr", {"a": VALUES, "b": VALUES}, LABELS))
    fits = write_site(tmp_path / "fits.zarr", {"a": VALUES, "b": VALUES, "c": VALUES}, ["x", ""] * 3, first=10)
    found = open_sites(SiteOptions(test=[fits]), own, ["a", "b"])
    assert [(name, len(each), dict(each.left_out)) for name, each in found.items()] == [
        ("fits", 3, {"without a label": 3})
    ]
    other = write_site(tmp_path / "other.zarr", {"a": VALUES, "b": VALUES}, LABELS, weights={"b": "else"})
    with pytest.raises(FingerprintMismatchError) as refused:
        open_sites(SiteOptions(test=[fits, other]), own, ["a", "b"])
    said = str(refused.value)
    assert said == (
        f"b in {other} was not made as in {own.location}: weights is 'else', the study's is 'b'; run dvme extract "
        f"IMAGES {other} --backbones b --replace, or leave the backbone out"
    )
    open_sites(SiteOptions(test=[other]), own, ["a"])  # of the study's backbones alone
    few = write_site(tmp_path / "few.zarr", {"a": VALUES}, LABELS)
    with pytest.raises(DataError, match=r"no embeddings of b; run dvme extract IMAGES .*few.zarr --backbones b, or"):
        open_sites(SiteOptions(test=[few]), own, ["a", "b"])
    with pytest.raises(OptionError, match="is the study's own cache, whose test set is in the table anyway"):
        open_sites(SiteOptions(test=[tmp_path / "fits.zarr" / ".." / "own.zarr"]), own, ["a"])
    bare = write_site(tmp_path / "bare.zarr", {"a": VALUES}, [""] * 6)
    with pytest.raises(DataError, match=r"site bare: .* has no labelled row .*; label it, or leave it out"):
        open_sites(SiteOptions(test=[bare]), own, ["a"])
