from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.description.variation import vary
from dvme.backbones.loading.model import hash_weights, load_backbone
from dvme.backbones.loading.trainable import Trainable, check_trainable, trainable
from dvme.backbones.own.custom import spec_from_toml
from dvme.errors import CheckpointError, OptionError

LITE = "efficientnet-lite0@size=32"
"""Real weights of a package, on small pictures."""
AGREEMENT = 1e-4
"""Largest difference from the folded model that is rounding, relative to the largest element."""
CPU = torch.device("cpu")
OWN = """
name = "own"
architecture = "{architecture}"
pooling = "{pooling}"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "weights.pth"
"""


@pytest.fixture
def own(tmp_path: Path, randomise: Callable[..., Any]) -> Callable[..., BackboneSpec]:
    """A spec in TOML with weights beside it, every one of which matters."""

    def make(architecture: str, pooling: str) -> BackboneSpec:
        weights = randomise(timm.create_model(architecture, num_classes=0)).state_dict()
        torch.save(weights, tmp_path / "weights.pth")
        toml = tmp_path / "own.toml"
        toml.write_text(OWN.format(architecture=architecture, pooling=pooling))
        return spec_from_toml(toml)

    return make


def built(make: Callable[[], nn.Module], name: str = "mine") -> BackboneSpec:
    """A module of the user's own, of images of 4 x 4."""
    preprocess = Preprocess(resize=4, crop=4)
    return replace(get_spec("random"), name=name, source="built", build=make, pooling="model", preprocess=preprocess)


def pictures(spec: BackboneSpec, n_images: int = 4) -> Tensor:
    """(B, H, W, C) uint8 of noise of several brightnesses."""
    crop, channels = spec.preprocess.crop, spec.preprocess.channels
    rng = np.random.default_rng(3)
    levels = rng.integers(20, 256, size=(n_images, 1, 1, 1))
    return torch.from_numpy(rng.integers(0, levels, size=(n_images, crop, crop, channels)).astype(np.uint8))


def assert_as_folded(spec: BackboneSpec) -> None:
    """Embeddings of the trainable model are those that extraction computes."""
    pixels, model = pictures(spec), trainable(spec)
    backbone = load_backbone(spec)
    expected = backbone.embed(pixels)
    with torch.no_grad():
        found = model(pixels.permute(0, 3, 1, 2).float())
    assert (found.shape, found.dtype, model.dim) == (expected.shape, torch.float32, backbone.dim)
    torch.testing.assert_close(found, expected, rtol=0, atol=AGREEMENT * float(expected.abs().max()))
    assert float((expected[0] - expected[1]).abs().max()) > 100 * AGREEMENT * float(expected.abs().max())
    assert hash_weights(model.network) == backbone.weights_hash


@pytest.mark.parametrize("name", [LITE, f"{LITE}@in-chans=1"])
def test_trainable__published_weights_embed_as_the_folded_backbone(name: str) -> None:
    assert_as_folded(get_spec(name))


@pytest.mark.parametrize(
    ("architecture", "pooling", "options"),
    [
        ("test_resnet", "average", {}),
        ("test_resnet", "model", {"in-chans": "1"}),
        ("test_vit", "class-token", {}),
        ("test_vit", "average", {"in-chans": "1"}),
    ],
)
def test_trainable__own_weights_embed_as_the_folded_backbone(
    own: Callable[..., BackboneSpec], architecture: str, pooling: str, options: dict[str, str]
) -> None:
    assert_as_folded(vary(own(architecture, pooling), options))


@pytest.mark.parametrize(("architecture", "pooling"), [("test_resnet", "average"), ("test_vit", "class-and-mean")])
def test_trainable__every_parameter_gets_a_gradient(
    own: Callable[..., BackboneSpec], architecture: str, pooling: str
) -> None:
    spec = own(architecture, pooling)
    model = trainable(spec)
    assert not model.training
    images = pictures(spec).permute(0, 3, 1, 2).float()
    before = images.clone()
    (model(images) * torch.randn(4, model.dim, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert all(weights.grad is not None and weights.grad.any() for weights in model.parameters())
    assert torch.equal(images, before)
    assert set(model.state_dict()) == {f"network.{name}" for name in model.network.state_dict()}


def test_trainable__a_copy_is_trained_by_itself(own: Callable[..., BackboneSpec]) -> None:
    spec = own("test_resnet", "average")
    model = trainable(spec)
    before, images = hash_weights(model), pictures(spec).permute(0, 3, 1, 2).float()
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    other(images).square().mean().backward()
    optimizer.step()
    assert (hash_weights(model), other.spec, other.dim) == (before, spec, model.dim)
    assert hash_weights(other) != before


def test_trainable__random_weights_by_seed(own: Callable[..., BackboneSpec]) -> None:
    spec = own("test_resnet", "average")
    state = torch.random.get_rng_state()
    published, first, again, other = (hash_weights(trainable(spec, random_seed=seed)) for seed in (None, 3, 3, 4))
    assert first == again
    assert len({published, first, other}) == 3
    assert trainable(spec, random_seed=3).spec == spec
    assert torch.equal(torch.random.get_rng_state(), state)


def test_trainable__random_weights_need_no_file(own: Callable[..., BackboneSpec], tmp_path: Path) -> None:
    spec = own("test_vit", "class-token")
    (tmp_path / "weights.pth").unlink()
    check_trainable(trainable(vary(spec, {"in-chans": "1"}), random_seed=0))
    hub = replace(spec, source="hub", checkpoint=None, architecture_args={"num_classes": 7, "img_size": 64})
    check_trainable(trainable(hub, random_seed=0))


def test_trainable__refuses_what_it_cannot_build() -> None:
    with pytest.raises(OptionError, match=r"lite0@.*bf16 computes in bf16, and weights are trained in float32; leave"):
        trainable(get_spec(f"{LITE}@precision=bf16"))
    with pytest.raises(OptionError, match="mine is built with its weights, and has no random ones; leave it out of b"):
        trainable(built(nn.Flatten), random_seed=1)


@pytest.mark.parametrize(("architecture", "pooling"), [("test_convnext", "average"), ("test_resnet", "model")])
def test_check_trainable__changes_nothing(own: Callable[..., BackboneSpec], architecture: str, pooling: str) -> None:
    """Weights that the pooling passes by, as ConvNeXt's last normalisation, need no gradient."""
    model = trainable(own(architecture, pooling))
    before = hash_weights(model)
    check_trainable(model)
    assert hash_weights(model) == before
    assert all(weights.grad is None and weights.requires_grad for weights in model.parameters())


class Stem(nn.Module):
    """A convolution, perhaps out of reach of gradients, before a linear layer."""

    def __init__(self, keep_gradients: Callable[[], Any] = torch.enable_grad) -> None:
        super().__init__()
        self.stem, self.last, self.keep_gradients = nn.Conv2d(3, 4, 3), nn.Linear(16, 5), keep_gradients
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        with self.keep_gradients():
            features = self.stem(images)
        out: Tensor = self.last(features.flatten(start_dim=1))
        return out


class Rounded(Stem):
    """Whose embeddings are whole numbers, so that every gradient is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).round()


class Overwritten(Stem):
    """Which overwrites what the way back needs."""

    def forward(self, images: Tensor) -> Tensor:
        out = super().forward(images).exp()
        return out.add_(1).detach().zero_() + out


def normalising() -> nn.Module:
    """With a batch normalisation that has no statistics."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())


def test_check_trainable__weights_that_nothing_uses_are_no_reason() -> None:
    check_trainable(trainable(built(Stem)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nn.Flatten, "it has no weights"),
        (normalising, "the batch normalisation 1 has no statistics, so that an embedding depends on the other images"),
        (lambda: Stem(torch.no_grad), r"no gradient reaches stem\.weight, stem\.bias, .*, and embeddings change with"),
        (lambda: Stem(torch.inference_mode), r"no gradient reaches stem\.weight, stem\.bias, "),
        (Rounded, r"no gradient reaches stem\.weight, stem\.bias, last\.weight, \.\.\., and"),
        (Overwritten, "one of the variables needed for gradient computation has been modified by an inplace operation"),
    ],
)
def test_check_trainable__refuses_naming_the_backbone(make: Callable[[], nn.Module], said: str) -> None:
    model = trainable(built(make))
    with pytest.raises(OptionError, match=f"^mine cannot be trained: ({said})") as caught:
        check_trainable(model)
    message = str(caught.value)
    assert message.endswith("; leave it out of backbones, or the methods that train weights out of heads")
    assert "\n" not in message
    assert all(weights.grad is None for weights in model.parameters())


def test_trainable__a_network_that_does_not_take_its_images() -> None:
    spec = built(lambda: nn.Linear(3, 3))
    with pytest.raises(CheckpointError, match="mine cannot take images of 4 x 4 x 3: mat1 and mat2 shapes"):
        Trainable(spec, nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), CPU)
