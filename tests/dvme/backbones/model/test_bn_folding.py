from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from dvme.backbones.model.bn_folding import AGREEMENT, fold_batch_norms

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def normalisations(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


class Block(nn.Module):
    """Convolution, normalisation, and a way to put them together that subclasses change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)).mean((2, 3))


class OutputUsedTwice(Block):
    def forward(self, images: Tensor) -> Tensor:
        convolved = self.conv(images)
        return (self.norm(convolved) + convolved).mean((2, 3))


class ConvolvedTwice(Block):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(images))).mean((2, 3))


class NormalisedTwice(Block):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.norm(self.conv(images))).mean((2, 3))


class SomethingBetween(Block):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images).relu()).mean((2, 3))


@pytest.mark.parametrize(("architecture", "n_normalisations"), [("resnet18", 20), ("tf_efficientnet_lite0", 49)])
def test_fused__equals_the_plain_model(architecture: str, n_normalisations: int, randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model(architecture, num_classes=0))
    with torch.inference_mode():
        expected = model(IMAGES)
    folded = fold_batch_norms(model, 2.0 * IMAGES.flip(0))  # watched on other images than compared
    with torch.inference_mode():
        found = folded(IMAGES)
    assert folded is not model
    assert normalisations(folded) == 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_fused__leaves_the_model_as_it_was(randomise: Callable[..., Any]) -> None:
    model = randomise(timm.create_model("resnet18", num_classes=0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        expected = model(IMAGES)
    folded = fold_batch_norms(model, IMAGES)
    assert normalisations(model) == 20
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(model(IMAGES), expected)
    hooks = [module._forward_hooks or module._forward_pre_hooks for module in (*folded.modules(), *model.modules())]
    assert not any(hooks)


def test_fused__by_hand() -> None:
    block = Block().eval().requires_grad_(False)
    block.conv.weight.zero_()
    block.conv.weight[:, :, 1, 1] = torch.eye(3)
    block.conv.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    block.norm.running_mean.copy_(torch.tensor([1.0, 0.0, 0.0]))
    block.norm.running_var.copy_(torch.tensor([4.0, 1.0, 0.25]) - block.norm.eps)
    block.norm.weight.copy_(torch.tensor([1.0, 2.0, 1.0]))
    block.norm.bias.copy_(torch.tensor([0.0, 0.0, 5.0]))
    folded = fold_batch_norms(block, IMAGES)
    assert folded is not block
    # scale = weight / sqrt(var) = 0.5, 2, 2; shift = bias + scale * (conv.bias - mean) = -0.5, 2, 9
    torch.testing.assert_close(folded.conv.weight[:, :, 1, 1], torch.diag(torch.tensor([0.5, 2.0, 2.0])))
    torch.testing.assert_close(folded.conv.bias, torch.tensor([-0.5, 2.0, 9.0]))


@pytest.mark.parametrize("kind", [OutputUsedTwice, ConvolvedTwice, NormalisedTwice, SomethingBetween])
def test_fused__pairs_that_must_not_be_folded(kind: type[Block], randomise: Callable[..., Any]) -> None:
    model = randomise(kind())
    assert fold_batch_norms(model, IMAGES) is model


def test_fused__nothing_to_fold(randomise: Callable[..., Any]) -> None:
    plain = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert fold_batch_norms(plain, IMAGES) is plain


def test_fused__normalisation_without_running_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()).eval()
    assert fold_batch_norms(model, IMAGES) is model


def test_agreement__is_stricter_than_half_precision() -> None:
    assert torch.finfo(torch.float16).eps > AGREEMENT
