"""Tokens of layers against timm called directly, on transformers and other networks, with registers and without."""

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

from dvme.backbones import Preprocess, get_spec
from dvme.backbones.description.dense import Grid, grids_of
from dvme.backbones.loading.model import Backbone
from dvme.backbones.model.bn_folding import fold_batch_norms
from dvme.backbones.model.dense import DensePool
from dvme.errors import OptionError

CPU = torch.device("cpu")
SIZE = 64
VIT = {"img_size": SIZE, "depth": 4}
SWIN = {"img_size": SIZE, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
PUBLISHED = [
    ("vit_tiny_patch16_224", VIT | {"reg_tokens": 4}, "1+3+4", [0, 2, 3], True),
    ("vit_tiny_patch16_224", VIT, "last-2", [2, 3], True),
    ("vit_tiny_patch16_224", VIT | {"global_pool": "avg", "class_token": False}, "2", [1], True),
    ("resnet18", NARROW, "last-5", [0, 1, 2, 3, 4], False),
    ("tf_efficientnet_lite0", {}, "2+5", [1, 4], False),
    ("swin_tiny_patch4_window7_224", SWIN, "1+2", [0, 1], True),
    ("convnext_atto", CONVNEXT, "last-3", [1, 2, 3], False),
]


@pytest.fixture
def images(pixels: Tensor, normalised: Callable[..., Tensor]) -> Tensor:
    return normalised(pixels, Preprocess(resize=SIZE, crop=SIZE))


def dense_backbone(model: nn.Module, layers: str, **changes: Any) -> Backbone:
    spec = replace(get_spec("random"), name=f"net@dense={layers}", dense=layers, dim=None, **changes)
    return Backbone(replace(spec, preprocess=Preprocess(resize=SIZE, crop=SIZE)), model, CPU)


def maps_of(row: Tensor, grids: tuple[Grid, ...]) -> list[Tensor]:
    """(B, channels, rows, columns) of each map of flat rows (B, D), by a slow way round."""
    maps, at = [], 0
    for grid in grids:
        part = torch.empty(len(row), grid.channels, grid.rows, grid.columns)
        for i in range(grid.rows):
            for j in range(grid.columns):
                part[:, :, i, j] = row[:, at : at + grid.channels]
                at += grid.channels
        maps.append(part)
    assert at == row.shape[1]
    return maps


@pytest.mark.parametrize(("architecture", "arguments", "layers", "indices", "norm"), PUBLISHED)
def test_embed__the_tokens_of_timms_own_forward_intermediates(
    architecture: str,
    arguments: dict[str, Any],
    layers: str,
    indices: list[int],
    norm: bool,
    pixels: Tensor,
    images: Tensor,
    randomise: Callable[..., Any],
) -> None:
    model = randomise(timm.create_model(architecture, num_classes=0, **arguments))
    with torch.inference_mode():
        expected = model.forward_intermediates(images, indices=indices, norm=norm, intermediates_only=True)
    backbone = dense_backbone(model, layers)
    found = backbone.embed(pixels)
    assert backbone.grids == tuple(Grid(each.shape[2], each.shape[3], each.shape[1]) for each in expected)
    fields = backbone.fingerprint("float16").fields
    assert (fields["dense"], grids_of(fields), fields["dim"]) == (layers, backbone.grids, found.shape[1])
    # Folded batch norms round otherwise; without any the tokens are timm's.
    is_folded = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for mine, theirs in zip(maps_of(found, backbone.grids), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=(1e-4 if is_folded else 1e-5) * float(theirs.abs().max()))


@pytest.mark.parametrize("reg_tokens", [0, 4])
def test_embed__of_the_last_layer_dinos_normalised_patch_tokens(
    reg_tokens: int, pixels: Tensor, images: Tensor, randomise: Callable[..., Any]
) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=0, reg_tokens=reg_tokens, **VIT))
    with torch.inference_mode():
        expected = model.forward_features(images)[:, 1 + reg_tokens :]  # (2, 16, 192)
    found = dense_backbone(model, "last").embed(pixels).reshape(2, 16, 192)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_embed__of_the_last_layer_what_a_network_pools(
    pixels: Tensor, images: Tensor, randomise: Callable[..., Any]
) -> None:
    """The mean over the grid is the plain embedding, of a network that has nothing behind its last level."""
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    with torch.inference_mode():
        expected = model(images)
    backbone = dense_backbone(model, "last")
    (grid,) = backbone.grids
    found = backbone.embed(pixels).reshape(2, grid.n_tokens, grid.channels).mean(dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_embed__cells_lie_where_the_image_shows_them(randomise: Callable[..., Any]) -> None:
    """A square that is lit changes the cells that show it, and of others those at its border, which see some of it."""
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    backbone = dense_backbone(model, "1")
    (grid,) = backbone.grids
    side, border = SIZE // grid.rows, 2
    assert (grid.rows, side) == (32, 2)
    dark = torch.full((1, SIZE, SIZE, 3), 60, dtype=torch.uint8)
    for row, column in ((0, 0), (6, 20), (28, 4)):
        lit = dark.clone()
        lit[:, row * side : (row + 4) * side, column * side : (column + 4) * side] = 250
        change = (backbone.embed(lit) - backbone.embed(dark)).reshape(grid.rows, grid.columns, grid.channels)
        is_changed = change.abs().sum(dim=2) > 0
        assert is_changed[row : row + 4, column : column + 4].all()
        is_changed[max(0, row - border) : row + 4 + border, max(0, column - border) : column + 4 + border] = False
        assert not is_changed.any()


@pytest.mark.parametrize(("architecture", "arguments"), [("resnet18", NARROW), ("tf_efficientnet_lite0", {})])
def test_fold__every_level_stays_what_it_was(
    architecture: str, arguments: dict[str, Any], images: Tensor, randomise: Callable[..., Any]
) -> None:
    model = randomise(timm.create_model(architecture, num_classes=0, **arguments))
    n_levels = len(model.feature_info)
    pool = DensePool("net", f"last-{n_levels}")
    folded = fold_batch_norms(model, images, pool.maps)
    assert folded is not model
    with torch.inference_mode():
        found = folded.forward_intermediates(images, intermediates_only=True)
        expected = model.forward_intermediates(images, intermediates_only=True)
    assert len(found) == n_levels
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).mean(dim=(2, 3))


def test_embed__refuses_what_has_no_grid_or_not_these_layers(randomise: Callable[..., Any]) -> None:
    with pytest.raises(OptionError, match=r"net@dense=last has no grid of tokens, its pooling is all there is"):
        dense_backbone(Flat(), "last")
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT))
    for layers in ("5", "last-5"):
        with pytest.raises(OptionError, match=f"dense={layers} is not possible; net@dense={layers} has layers 1 to 4"):
            dense_backbone(model, layers)


def test_embed__in_half_precision_is_near(pixels: Tensor, randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT))
    whole, half = (dense_backbone(copy.deepcopy(model), "2+4", precision=each) for each in ("float32", "bf16"))
    assert half.grids == whole.grids
    expected = whole.embed(pixels)
    difference = (half.embed(pixels) - expected).abs().max() / expected.abs().max()
    assert 0 < float(difference) < 0.1
