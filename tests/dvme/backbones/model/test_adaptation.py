"""Another input than published: grey, or of another size, against timm's models built for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_networks import NARROW, NARROW_DIM
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.description.variation import vary
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import Backbone
from dvme.backbones.model.adaptation import adapt, resample_as_dino, resize_input, sum_first_convolution
from dvme.errors import OptionError

CPU = torch.device("cpu")
VIT = {"img_size": 64, "depth": 2, "num_classes": 0}
SWIN = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "num_classes": 0}


def spec_of(size: int = 64, **changes: Any) -> BackboneSpec:
    preprocess = Preprocess(resize=size, crop=size)
    fields = {"name": "net", "architecture": "resnet18", "dim": None, "pooling": "model", "preprocess": preprocess}
    return replace(get_spec("random"), **fields | changes)


def noise(size: int, channels: int = 3, n: int = 2) -> Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1))


def check_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("size", [32, 80, 128])
@pytest.mark.parametrize(
    "more",
    [{}, {"reg_tokens": 2}, {"reg_tokens": 2, "no_embed_class": True}, {"class_token": False, "global_pool": "avg"}],
)
def test_resize_input__is_timms_model_of_that_size(
    size: int, more: dict[str, Any], randomise: Callable[..., Any]
) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", **VIT | more))
    state = dict(model.state_dict())
    peer = timm.create_model("vit_tiny_patch16_224", **VIT | more | {"img_size": size}).eval()
    n_prefix = state["pos_embed"].shape[1] - 16
    state["pos_embed"] = resample_abs_pos_embed(
        state["pos_embed"], [size // 16] * 2, num_prefix_tokens=n_prefix, antialias=True
    )
    peer.load_state_dict(state)
    resize_input(model, size, "antialiased", name="net")
    images = noise(size)
    with torch.inference_mode():
        check_equal(model(images), peer(images))


def test_resize_input__at_the_published_size_changes_nothing(randomise: Callable[..., Any]) -> None:
    for resampling in ("antialiased", "dino"):
        model = randomise(timm.create_model("vit_tiny_patch16_224", **VIT))
        before = model.pos_embed
        resize_input(model, 64, resampling, name="net")  # type: ignore[arg-type]
        assert model.pos_embed is before


def test_resize_input__a_convolutional_network_takes_any_size(randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    resize_input(model, 97, "antialiased", name="net")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model(noise(97)).shape == (2, NARROW_DIM)


@pytest.mark.parametrize("size", [1, 15, 17, 63, 70, 100])
def test_resize_input__patches_that_do_not_fill_the_image(size: int) -> None:
    model = timm.create_model("vit_tiny_patch16_224", **VIT)
    with pytest.raises(OptionError) as caught:
        resize_input(model, size, "antialiased", name="net")
    lower = max(size // 16, 1) * 16
    hint = f"try {lower} or {lower + 16}"
    assert str(caught.value) == f"net has patches of 16 pixels, which do not fill {size}; {hint}"
    for allowed in (lower, lower + 16):
        other = timm.create_model("vit_tiny_patch16_224", **VIT)
        resize_input(other, allowed, "antialiased", name="net")
        assert other(noise(allowed, n=1)).shape == (1, 192)


def test_resize_input__dynamic_size_is_left_to_the_model(randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **VIT))
    images = noise(96)
    with torch.inference_mode():
        expected = model(images)
        resize_input(model, 96, "antialiased", name="net")
        assert torch.equal(model(images), expected)
    with pytest.raises(OptionError, match="do not fill 100; try 96 or 112"):
        resize_input(model, 100, "antialiased", name="net")


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's interpolation of the relative positions
def test_resize_input__windows_of_a_swin(randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, **SWIN))
    peer = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, **SWIN).eval()
    peer.load_state_dict(model.state_dict())
    peer.set_input_size(img_size=(96, 96))
    resize_input(model, 96, "antialiased", name="net")
    with torch.inference_mode():
        check_equal(model(noise(96)), peer(noise(96)))


@pytest.mark.parametrize("size", [32, 80, 256])
def test_resize_input__an_xcit_computes_its_positions_for_any_size(size: int, randomise: Callable[..., Any]) -> None:
    arguments = {"depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
    model = randomise(timm.create_model("xcit_nano_12_p16_224", **arguments))
    peer = timm.create_model("xcit_nano_12_p16_224", img_size=size, **arguments).eval()
    peer.load_state_dict(model.state_dict())
    resize_input(model, size, "antialiased", name="net")
    with torch.inference_mode():
        check_equal(model(noise(size)), peer(noise(size)))
    with pytest.raises(OptionError, match="patches of 16 pixels, which do not fill 100; try 96 or 112"):
        resize_input(model, 100, "antialiased", name="net")


def test_resize_input__model_of_one_size() -> None:
    model = timm.create_model("cait_xxs24_224", depth=1, num_classes=0)
    with pytest.raises(OptionError, match="net takes images of 224 pixels only; choose that size"):
        resize_input(model, 64, "antialiased", name="net")


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, as in torch and in OpenCV."""
    a, t = -0.75, abs(distance)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def line(n_before: int, n_after: int) -> NDArray[np.float64]:
    """(n_after, n_before) weights of a bicubic interpolation by (n_after + 0.1) / n_before, borders repeated."""
    weights = np.zeros((n_after, n_before))
    for target in range(n_after):
        place = (target + 0.5) * n_before / (n_after + 0.1) - 0.5
        for source in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[target, min(max(source, 0), n_before - 1)] += cubic(place - source)
    return weights


@settings(max_examples=40, deadline=None)
@given(before=st.integers(2, 9), grid=st.integers(1, 12), n_prefix=st.integers(0, 3))
def test_resample_as_dino__by_hand(before: int, grid: int, n_prefix: int) -> None:
    positions = torch.randn(1, n_prefix + before**2, 3, generator=torch.Generator().manual_seed(before))
    found = resample_as_dino(positions, n_prefix=n_prefix, grid=grid)
    assert found.shape == (1, n_prefix + grid**2, 3)
    assert torch.equal(found[:, :n_prefix], positions[:, :n_prefix])
    square = positions[0, n_prefix:].double().numpy().reshape(before, before, 3)
    weights = np.eye(before) if before == grid else line(before, grid)
    expected = np.einsum("ai,bj,ijd->abd", weights, weights, square).reshape(-1, 3)
    np.testing.assert_allclose(found[0, n_prefix:].numpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("more", [{}, {"reg_tokens": 2}, {"reg_tokens": 2, "no_embed_class": True}])
def test_resize_input__as_dino(more: dict[str, Any], randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", **VIT | more))
    before = model.pos_embed.detach().clone()
    n_prefix = before.shape[1] - 16
    peer = timm.create_model("vit_tiny_patch16_224", **VIT | more | {"img_size": 96}).eval()
    square = before[0, n_prefix:].double().numpy().reshape(4, 4, 192)
    resampled = np.einsum("ai,bj,ijd->abd", line(4, 6), line(4, 6), square).reshape(1, 36, 192)
    positions = torch.cat([before[:, :n_prefix], torch.from_numpy(resampled).float()], dim=1)
    peer.load_state_dict(dict(model.state_dict()) | {"pos_embed": positions})
    resize_input(model, 96, "dino", name="net")
    with torch.inference_mode():
        check_equal(model(noise(96)), peer(noise(96)))
    antialiased = resample_abs_pos_embed(before, [6, 6], num_prefix_tokens=n_prefix)
    assert not torch.allclose(antialiased, positions, atol=1e-4)  # the two differ


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("resnet18", NARROW),
        ("vit_tiny_patch16_224", VIT),
        ("swin_tiny_patch4_window7_224", SWIN | {"img_size": 64, "window_size": 4}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_sum_first_convolution__grey_equals_the_same_value_in_three_channels(
    architecture: str, arguments: dict[str, Any], randomise: Callable[..., Any]
) -> None:
    model = randomise(timm.create_model(architecture, **{"num_classes": 0} | arguments))
    grey = noise(64, channels=1)
    with torch.inference_mode():
        expected = model(grey.repeat(1, 3, 1, 1))
        sum_first_convolution(model, "net")
        check_equal(model(grey), expected)


def test_sum_first_convolution__is_timms(randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    peer = timm.create_model("resnet18", num_classes=0, **NARROW, in_chans=1).eval()
    state = dict(model.state_dict())
    peer.load_state_dict(state | {"conv1.weight": state["conv1.weight"].sum(dim=1, keepdim=True)})
    sum_first_convolution(model, "net")
    with torch.inference_mode():
        assert torch.equal(model(noise(64, channels=1)), peer(noise(64, channels=1)))


@pytest.mark.parametrize("model", [nn.Conv2d(3, 6, 1, groups=3), nn.Conv2d(5, 2, 1)])
def test_sum_first_convolution__not_over_three_channels(model: nn.Module) -> None:
    with pytest.raises(OptionError) as caught:
        sum_first_convolution(model, "net")
    assert str(caught.value) == "net has no first convolution over three channels; leave out in-chans=1"


def test_sum_first_convolution__grey_already() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sum_first_convolution(model, "net")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_adapt__backbone_that_is_grey_as_published(randomise: Callable[..., Any]) -> None:
    spec = spec_of(
        preprocess=Preprocess(resize=64, crop=64, mean=(0.5,), std=(0.25,)), architecture_args={"in_chans": 1}
    )
    pixels = torch.randint(0, 256, (2, 64, 64, 1), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    model = build_model(spec).model
    assert model.conv1.weight.shape[1] == 1
    with torch.inference_mode():
        expected = model.eval()((pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25)
    check_equal(Backbone(spec, model, CPU).embed(pixels), expected)


def test_adapt__grey_pixels_to_embeddings(randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    published = spec_of()
    spec = vary(published, {"in-chans": "1"})
    pixels = torch.randint(0, 256, (2, 64, 64, 1), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    images = (pixels.permute(0, 3, 1, 2).double() / 255 - 0.449) / 0.226
    with torch.inference_mode():
        expected = model(images.float().repeat(1, 3, 1, 1))
    adapt(model, spec)
    backbone = Backbone(spec, model, CPU)
    check_equal(backbone.embed(pixels), expected)
    assert backbone.fingerprint("float32").fields["preprocess.mean"] == [0.449]


def test_adapt__grey_and_another_size_at_once(randomise: Callable[..., Any]) -> None:
    both = randomise(timm.create_model("vit_tiny_patch16_224", **VIT))
    sized = copy.deepcopy(both)
    adapt(both, vary(spec_of(), {"in-chans": "1", "size": "96"}))
    adapt(sized, vary(spec_of(), {"size": "96"}))
    grey = noise(96, channels=1)
    with torch.inference_mode():
        check_equal(both(grey), sized(grey.repeat(1, 3, 1, 1)))


def test_adapt__the_resampling_of_the_specification(randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", **VIT))
    models = {resampling: copy.deepcopy(model) for resampling in ("antialiased", "dino")}
    for resampling, each in models.items():
        adapt(each, spec_of(96, position_resampling=resampling))
    expected = resample_as_dino(model.pos_embed, n_prefix=1, grid=6)
    torch.testing.assert_close(models["dino"].pos_embed.detach(), expected)
    assert not torch.allclose(models["antialiased"].pos_embed, expected, atol=1e-4)


def test_adapt__size_that_patches_do_not_fill_is_refused_by_name() -> None:
    spec = replace(spec_of(), architecture="vit_tiny_patch16_224", architecture_args={"depth": 1})
    with pytest.raises(OptionError, match=r"^net@size=100 has patches of 16 pixels, which do not fill 100; try 96 or"):
        build_model(vary(spec, {"size": "100"}))


def test_sum_first_convolution__weights_that_are_standardised_are_refused() -> None:
    """Standardising the sum is not summing the standardised: the filters would be others, in silence."""
    model = timm.create_model("resnetv2_50x1_bit", num_classes=0)
    with pytest.raises(OptionError, match="standardises its first convolution's weights"):
        sum_first_convolution(model, "net")
