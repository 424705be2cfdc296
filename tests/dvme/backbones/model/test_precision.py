"""bfloat16 and float16 beside float32, by family; TF32 where there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from small_networks import NARROW
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.loading.model import Backbone, load_backbone
from dvme.backbones.model.precision import check_precision
from dvme.errors import CheckpointError, OptionError

CPU = torch.device("cpu")
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet18": NARROW,
    "test_efficientnet": {},
    "test_vit": {"img_size": 64},
    "test_convnext": {},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 4)},
}
DIGITS = {"bf16": 2.0**-9, "fp16": 2.0**-12}
"""Largest relative error of rounding one number: 8 and 11 significant bits."""
ROUNDINGS = 8
"""What they amount to at the end of these networks, in units of one; measured are 1.5 to 5 of them."""


def spec_of(name: str, **changes: Any) -> BackboneSpec:
    base = replace(get_spec("random"), architecture=name, architecture_args=FAMILIES.get(name, {}), dim=None)
    return replace(base, pooling="model", preprocess=Preprocess(resize=64, crop=64), **changes)


@pytest.mark.parametrize("precision", DIGITS)
@pytest.mark.parametrize("name", FAMILIES)
def test_embed__half_precision_is_near_float32(
    name: str, precision: Any, pixels: Tensor, randomise: Callable[..., Any]
) -> None:
    """And is another number: float32 is not what was computed."""
    model = randomise(timm.create_model(name, num_classes=0, **FAMILIES[name]))
    exact = Backbone(spec_of(name), copy.deepcopy(model), CPU).embed(pixels)
    found = Backbone(spec_of(name, precision=precision), model, CPU).embed(pixels)
    assert (found.dtype, found.shape) == (torch.float32, exact.shape)
    error = (found - exact).norm(dim=1) / exact.norm(dim=1)
    assert DIGITS[precision] / 2 < float(error.min())
    assert float(error.max()) < ROUNDINGS * DIGITS[precision]
    assert float(cosine_similarity(found, exact).min()) > 1.0 - (ROUNDINGS * DIGITS[precision]) ** 2 / 2.0


class Watched(nn.Module):
    """Notes the type of what it is given and of its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 1.0 / 3.0))
        self.register_buffer("index", torch.arange(2))
        self.seen: list[torch.dtype] = []
        self.formats: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen += [images.dtype, self.scale.dtype, self.index.dtype]
        self.formats.append(images.is_contiguous(memory_format=torch.channels_last))
        return (images * self.scale).mean(dim=(2, 3))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_backbone__all_of_the_model_and_its_input_are_cast_once(
    precision: Any, dtype: torch.dtype, pixels: Tensor
) -> None:
    """Channels stay last, integers stay integers, and a third is what is next to it in that type."""
    watched = Watched()
    backbone = Backbone(spec_of("", precision=precision), watched, CPU)
    watched.seen.clear()
    watched.formats.clear()
    white = torch.full_like(pixels, 255)
    found = backbone.embed(white)
    assert (watched.seen, watched.formats) == ([dtype, dtype, torch.int64], [True])
    third = torch.tensor(1.0 / 3.0).to(dtype)
    mean, std = torch.tensor(backbone.spec.preprocess.mean), torch.tensor(backbone.spec.preprocess.std)
    expected = (((1.0 - mean) / std).to(dtype) * third).float()
    torch.testing.assert_close(found, expected.expand(2, 3), rtol=2 * DIGITS[precision], atol=0)


def test_backbone__batch_norms_are_folded_in_float32(pixels: Tensor, randomise: Callable[..., Any]) -> None:
    """In bfloat16 the check of the folding, a part in ten thousand, would refuse it."""
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    backbone = Backbone(spec_of("resnet18", precision="bf16"), model, CPU)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in backbone._model.modules())
    assert {value.dtype for value in backbone._model.parameters()} == {torch.bfloat16}


def test_backbone__the_fingerprint_has_it_where_it_is_not_float32() -> None:
    """So that no cache made before is another one now."""
    plain, half = load_backbone(spec_of("test_vit")), load_backbone(spec_of("test_vit", precision="bf16"))
    assert "precision" not in plain.fingerprint("float32").fields
    differences = half.fingerprint("float32").differences(plain.fingerprint("float32"))
    assert differences == [("precision", "bf16", None)]


def test_backbone__a_model_that_cannot_be_cast() -> None:
    class Stubborn(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) @ torch.ones(3 * 64 * 64, 2)  # made anew each time, in float32

    assert Backbone(spec_of(""), Stubborn(), CPU).dim == 2
    with pytest.raises(CheckpointError, match=r"random cannot take images of 64 x 64 x 3 in fp16 on cpu: expected"):
        Backbone(spec_of("", precision="fp16"), Stubborn(), CPU)


@pytest.mark.parametrize("device", ["cpu", "mps", "xpu:1"])
def test_check_precision__no_tf32(device: str) -> None:
    spec = get_spec("supervised@precision=tf32")
    message = f"^supervised@precision=tf32 computes in TF32, which {device} does not have, only NVIDIA GPUs from Ampere"
    with pytest.raises(OptionError, match=message):
        check_precision(spec, torch.device(device))
    check_precision(get_spec("supervised@precision=bf16"), torch.device(device))


def test_load_backbone__no_tf32_is_said_before_weights_are_looked_for() -> None:
    with pytest.raises(OptionError, match=r"choose precision=float32 or bf16"):
        load_backbone("dinov3-vits16@precision=tf32")


@pytest.mark.gpu
def test_embed__tf32_on_a_gpu(pixels: Tensor, randomise: Callable[..., Any]) -> None:
    """Eleven significant bits, of the factors only."""
    cuda = torch.device("cuda")
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    exact = Backbone(spec_of("resnet18"), copy.deepcopy(model), cuda).embed(pixels)
    found = Backbone(spec_of("resnet18", precision="tf32"), model, cuda).embed(pixels)
    error = (found - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(error.min()) > 1e-6
    assert float(error.max()) < ROUNDINGS * DIGITS["fp16"]
