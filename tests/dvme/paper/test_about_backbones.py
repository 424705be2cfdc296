from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dvme.paper.about_backbones import about_backbones
from dvme.paper.material import Material


@pytest.fixture(scope="module")
def material(small_study: Path) -> Material:
    """A run, of which the tests change the backbones."""
    return Material.of(small_study / "run")


def said(material: Material, name: str, *, provenance: Any = None, **fields: Any) -> str:
    """The paragraph on one backbone of such a fingerprint."""
    fingerprint = {key.replace("__", "."): value for key, value in fields.items()}
    backbone = {"name": name, "dim": 2048, "digest": "0" * 32, "fingerprint": fingerprint}
    kept = backbone | ({"provenance": provenance} if provenance else {})
    return about_backbones(replace(material, described={**material.described, "backbones": [kept]}))


def test_about_backbones__one_that_was_adapted(material: Material) -> None:
    """The works of both trainings, and the images of the second."""
    kept = {
        "paper": "Caron et al. 2020, SwAV; 800 epochs",
        "licence": "CC BY-NC 4.0",
        "method": "swav+simclr",
        "remark": "swav adapted by simclr on 40 images for 2 epochs, those of a test part among them",
        "adapted_from": "swav",
        "source": "checkpoint",
    }
    text = said(material, "swav-simclr-0a1b2c", provenance=kept, architecture="resnet50", pooling="average")
    assert (
        "`swav-simclr-0a1b2c`: resnet50 [@he2016deep], trained as SwAV [@caron2020unsupervised] (800 epochs), then "
        "trained further by simclr [@chen2020simple; @azizi2021big] on 40 images for 2 epochs, those of a test part "
        "among them; licence CC BY-NC 4.0; an image is"
    ) in text
    begun = kept | {"remark": "random weights adapted by gmml on 40 images for 2 epochs", "method": "gmml"}
    text = said(material, "x", provenance=begun, architecture="vit_small_patch16_224")
    assert "[@dosovitskiy2021image], from random weights trained by gmml [@atito2022gmml] on 40 images" in text
    assert "caron2020unsupervised" not in text


def test_about_backbones__imported_embeddings(material: Material) -> None:
    imported = {"file": "clip.npz", "digest": "abcdef0123456789"}
    text = said(material, "clip", provenance={"imported": imported}, made_by="open_clip 2.24")
    assert (
        "`clip`: embeddings that another program made, imported from clip.npz (BLAKE2b abcdef012345), made by "
        "open_clip 2.24 [cite]; an image is 2,048 values."
    ) in text
    like = said(material, "clip", provenance={"imported": {"like": "other.zarr"}}, imported="0" * 32)
    assert "imported, made as those of other.zarr [cite]" in like


def test_about_backbones__own_ones_are_told_by_their_word_or_marked(material: Material) -> None:
    own = {"paper": "Somebody 2030", "licence": "CC0", "method": "custom", "source": "checkpoint"}
    text = said(material, "mine", provenance=own, architecture="resnet50")
    assert "`mine`: resnet50 [@he2016deep], trained elsewhere [cite] (Somebody 2030); licence CC0;" in text
    nothing = said(material, "mine", provenance=own | {"paper": "not stated"}, architecture="mine.py:net")
    assert "`mine`: mine.py:net, how it was trained is not known [cite];" in nothing


def test_about_backbones__of_timm_and_of_the_hub(material: Material) -> None:
    kept = {"paper": "see timm", "licence": "apache-2.0", "method": "a1_in1k", "source": "timm"}
    text = said(material, "timm:resnet50.a1_in1k", provenance=kept, architecture="resnet50")
    assert "with weights of timm (`a1_in1k`) [@wightman2019timm], by [cite]; licence apache-2.0;" in text
    named = said(material, "timm:x", provenance=kept | {"paper": "ResNet strikes back"}, architecture="x")
    assert ", by [cite] (ResNet strikes back);" in named
    card = {"paper": "see the model card", "method": "see the model card", "source": "hub"}
    hub = said(material, "hf-hub:a/b", provenance=card, architecture="vit_small_patch16_224")
    assert "with weights of the Hugging Face hub [@wightman2019timm], by [cite]; licence not stated;" in hub


def test_about_backbones__what_was_computed_and_read_otherwise(material: Material) -> None:
    prepared = {
        "preprocess__resize": 32,
        "preprocess__crop": 32,
        "preprocess__interpolation": "bilinear",
        "preprocess__mode": "squash",
        "preprocess__mean": [0.5],
        "preprocess__std": [0.25],
        "reading__range": "percentile:1:99",
        "reading__voi": "lut",
    }
    text = said(material, "a", dtype="float16", precision="bf16", pooling="class-token", **prepared)
    assert "an image is the class token, 2,048 values, kept as float16, computed in bf16." in text
    assert (
        "resized to 32 x 32 pixels (bilinear, antialiased), scaled to [0, 1] in grey, and normalised by mean 0.5 and "
        "standard deviation 0.25; grey of more than 8 bits was mapped to 8 by the range `percentile:1:99`; DICOM "
        "pixels were seen through the VOI `lut`."
    ) in text


def test_about_backbones__trained_ones_do_not_stay_as_they_are(material: Material) -> None:
    methods = [dict(each, head="finetune") for each in material.described["methods"]]
    text = about_backbones(replace(material, described={**material.described, "methods": methods}))
    assert text.startswith("Images were embedded by 2 networks. ")


def test_about_backbones__heads_that_train_on_images_alone_take_no_embeddings(material: Material) -> None:
    for head in ("finetune-scratch-head", "finetune-random", "unet"):
        methods = [dict(each, head=head) for each in material.described["methods"]]
        text = about_backbones(replace(material, described={**material.described, "methods": methods}))
        assert text.startswith("Heads were trained on images together with 2 networks. ")


@pytest.mark.parametrize(
    ("architecture", "over"),
    [
        ("vit_base_patch16_224", "all patch tokens"),
        ("resnet50", "the last feature map"),
        ("convnext_tiny", "all positions of the last layer"),
    ],
)
def test_about_backbones__what_a_mean_is_over(material: Material, architecture: str, over: str) -> None:
    text = said(material, "a", architecture=architecture, pooling="average")
    assert f"an image is the mean over {over}, 2,048 values." in text


def test_about_backbones__texts_of_others_are_no_markup(material: Material) -> None:
    own = {"paper": "Some_body [@he2016deep] & <i>", "licence": "a*b*", "method": "custom", "source": "checkpoint"}
    text = said(material, "mine", provenance=own, architecture="resnet50")
    assert r"trained elsewhere [cite] (Some_body \[\@he2016deep\] \& \<i\>); licence a\*b\*;" in text
