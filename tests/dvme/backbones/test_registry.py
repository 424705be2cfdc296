from __future__ import annotations

import dataclasses

import pytest

from dvme.backbones import BackboneSpec, Preprocess, get_spec, names, register, registry
from dvme.errors import UnknownNameError

KNOWN = [
    "supervised",
    "swav",
    "simclr",
    "dino",
    "random",
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
]


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is gone after it."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))


def test_names__in_the_order_of_registration() -> None:
    assert names() == KNOWN


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
    [("swaw", "swav"), ("simclr2", "simclr"), ("dinov2", "dino"), ("efficientnet-lite3", "efficientnet-lite")],
)
def test_get_spec__unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_spec(name)
    assert f"unknown backbone {name!r}; did you mean '{nearest}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_get_spec__unknown_name_without_a_near_one_lists_all() -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_spec("zzzz")
    assert str(caught.value) == f"unknown backbone 'zzzz'; known: {', '.join(KNOWN)}, and timm:NAME"


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
    assert spec.dim == {"dino": 1536}.get(name, 1280 if "lite" in name else 2048)
    assert (spec.checkpoint is None) == (spec.source == "random")
    if spec.checkpoint is not None:
        assert spec.checkpoint.package or spec.checkpoint.url.endswith("/" + spec.checkpoint.filename)


def test_get_spec__only_swav_is_non_commercial() -> None:
    assert [name for name in KNOWN if get_spec(name).is_non_commercial] == ["swav"]
