"""Vision transformers of the zoo give what the publishers' formulations give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional

from dvme.backbones import BackboneSpec, get_spec
from dvme.backbones.description.spec import Pooling
from dvme.backbones.loading.building import build_model
from dvme.backbones.model.adaptation import resample_as_dino

from .catalogue import in_model, in_state_dict, in_teacher
from .published import PublishedFile, Row, State, dinov2, dinov3, normal, vit
from .references import dinov3_tokens, resample_positions, resampling_matrix, vit_tokens

DIM, DEPTH, HEADS = 48, 5, 6
SMALL = {"embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS}
SWIGLU_HIDDEN = 128
"""Two thirds of four times 48."""


def filled(rows: tuple[Row, ...], prefix: str = "", seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return PublishedFile(rows, prefix).state(lambda row: normal(row, generator))


def pooled(blocks: list[Tensor], pooling: Pooling, n_registers: int = 0) -> Tensor:
    """The published protocols, from the normalised tokens of every block."""
    if pooling == "class-token":
        return blocks[-1][:, 0]
    if pooling == "class-token-last-4":
        return torch.cat([blocks[-4][:, 0], blocks[-3][:, 0], blocks[-2][:, 0], blocks[-1][:, 0]], dim=1)
    return torch.cat([blocks[-1][:, 0], blocks[-1][:, 1 + n_registers :].mean(dim=1)], dim=1)


@pytest.mark.parametrize("pooling", ["class-token", "class-token-last-4", "class-and-mean"])
@pytest.mark.parametrize(
    ("name", "prefix", "wrap", "patch"),
    [
        ("dino", "", dict, 8),
        ("dino", "module.backbone.", in_teacher, 8),
        ("dino-vitb16", "", dict, 16),
        ("mae", "", in_model, 16),
        ("sit", "module.backbone.", in_teacher, 16),
        ("moco-v3-vitb16", "module.base_encoder.", in_state_dict, 16),
    ],
)
def test_vit__equals_dinos_formulation(
    name: str,
    prefix: str,
    wrap: Callable[[State], Any],
    patch: int,
    pooling: Pooling,
    features: Callable[..., Tensor],
    of_size: Callable[..., BackboneSpec],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    rows = vit(DIM, depth=DEPTH, patch=patch, n_positions=(64 // patch) ** 2 + 1)
    state = filled(rows)
    spec = replace(of_size(get_spec(name), 64, **SMALL, img_size=64), pooling=pooling)
    found = features(spec, wrap({prefix + key: value for key, value in state.items()}), noise(64, 2))
    with torch.inference_mode():
        assert_close(found, pooled(vit_tokens(state, noise(64, 2), heads=HEADS), pooling))


def test_moco_v3_vit_small__in_full_size_has_twelve_heads(
    features: Callable[..., Tensor], noise: Callable[..., Tensor], assert_close: Callable[..., None]
) -> None:
    state = filled(vit(384))
    content = in_state_dict({f"module.base_encoder.{key}": value for key, value in state.items()})
    found = features(get_spec("moco-v3-vits16"), content, noise(224))
    with torch.inference_mode():
        assert_close(found, vit_tokens(state, noise(224), heads=12)[-1][:, 0])
        of_six = vit_tokens(state, noise(224), heads=6)[-1][:, 0]
    assert float((found - of_six).abs().max()) > 0.01 * float(found.abs().max())


@pytest.mark.parametrize(("name", "heads"), [("dino", 6), ("dino-vitb16", 12), ("mae", 12), ("sit", 6)])
def test_vit__heads_as_published(name: str, heads: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(get_spec(name).architecture, num_classes=0)
    assert {block.attn.num_heads for block in model.blocks} == {heads}


# DINOv2


@pytest.mark.parametrize(
    ("name", "n_registers", "hidden"),
    [
        ("dinov2-vits14", 0, None),
        ("dinov2-vits14-reg", 4, None),
        ("dinov2-vitg14", 0, SWIGLU_HIDDEN),
        ("dinov2-vitg14-reg", 4, SWIGLU_HIDDEN),
        ("rad-dino", 0, None),
    ],
)
def test_dinov2__equals_dinos_formulation_with_registers(
    name: str,
    n_registers: int,
    hidden: int | None,
    features: Callable[..., Tensor],
    of_size: Callable[..., BackboneSpec],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    """Positions are added to class and patches; registers come between them afterwards, and are not averaged."""
    state = filled(dinov2(DIM, depth=DEPTH, n_registers=n_registers, hidden=hidden, n_positions=26))
    spec = of_size(get_spec(name), 70, **SMALL, img_size=70)
    found = features(spec, state, noise(70, 2))
    with torch.inference_mode():
        blocks = vit_tokens(state, noise(70, 2), heads=HEADS)
        assert blocks[-1].shape == (2, 1 + n_registers + 25, DIM)
        assert_close(found, pooled(blocks, spec.pooling, n_registers))


@pytest.mark.parametrize(("name", "offset"), [("dinov2-vits14", 0.1), ("dinov2-vits14-reg", None)])
def test_dinov2__resamples_its_positions_as_published(
    name: str,
    offset: float | None,
    features: Callable[..., Tensor],
    of_size: Callable[..., BackboneSpec],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    """From 8 x 8 patches to 5 x 5: by a tenth too large and rough without registers, antialiased with them."""
    n_registers = 4 if "reg" in name else 0
    state = filled(dinov2(DIM, depth=2, n_registers=n_registers, n_positions=65))
    spec = of_size(get_spec(name), 70, **{**SMALL, "depth": 2}, img_size=112)
    if offset is None:
        square = state["pos_embed"][:, 1:].reshape(1, 8, 8, DIM).permute(0, 3, 1, 2)
        smooth = functional.interpolate(square, size=(5, 5), mode="bicubic", antialias=True)
        positions = torch.cat([state["pos_embed"][:, :1], smooth.flatten(2).transpose(1, 2)], dim=1)
    else:
        positions = resample_positions(state["pos_embed"], 5, offset=offset)
    found = features(spec, state, noise(70))
    with torch.inference_mode():
        blocks = vit_tokens(state, noise(70), heads=HEADS, positions=positions)
    assert_close(found, pooled(blocks, spec.pooling, n_registers))


def test_dino__resamples_its_positions_as_published(
    features: Callable[..., Tensor],
    of_size: Callable[..., BackboneSpec],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    state = filled(vit(DIM, depth=4, patch=8, n_positions=65))
    spec = of_size(get_spec("dino"), 96, **{**SMALL, "depth": 4}, img_size=64)
    found = features(spec, state, noise(96))
    positions = resample_positions(state["pos_embed"], 12, offset=0.1)
    with torch.inference_mode():
        assert_close(found, pooled(vit_tokens(state, noise(96), heads=HEADS, positions=positions), spec.pooling))


@pytest.mark.parametrize(("before", "after"), [(28, 16), (37, 16), (37, 32), (14, 28), (14, 15), (14, 13), (14, 60)])
def test_resample_as_dino__equals_the_formula(before: int, after: int) -> None:
    positions = torch.randn(1, 1 + before**2, 8, generator=torch.Generator().manual_seed(before))
    found = resample_as_dino(positions, n_prefix=1, grid=after)
    expected = resample_positions(positions, after, offset=0.1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    exact = resample_positions(positions, after, offset=0.0)
    assert float((expected - exact).abs().max()) > 1e-3
    if before != after:
        assert torch.equal(found[:, 0], positions[:, 0])


def test_resampling_matrix__by_hand() -> None:
    """Twice the size: weights at a quarter and three quarters of a step, which sum to 1."""
    near, far = 0.87890625, 0.26171875  # 1.25 x^3 - 2.25 x^2 + 1 at 1/4 and 3/4
    outer, outermost = -0.03515625, -0.10546875  # the outer part of the kernel at 7/4 and 5/4
    matrix = resampling_matrix(6, 12, scale=2.0)
    assert matrix[5].tolist() == pytest.approx([0.0, outermost, near, far, outer, 0.0])
    assert matrix.sum(dim=1).tolist() == pytest.approx([1.0] * 12)


def test_antialiased_resampling__equals_timms(
    of_size: Callable[..., BackboneSpec], tmp_path: Path, assert_close: Callable[..., None]
) -> None:
    """timm loads a file of another grid, and resamples in its own way."""
    state = filled(vit(DIM, depth=2, n_positions=65))
    content = in_state_dict({f"module.base_encoder.{key}": value for key, value in state.items()})
    torch.save(content, tmp_path / "weights.pth")
    spec = of_size(get_spec("moco-v3-vitb16"), 80, **{**SMALL, "depth": 2}, img_size=128)
    found = build_model(spec, tmp_path / "weights.pth").model
    overlay = {"state_dict": state, "num_classes": 0}
    arguments = {**SMALL, "depth": 2, "img_size": 80, "num_classes": 0}
    expected = timm.create_model(spec.architecture, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
    assert found.pos_embed.shape == (1, 26, DIM)
    assert_close(found.pos_embed.detach(), expected.pos_embed.detach())
    assert_close(found.norm.weight.detach(), expected.norm.weight.detach())


# DINOv3


@pytest.mark.parametrize("size", [64, 96])
def test_dinov3__equals_its_formulation(
    size: int,
    features: Callable[..., Tensor],
    of_size: Callable[..., BackboneSpec],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    state = filled(dinov3(DIM, depth=DEPTH))
    for index in range(DEPTH):
        state[f"blocks.{index}.attn.qkv.bias"][DIM : 2 * DIM] = 0.0  # masked in training
    masks = {f"blocks.{index}.attn.qkv.bias_mask": torch.ones(3 * DIM) for index in range(DEPTH)}
    extras = masks | {"mask_token": torch.zeros(1, DIM), "rope_embed.periods": torch.ones(2)}
    spec = of_size(get_spec("dinov3-vits16"), size, embed_dim=DIM, depth=DEPTH, num_heads=HEADS)
    found = features(spec, state | extras, noise(size, 2))
    with torch.inference_mode():
        assert_close(found, dinov3_tokens(state, noise(size, 2), heads=HEADS)[:, 0])


# Grey input


@pytest.mark.parametrize(
    ("name", "arguments"), [("supervised", {}), ("byol", {}), ("dino", SMALL), ("dinov2-vits14-reg", SMALL)]
)
def test_grey_input__first_convolution_is_the_sum_over_colours(
    name: str, arguments: dict[str, Any], of_size: Callable[..., BackboneSpec], assert_close: Callable[..., None]
) -> None:
    """A grey image gives what three equal channels give, if they are normalised alike."""
    base = replace(get_spec(name), checkpoint=None, source="random")
    size = 56
    colour = of_size(base, size, **arguments)
    grey = replace(colour, preprocess=replace(colour.preprocess, mean=(0.4,), std=(0.2,)))
    models = [build_model(spec).model.eval() for spec in (colour, grey)]
    image = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    first = [next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)) for model in models]
    assert first[1].weight.shape[1] == first[1].in_channels == 1
    assert torch.equal(first[1].weight, first[0].weight.sum(dim=1, keepdim=True))
    with torch.inference_mode():
        assert_close(models[1](image), models[0](image.expand(-1, 3, -1, -1)))
