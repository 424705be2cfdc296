from __future__ import annotations

import dataclasses

import pytest
import timm

from dvme.backbones import BackboneSpec, Preprocess, get_spec, names, register, zoo
from dvme.backbones.description.timm_names import architecture_names
from dvme.backbones.loading import registry
from dvme.errors import UnknownNameError

TRUONG = ["supervised", "swav", "simclr", "dino"]
MODULES = (zoo.resnet, zoo.resnet_converted, zoo.vit, zoo.vit_dino, zoo.efficientnet)
KNOWN = names()


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is gone after it."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))


def test_names__every_spec_of_the_zoo_once() -> None:
    specs = [
        item for module in MODULES for value in vars(module).values() if isinstance(value, tuple) for item in value
    ]
    found = [spec.name for spec in specs if isinstance(spec, BackboneSpec)]
    assert names() == found
    assert len(set(found)) == len(found)


def test_names__enough_of_the_field_is_verified() -> None:
    verified = [name for name in names() if get_spec(name).is_verified]
    assert len(verified) >= 35
    assert set(TRUONG) <= set(verified)
    assert {name for name in names() if not get_spec(name).is_verified} == {"sit", "rad-dino"}


def test_register__new_name(restored: None) -> None:
    spec = dataclasses.replace(get_spec("random"), name="mine")
    assert register(spec) is spec
    assert get_spec("mine") is spec
    assert names() == [*KNOWN, "mine"]


def test_register__name_that_is_taken(restored: None) -> None:
    taken = get_spec("swav")
    with pytest.raises(ValueError, match="'swav' is registered twice"):
        register(dataclasses.replace(get_spec("random"), name="swav"))
    assert get_spec("swav") is taken


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("swaw", "swav"), ("simclr2", "simclr"), ("dinov2", "dinov2-vit"), ("efficientnet-lite3", "efficientnet-lite")],
)
def test_get_spec__unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_spec(name)
    assert f"unknown backbone {name!r}; did you mean '{nearest}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        (
            "resnet50",
            ["'supervised'", "'timm:resnet50'", "architectures={'NAME': 'resnet50'} weights={'NAME': 'FILE'}"],
        ),
        ("ResNet-50", ["'supervised'", "'timm:resnet50'"]),
        ("vit_small_patch16_224", ["'dino-vits16'", "'timm:vit_small_patch16_224'"]),
        ("densenet121", ["'timm:densenet121'", "architectures={'NAME': 'densenet121'}"]),
        ("convnext_tinny", ["'timm:convnext_tiny'"]),
        ("convnextv2", ["'timm:convnextv2_"]),
        ("DINO", ["'dino'?"]),
        ("SimCLR", ["'simclr'?"]),
        ("dino_vits16", ["'dino-vits16'?"]),
        ("runs/my net.v2.pth", ["architectures={'my-net': 'ARCHITECTURE'} weights={'my-net': 'runs/my net.v2.pth'}"]),
        (
            "model.safetensors",
            ["backbones=['model'] architectures={'model': 'ARCHITECTURE'} weights={'model': 'model.safetensors'}"],
        ),
    ],
)
def test_get_spec__what_a_name_was_meant_to_be(name: str, offered: list[str]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_spec(name)
    for part in offered:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_architecture_names__are_timms() -> None:
    """Read off its sources, against its own list."""
    assert set(timm.list_models()) <= set(architecture_names())
    assert len(architecture_names()) - len(timm.list_models()) < 5


def test_get_spec__unknown_name_without_a_near_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_spec("zzzz")
    assert str(caught.value).startswith("unknown backbone 'zzzz'; dvme backbones lists them; timm:NAME, hf-hub:")
    assert "did you mean" not in str(caught.value)


def test_get_spec__timm_prefix() -> None:
    spec = get_spec("timm:resnet18.a1_in1k")
    assert (spec.name, spec.architecture, spec.source) == ("timm:resnet18.a1_in1k", "resnet18.a1_in1k", "timm")


def test_get_spec__preprocessing_as_published() -> None:
    assert get_spec("supervised").preprocess == Preprocess(resize=256, crop=224, interpolation="bilinear")
    assert get_spec("simclr").preprocess == get_spec("supervised").preprocess
    assert get_spec("swav").preprocess == Preprocess(std=(0.228, 0.224, 0.225))
    assert get_spec("dino").preprocess == Preprocess(resize=256, crop=224, interpolation="bicubic")


@pytest.mark.parametrize("index", [0, 1, 2])
def test_get_spec__efficientnet_lite_is_preprocessed_as_in_timm(index: int) -> None:
    published = get_spec(f"timm:tf_efficientnet_lite{index}.in1k")
    assert get_spec(f"efficientnet-lite{index}").preprocess == published.preprocess


@pytest.mark.parametrize("name", KNOWN)
def test_get_spec__registered_specs_are_complete(name: str) -> None:
    spec = get_spec(name)
    assert isinstance(spec, BackboneSpec)
    assert spec.name == name
    assert spec.licence
    assert spec.paper
    assert spec.method
    assert spec.dim is not None
    assert spec.is_verified or spec.remark
    assert (spec.checkpoint is None) == (spec.source == "random")
    if spec.checkpoint is not None:
        checkpoint = spec.checkpoint
        assert checkpoint.package or checkpoint.page or checkpoint.filename in checkpoint.url.rpartition("/")[2]


def test_get_spec__no_two_checkpoints_share_a_file_in_the_download_folder() -> None:
    local = [spec.checkpoint.local_name for spec in map(get_spec, KNOWN) if spec.checkpoint is not None]
    assert len(set(local)) == len(local)


def test_get_spec__non_commercial_licences_are_marked() -> None:
    marked = {name for name in KNOWN if get_spec(name).is_non_commercial}
    assert marked == {
        *("swav", "deepcluster-v2", "sela-v2"),
        *("moco-v3", "moco-v3-vits16", "moco-v3-vitb16"),
        *("mae", "rad-dino"),
    }
