"""A variation is its name: what changes the numbers is written down, once, and can be read back."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dvme.backbones import BackboneSpec, Preprocess, get_spec, names
from dvme.backbones.description.spec import Interpolation, Pooling, Precision
from dvme.backbones.description.variation import DENSE, KEYS, PREPROCESS_KEYS, READING_KEYS, split_name, vary, vary_name
from dvme.errors import OptionError, UnknownNameError

BASES = ("supervised", "dino", "dinov3-vits16", "rad-dino", "efficientnet-lite0", "timm:resnet18.a1_in1k")
UNIT = st.floats(0.001, 1.0)


def per_channel() -> st.SearchStrategy[str]:
    return st.sampled_from([1, 3]).flatmap(lambda n: st.lists(UNIT, min_size=n, max_size=n)).map(joined)


def joined(values: list[float]) -> str:
    return ":".join(f"{value!r}" for value in values)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "pool": st.sampled_from(get_args(Pooling)),
        "size": st.integers(1, 700).map(str),
        "in-chans": st.sampled_from(["1", "3"]),
        "resize": st.integers(1, 700).map(str),
        "crop": st.integers(1, 700).map(str),
        "interpolation": st.sampled_from(get_args(Interpolation)),
        "mode": st.sampled_from(["center", "squash"]),
        "mean": per_channel(),
        "std": per_channel(),
        "precision": st.sampled_from(get_args(Precision)),
    },
)


def varied_or_skip(spec: BackboneSpec, options: dict[str, str]) -> BackboneSpec:
    """A combination that contradicts itself (a crop larger than the image, say) is refused, and no example."""
    try:
        return vary(spec, options)
    except OptionError:
        assume(False)
        raise


@settings(max_examples=150, deadline=None)
@given(base=st.sampled_from(BASES), options=OPTIONS)
def test_vary__the_name_alone_makes_it_again(base: str, options: dict[str, str]) -> None:
    spec = get_spec(base)
    varied = varied_or_skip(spec, options)
    assert get_spec(varied.name) == varied
    own, found = split_name(varied.name)
    assert own == base
    assert list(found) == [key for key in KEYS if key in found]  # in one order
    published = {"pooling": spec.pooling, "preprocess": spec.preprocess, "dim": spec.dim, "precision": "float32"}
    assert replace(varied, name=base, **published) == spec


@settings(max_examples=100, deadline=None)
@given(base=st.sampled_from(BASES), options=OPTIONS, random=st.randoms(use_true_random=False))
def test_vary__one_name_however_it_was_asked_for(base: str, options: dict[str, str], random: object) -> None:
    spec = get_spec(base)
    varied = varied_or_skip(spec, options)
    shuffled = list(options.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    typed = base + "".join(f"@{key}={value}" for key, value in shuffled)
    assert get_spec(typed).name == varied.name
    # Every value spelled out, even those that are as published.
    preprocess = varied.preprocess
    spelled = {
        "pool": varied.pooling,
        "in-chans": f"{preprocess.channels}",
        "resize": f"{preprocess.resize}",
        "crop": f"{preprocess.crop}",
        "interpolation": preprocess.interpolation,
        "mode": preprocess.mode,
        "mean": joined(list(preprocess.mean)),
        "std": joined(list(preprocess.std)),
        "precision": varied.precision,
    }
    assert vary(spec, spelled) == varied


@pytest.mark.parametrize("name", names())
def test_vary__what_is_as_published_vanishes(name: str) -> None:
    spec = get_spec(name)
    preprocess = spec.preprocess
    same = {
        "pool": spec.pooling,
        "size": f"{preprocess.crop}",
        "in-chans": "3",
        "resize": f"{preprocess.resize}",
        "crop": f"{preprocess.crop}",
        "interpolation": preprocess.interpolation,
        "mode": preprocess.mode,
        "mean": joined(list(preprocess.mean)),
        "std": joined(list(preprocess.std)),
        "precision": "float32",
        "view": "0",
    }
    assert list(same) == [key for key in KEYS if key not in {*READING_KEYS, DENSE}]
    assert vary(spec, same) == spec
    assert vary(spec, {}) is spec


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        ("supervised@size=224", "supervised"),
        ("supervised@in-chans=3@pool=average", "supervised"),
        ("supervised@in-chans=1@size=448@pool=model", "supervised@pool=model@size=448@in-chans=1"),
        ("supervised@crop=448@resize=512", "supervised@size=448"),
        ("supervised@crop=192", "supervised@crop=192"),
        ("supervised@resize=224", "supervised@resize=224"),
        ("supervised@crop=300", "supervised@resize=300@crop=300"),
        ("supervised@mean=0.5", "supervised@mean=0.5:0.5:0.5"),
        ("supervised@in-chans=1@mean=0.449", "supervised@in-chans=1"),
        ("supervised@in-chans=1@mean=0.5@std=0.25", "supervised@in-chans=1@mean=0.5@std=0.25"),
        ("dinov3-vits16@mode=squash@interpolation=bicubic", "dinov3-vits16@interpolation=bicubic"),
        ("supervised@size=0448", "supervised@size=448"),
        ("supervised@precision=bf16@size=448", "supervised@size=448@precision=bf16"),
        ("supervised@precision=float32", "supervised"),
    ],
)
def test_vary__canonical_names(asked: str, canonical: str) -> None:
    assert get_spec(asked).name == canonical
    assert get_spec(canonical) == get_spec(asked)


@pytest.mark.parametrize(
    ("name", "resize", "crop"),
    [
        ("supervised@size=448", 512, 448),  # 256 / 224 of the crop
        ("supervised@size=112", 128, 112),
        ("supervised@size=225", 257, 225),  # 257.14
        ("rad-dino@size=224", 224, 224),
        ("efficientnet-lite0@size=64", 73, 64),  # 73.14
        ("supervised@size=112@resize=300", 300, 112),
        ("supervised@size=448@crop=400", 512, 400),
    ],
)
def test_vary__size_keeps_the_share_of_the_image(name: str, resize: int, crop: int) -> None:
    assert (get_spec(name).preprocess.resize, get_spec(name).preprocess.crop) == (resize, crop)


def test_vary__grey_input_is_normalised_by_the_averages() -> None:
    preprocess = get_spec("supervised@in-chans=1").preprocess
    assert preprocess == Preprocess(mean=(0.449,), std=(0.226,))  # (0.485 + 0.456 + 0.406) / 3, ...
    assert preprocess.channels == 1


def test_vary__another_pooling_has_another_dimension() -> None:
    assert get_spec("dino").dim == 1536
    assert get_spec("dino@pool=class-token").dim is None
    assert get_spec("dino@size=448").dim == 1536


def test_vary__nothing_else_changes() -> None:
    spec, varied = get_spec("dino"), get_spec("dino@pool=class-token@size=64@mean=0.1")
    preprocess = replace(spec.preprocess, resize=73, crop=64, mean=(0.1, 0.1, 0.1))
    expected = replace(spec, pooling="class-token", dim=None, preprocess=preprocess, name=varied.name)
    assert varied == expected


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("pool=max", "pool=max is not known; choose one of average, class-token, class-token-last-4, class-and-mean"),
        ("pool=", "pool= is not known; choose one of average"),
        ("size=0", "size=0 is not possible; pass a whole number above 0"),
        ("size=-3", "size=-3 is not possible"),
        ("size=2.5", "size=2.5 is not possible"),
        ("size=", "size= is not possible"),
        ("size=²", "size=² is not possible"),
        ("in-chans=2", "in-chans=2 is not possible; choose 3, or 1 for grey"),
        ("in-chans=grey", "in-chans=grey is not possible"),
        ("resize=big", "resize=big is not possible"),
        ("crop=0", "crop=0 is not possible"),
        ("resize=100", "crop 224 must be within 1 and resize 100"),
        ("interpolation=nearest", "interpolation=nearest is not known; choose one of bilinear, bicubic, lanczos"),
        ("mode=centre", "mode=centre is not known; choose one of center, squash"),
        ("mean=half", "mean=half is no number; pass one for all channels or three as in mean=0.485:0.456:0.406"),
        ("mean=", "mean= is no number"),
        ("mean=0.1:0.2", "mean has 2 values and std 3"),
        ("std=0", "must be above 0"),
        ("std=-0.1", "must be above 0"),
        ("std=nan", "must be above 0"),
        ("precision=int8", "precision=int8 is not known; choose one of float32, tf32, bf16, fp16"),
        ("precision=", "precision= is not known"),
        ("precision=BF16", "precision=BF16 is not known"),
    ],
)
def test_vary__refused_in_one_line_that_names_the_choices(option: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        get_spec(f"supervised@{option}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_vary__grey_input_does_not_become_colour() -> None:
    grey = replace(get_spec("supervised"), preprocess=Preprocess(mean=(0.5,), std=(0.5,)))
    assert vary(grey, {"in-chans": "1"}).name == "supervised"
    with pytest.raises(OptionError, match="in-chans=3 is not possible for a backbone that takes grey images"):
        vary(grey, {"in-chans": "3"})
    with pytest.raises(OptionError, match="mean has 3 values and std 1"):
        vary(grey, {"mean": "0.1:0.2:0.3"})


@pytest.mark.parametrize("name", ["supervised@sise=448", "supervised@size=448@sise=3", "supervised@sise=3@size=448"])
def test_vary__an_unknown_key_names_those_that_exist(name: str) -> None:
    with pytest.raises(
        UnknownNameError, match=r"^supervised has no setting 'sise'; choose from pool, dense, size, in-chans, "
    ):
        get_spec(name)


@pytest.mark.parametrize(
    ("name", "base", "options"),
    [
        ("dino", "dino", {}),
        ("dino@size=448", "dino", {"size": "448"}),
        ("dino@in-chans=1@pool=average", "dino", {"in-chans": "1", "pool": "average"}),
        ("hf-hub:org/name@main", "hf-hub:org/name@main", {}),
        ("hf-hub:org/name@v1.0@size=64", "hf-hub:org/name@v1.0", {"size": "64"}),
        ("hf-hub:org/name@size=64@v1.0", "hf-hub:org/name@v1.0", {"size": "64"}),
        ("/home/me@work/own.toml@mean=0.5:0.5:0.5", "/home/me@work/own.toml", {"mean": "0.5:0.5:0.5"}),
        ("net.py:make@pool=model", "net.py:make", {"pool": "model"}),
    ],
)
def test_split_name__what_is_no_variation_stays(name: str, base: str, options: dict[str, str]) -> None:
    assert split_name(name) == (base, options)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dino", {"size": "64"}, "dino@size=64"),
        ("dino", {}, "dino"),
        ("dino@size=448", {"size": "64"}, "dino@size=448"),
        ("dino@size=448", {"pool": "average"}, "dino@pool=average@size=448"),
        ("hf-hub:org/name@v1.0", {"mean": "0.5", "pool": "model"}, "hf-hub:org/name@v1.0@pool=model@mean=0.5"),
    ],
)
def test_vary_name__a_names_own_options_stay(name: str, options: dict[str, str], expected: str) -> None:
    assert vary_name(name, options) == expected


def test_keys__every_field_of_the_preprocessing_can_be_varied() -> None:
    assert set(PREPROCESS_KEYS) == set(Preprocess.__dataclass_fields__)


@pytest.mark.parametrize("name", ["dino@mean=nan", "dino@mean=inf", "dino@std=1e400", "dino@size=64@size=32"])
def test_get_spec__values_that_would_spoil_every_image(name: str) -> None:
    with pytest.raises(OptionError):
        get_spec(name)
