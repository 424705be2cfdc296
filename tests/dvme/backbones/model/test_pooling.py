"""Pooling against timm's own, on feature maps, tokens, channels-last maps and models without either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import timm
import torch
from small_networks import NARROW
from torch import Tensor, nn

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.description.spec import Pooling
from dvme.backbones.loading.model import Backbone
from dvme.backbones.model.pooling import POOLS, check_pooling
from dvme.errors import OptionError

CPU = torch.device("cpu")
VIT = {"img_size": 64, "depth": 4, "num_classes": 0}
SWIN = {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4, "num_classes": 0}
Embed = Callable[[nn.Module, Pooling], Tensor]


def spec_of(pooling: Pooling) -> BackboneSpec:
    return replace(get_spec("random"), name="net", dim=None, pooling=pooling, preprocess=Preprocess(resize=64, crop=64))


@pytest.fixture
def images(pixels: Tensor, normalised: Callable[..., Tensor]) -> Tensor:
    return normalised(pixels, Preprocess(resize=64, crop=64))


@pytest.fixture
def embed(pixels: Tensor) -> Embed:
    """Embeddings (2, D) of the two images."""

    def embed(model: nn.Module, pooling: Pooling) -> Tensor:
        return Backbone(spec_of(pooling), model, CPU).embed(pixels)

    return embed


def check_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def same_weights(model: nn.Module, architecture: str, **arguments: Any) -> nn.Module:
    """The same weights in timm's model with another pooling."""
    peer = timm.create_model(architecture, **arguments).eval()
    peer.load_state_dict(model.state_dict())
    return peer


def test_pools__one_for_every_name() -> None:
    assert set(POOLS) == set(get_args(Pooling))


def test_average__of_a_convolutional_network_is_timms(
    embed: Embed, randomise: Callable[..., Any], images: Tensor
) -> None:
    model = randomise(timm.create_model("resnet18", num_classes=0, **NARROW))
    with torch.inference_mode():
        expected = model(images)
        by_hand = model.forward_features(images).mean(dim=(2, 3))
    check_equal(embed(model, "average"), expected)
    check_equal(expected, by_hand)
    check_equal(embed(model, "model"), expected)


@pytest.mark.parametrize("reg_tokens", [0, 3])
def test_average__of_a_transformer_is_over_patches_alone(
    reg_tokens: int, embed: Embed, randomise: Callable[..., Any], images: Tensor
) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", reg_tokens=reg_tokens, **VIT))
    peer = same_weights(model, "vit_tiny_patch16_224", reg_tokens=reg_tokens, global_pool="avg", fc_norm=False, **VIT)
    with torch.inference_mode():
        tokens = model.forward_features(images)
        assert tokens.shape == (2, 1 + reg_tokens + 16, 192)
        expected = peer(images)
        check_equal(tokens[:, -16:].mean(dim=1), expected)
    check_equal(embed(model, "average"), expected)
    assert not torch.allclose(tokens.mean(dim=1), expected, atol=1e-3)  # the prefix would have shown


def test_average__of_a_transformer_with_two_prefix_tokens(
    embed: Embed, randomise: Callable[..., Any], images: Tensor
) -> None:
    model = randomise(timm.create_model("deit_tiny_distilled_patch16_224", **VIT))
    with torch.inference_mode():
        expected = model.forward_features(images)[:, 2:].mean(dim=1)
    check_equal(embed(model, "average"), expected)


def test_average__of_a_network_whose_channels_are_last_is_timms(
    embed: Embed, randomise: Callable[..., Any], images: Tensor
) -> None:
    model = randomise(timm.create_model("swin_tiny_patch4_window7_224", **SWIN))
    with torch.inference_mode():
        assert model.forward_features(images).shape == (2, 8, 8, 32)
        expected = model(images)
    check_equal(embed(model, "average"), expected)
    check_equal(embed(model, "model"), expected)


def test_average__normalises_after_pooling_where_the_model_does(
    embed: Embed, randomise: Callable[..., Any], images: Tensor
) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", global_pool="avg", **VIT))
    assert isinstance(model.fc_norm, nn.LayerNorm)
    with torch.inference_mode():
        expected = model(images)
    check_equal(embed(model, "average"), expected)
    peer = same_weights(model, "vit_tiny_patch16_224", global_pool="token", fc_norm=True, **VIT)
    with torch.inference_mode():
        expected = peer(images)
    check_equal(embed(model, "class-token"), expected)


@pytest.mark.parametrize("architecture", ["coat_lite_tiny", "coat_lite_medium_384"])
def test_pools__of_a_coat_know_the_class_token_of_each_stage(
    architecture: str, embed: Embed, randomise: Callable[..., Any], images: Tensor
) -> None:
    small = {
        "img_size": 64,
        "embed_dims": (16, 16, 16, 32),
        "serial_depths": (1, 1, 1, 1),
        "num_heads": 8,
        "num_classes": 0,
    }
    model = randomise(timm.create_model(architecture, **small))
    peer = same_weights(model, architecture, global_pool="avg", **small)
    with torch.inference_mode():
        tokens = model.forward_features(images)
        assert tokens.shape == (2, 1 + 4, 32)
        check_equal(embed(model, "average"), peer(images))
        check_equal(embed(model, "class-token"), model(images))  # timm's default
    check_equal(embed(model, "class-and-mean"), torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))


def test_average__of_an_eva(embed: Embed, randomise: Callable[..., Any], images: Tensor) -> None:
    model = randomise(timm.create_model("eva02_tiny_patch14_224", img_size=64, patch_size=16, depth=2, num_classes=0))
    with torch.inference_mode():
        expected = model(images)  # its own pooling is the average
    check_equal(embed(model, "average"), expected)


def test_class_token__is_timms(embed: Embed, randomise: Callable[..., Any], images: Tensor) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", **VIT))
    with torch.inference_mode():
        expected = model(images)  # timm's default is the class token
        first = model.forward_features(images)[:, 0]
    check_equal(embed(model, "class-token"), expected)
    check_equal(first, expected)


@pytest.mark.parametrize("reg_tokens", [0, 2])
def test_class_and_mean__is_both_side_by_side(reg_tokens: int, embed: Embed, randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", reg_tokens=reg_tokens, **VIT))
    expected = torch.cat([embed(model, "class-token"), embed(model, "average")], dim=1)
    assert torch.equal(embed(model, "class-and-mean"), expected)


def test_class_token_last_4__ends_with_the_class_token(
    embed: Embed, randomise: Callable[..., Any], images: Tensor
) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", **VIT | {"depth": 5}))
    found = embed(model, "class-token-last-4")
    assert found.shape == (2, 4 * 192)
    check_equal(found[:, -192:], embed(model, "class-token"))
    # The second of five blocks' output, by walking through the model.
    with torch.inference_mode():
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(images)))
        for block in model.blocks[:2]:
            tokens = block(tokens)
        expected = model.norm(tokens)[:, 0]
    check_equal(found[:, :192], expected)


@pytest.mark.parametrize("pooling", ["class-token", "class-token-last-4", "class-and-mean"])
@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("resnet18", NARROW),
        ("swin_tiny_patch4_window7_224", SWIN),
        ("vit_tiny_patch16_224", VIT | {"class_token": False, "global_pool": "avg"}),
    ],
)
def test_check_pooling__no_class_token(pooling: Pooling, architecture: str, arguments: dict[str, Any]) -> None:
    model = timm.create_model(architecture, **arguments)
    with pytest.raises(OptionError) as caught:
        Backbone(spec_of(pooling), model, CPU)
    assert str(caught.value) == f"net has no class token for {pooling!r}; choose pool=average"
    check_pooling(model, "average", "net")
    check_pooling(model, "model", "net")


class Plain(nn.Module):
    """Mean colours, and nothing of timm's."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def test_model__without_feature_maps(embed: Embed, images: Tensor) -> None:
    check_equal(embed(Plain(), "model"), images.mean(dim=(2, 3)))
    with pytest.raises(OptionError) as caught:
        embed(Plain(), "average")
    assert str(caught.value) == "net pools on its own; choose pool=model"
    with pytest.raises(OptionError, match="choose pool="):
        embed(Plain(), "class-token")


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_pools__one_image_at_a_time_gives_the_same(
    pooling: Pooling, randomise: Callable[..., Any], pixels: Tensor
) -> None:
    model = randomise(timm.create_model("vit_tiny_patch16_224", **VIT))
    backbone = Backbone(spec_of(pooling), model, CPU)
    both = backbone.embed(pixels)
    check_equal(torch.cat([backbone.embed(pixels[:1]), backbone.embed(pixels[1:])]), both)
    assert float((both[0] - both[1]).abs().max()) > 0.01 * float(both.abs().max())


@pytest.mark.parametrize("architecture", ["hiera_tiny_224", "twins_svt_small", "gmixer_12_224", "volo_d1_224"])
def test_check_pooling__average_is_known_or_refused(architecture: str) -> None:
    """Token models without a count of their prefix tokens: pooled if they have no class token, else refused."""
    model = timm.create_model(architecture, num_classes=0).eval()
    if getattr(model, "cls_token", None) is not None:
        with pytest.raises(OptionError, match="choose pool=model"):
            check_pooling(model, "average", "net")
        return
    check_pooling(model, "average", "net")
    with torch.inference_mode():
        assert POOLS["average"](model, torch.zeros(1, 3, 224, 224)).shape == (1, model.num_features)


def test_pools__last_four_class_tokens_are_normalised_where_the_norm_comes_after_pooling() -> None:
    torch.manual_seed(0)
    model = timm.create_model("beit_base_patch16_224", num_classes=0, depth=5, embed_dim=48, num_heads=4).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        last = POOLS["class-token-last-4"](model, images)[:, -48:]
        torch.testing.assert_close(last, POOLS["class-token"](model, images))
