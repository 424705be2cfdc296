from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dvme.paper.about_data import about_data
from dvme.paper.material import Material
from dvme.study.design.manifest import FoldDraw, SubsetManifest


@pytest.fixture(scope="module")
def material(small_study: Path) -> Material:
    """A run of 120 images, by a seeded split in groups, of which the tests change something."""
    return Material.of(small_study / "run")


def _without(draw: FoldDraw, image: int) -> FoldDraw:
    train, validation = draw.train[draw.train != image], draw.validation[draw.validation != image]
    n_train = tuple(min(n, len(train)) for n in draw.n_train)
    n_validation = tuple(min(n, len(validation)) for n in draw.n_validation)
    return replace(draw, train=train, validation=validation, n_train=n_train, n_validation=n_validation)


def _without_a_copy(manifest: SubsetManifest) -> SubsetManifest:
    """As where one image is all but the same as one of the test set."""
    image = int(manifest.draws[0].train[0])
    draws = tuple(_without(draw, image) for draw in manifest.draws)
    return replace(manifest, draws=draws, policy={**manifest.policy, "drop_duplicates": 0.99})


def test_about_data__near_duplicates_are_left_out_after_the_split(material: Material) -> None:
    text = about_data(replace(material, manifest=_without_a_copy(material.manifest)))
    n_test = len(material.manifest.test)
    assert text.startswith("119 images of 3 classes took part: ")
    assert "Left out were images on no side of the split, or all but the same as others there (1)." in text
    assert f"{n_test} of 120 images were held out as the test set, at random, stratified, whole groups together" in text
    assert f"The other {120 - n_test} were divided into 2 stratified folds;" in text
    assert text.endswith("those that do with one to test on (cosine of embeddings above 0.99).")
    plain = about_data(material)
    assert "Left out" not in plain
    left = _without_a_copy(material.manifest)
    left = replace(left, policy={**left.policy, "approximate_duplicates": ["dino", "swav"]})
    assert about_data(replace(material, manifest=left)).endswith(
        "(cosine of embeddings above 0.99). They were searched for approximately in the embeddings of dino and swav."
    )
    asked = replace(material.manifest, policy={**material.manifest.policy, "drop_duplicates": True})
    assert about_data(replace(material, manifest=asked)) == plain  # there were none


def test_about_data__one_validation_set(material: Material) -> None:
    """Draws of all training images are one, and of some of them are several."""
    first = material.manifest.draws[0]
    own = replace(material.summary, plan="your split: train 70, val 20, test 30")
    same = replace(material.manifest, draws=(first, replace(first, fold=2)))
    text = about_data(replace(material, manifest=same, summary=own))
    n = len(first.validation)
    assert f"Its validation part ({n}) was the one to choose on, for 2 draws of training images. At the largest" in text
    other = replace(_without(first, int(first.train[0])), fold=2)
    several = replace(material.manifest, draws=(first, other))
    assert "At the largest size" not in about_data(replace(material, manifest=several, summary=own))


def test_about_data__subsets_are_nested_where_there_are_several(material: Material) -> None:
    nested = "A subset is part of the larger ones of its draw."
    assert nested in about_data(material)
    one = replace(material.summary, columns=material.summary.columns[:1])
    assert nested not in about_data(replace(material, summary=one))


def test_about_data__groups_of_which_the_test_set_has_none(material: Material) -> None:
    def said(**groups: object) -> str:
        return about_data(replace(material, described={**material.described, **groups}))

    assert "there were 60 groups, " in said()
    assert "on one side of every split; no test image had a group." in said(test_groups=None)
    assert "whole groups together" in said(test_groups=None)
    assert "No groups of images, such as those of a patient, were known." in said(test_groups=None, n_groups=None)
    assert "whole groups together" not in said(test_groups=None, n_groups=None)
