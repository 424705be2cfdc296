"""ResNets of the zoo give what the publishers' networks give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from dvme.backbones import get_spec

from .catalogue import in_separius, in_state_dict, in_vissl
from .published import RESNET_152, PublishedFile, State, normal, resnet
from .references import Padding, pad_same, resnet_features

SHALLOW = (1, 2, 2, 1)
"""Blocks by stage: a second one shows what no first one does."""


def filled(file: PublishedFile, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return file.state(lambda row: normal(row, generator))


@pytest.fixture(scope="module")
def state() -> State:
    """By torchvision's names."""
    return filled(PublishedFile(resnet(SHALLOW)))


def test_resnet_features__reference_equals_torchvision(
    state: State, noise: Callable[..., Tensor], assert_close: Callable[..., None]
) -> None:
    model = ResNet(Bottleneck, list(SHALLOW)).eval()
    model.fc = nn.Identity()  # type: ignore[assignment]
    model.load_state_dict(state, strict=True)
    with torch.inference_mode():
        assert_close(resnet_features(state, noise(97), padding="torch", blocks=SHALLOW), model(noise(97)))


@pytest.mark.parametrize(
    ("name", "prefix", "wrap", "size"),
    [
        pytest.param("supervised", "", dict, 224, marks=pytest.mark.slow),
        ("supervised", "", dict, 97),
        ("swav", "module.", dict, 97),
        ("moco-v2", "module.encoder_q.", in_state_dict, 97),
        ("simclr", "_feature_blocks.", in_vissl, 97),
    ],
)
def test_resnet50__equals_torchvision(
    name: str,
    prefix: str,
    wrap: Callable[[State], Any],
    size: int,
    state: State,
    features: Callable[..., Tensor],
    of_size: Callable[..., Any],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    """Pooled features before the classifier, with the same weights."""
    model = ResNet(Bottleneck, list(SHALLOW)).eval()
    model.fc = nn.Identity()  # type: ignore[assignment]
    model.load_state_dict(state, strict=True)
    content = wrap({prefix + key: value for key, value in state.items()})
    found = features(of_size(get_spec(name), size, layers=SHALLOW), content, noise(size))
    assert found.shape == (1, 2048)
    with torch.inference_mode():
        assert_close(found, model(noise(size)))


def test_resnet50__swavs_odd_stem_equals_a_padding_of_three(state: State, noise: Callable[..., Tensor]) -> None:
    """Its images get a border of 1, its first convolution one of 2."""
    weight = state["conv1.weight"]
    own = nn.functional.conv2d(nn.functional.pad(noise(64), (1, 1, 1, 1)), weight, stride=2, padding=2)
    assert torch.equal(own, nn.functional.conv2d(noise(64), weight, stride=2, padding=3))


# As TensorFlow and JAX pad


@pytest.mark.parametrize(
    ("name", "padding", "size", "differs_from"),
    [
        ("simclr-v1", "same-pool", 224, ["torch", "same"]),
        ("simclr-v1", "same-pool", 99, ["torch"]),  # 99, 50, 25, 13, 7: only the pooling meets an even size
        ("simclr-v1-2x", "same-pool", 64, ["torch", "same"]),
        ("simclr-v2", "same-pool", 96, ["torch", "same"]),
        ("byol", "same", 224, ["torch", "same-pool"]),
        ("byol", "same", 110, ["torch", "same-pool"]),
        ("byol", "same", 99, ["torch"]),
        ("byol", "same", 101, ["torch", "same-pool"]),  # 101, 51, 26, 13, 7: only the second stage
    ],
)
def test_converted_resnet__pads_as_its_framework(
    name: str,
    padding: Padding,
    size: int,
    differs_from: list[Padding],
    features: Callable[..., Tensor],
    of_size: Callable[..., Any],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    width = get_spec(name).dim // 2048 / 4
    spec = of_size(get_spec(name), size, width_factor=width)
    state = filled(PublishedFile(resnet(width=width)))
    found = features(spec, state, noise(size))
    assert found.shape == (1, 2048 * width)
    with torch.inference_mode():
        assert_close(found, resnet_features(state, noise(size), padding=padding))
        for other in differs_from:
            different = resnet_features(state, noise(size), padding=other)
            assert float((found - different).abs().max()) > 1e-3 * float(found.abs().max()), other


def test_simclr_v2__separius_file_equals_its_torchvision_names(
    features: Callable[..., Tensor],
    of_size: Callable[..., Any],
    noise: Callable[..., Tensor],
    assert_close: Callable[..., None],
) -> None:
    """The same tensors under the names of both, through both layouts of one backbone."""
    theirs = filled(PublishedFile(resnet(own="separius", width=0.25)))
    names = zip(resnet(own="separius"), resnet(), strict=True)
    state = {usual.name: theirs[own.name] for own, usual in names}
    content = in_separius(theirs) | {"head": {"layers.0.weight": torch.zeros(1)}}
    found = features(of_size(get_spec("simclr-v2"), 96, width_factor=0.25), content, noise(96))
    with torch.inference_mode():
        assert_close(found, resnet_features(state, noise(96), padding="same-pool"))


def test_simclr_v2_152__names_of_a_deep_network_are_its_own() -> None:
    """Blocks with two digits: no rule may take layer3.10 for layer3.1."""
    rows = resnet(RESNET_152, own="separius", timm="resnetv2")
    assert len({row.name for row in rows}) == len({row.timm for row in rows}) == len(rows) == 930
    assert ("net.3.blocks.35.net.4.weight", ("stages.2.blocks.35.conv3.weight",)) in {row[:2] for row in rows}


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(224, 7, 2, (2, 3)), (112, 3, 2, (0, 1)), (225, 7, 2, (3, 3)), (113, 3, 2, (1, 1)), (56, 1, 2, (0, 0))],
)
def test_pad_same__by_hand(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> None:
    padded = pad_same(torch.ones(1, 1, size, size), kernel, stride)
    assert padded.shape[2:] == (size + sum(pads),) * 2
    before = pads[0]
    assert torch.equal(padded[0, 0, before : before + size, before : before + size], torch.ones(size, size))
