from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import Tensor

from dvme.backbones.conversion.resnet import DEPTHS, NORM_PARTS, check_resnet, units
from dvme.errors import CheckpointError

State = dict[str, Tensor]


def published(depth: int) -> State:
    """torchvision's own ResNet, without data, classifier and batch counters."""
    with torch.device("meta"):
        state = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    return {name: value for name, value in state.items() if not name.startswith("fc.") and "tracked" not in name}


@pytest.fixture(scope="module")
def resnet50() -> State:
    return published(50)


@pytest.mark.parametrize(("depth", "n_convs"), [(50, 53), (101, 104), (152, 155)])
def test_units__torchvisions_names_and_kernels(depth: int, n_convs: int) -> None:
    expected = published(depth)
    found = list(units(DEPTHS[depth]))
    assert len(found) == n_convs
    names = {f"{unit.conv}.weight" for unit in found} | {f"{unit.norm}.{part}" for unit in found for part in NORM_PARTS}
    assert names == set(expected)
    assert all(expected[f"{unit.conv}.weight"].shape[-1] == unit.kernel for unit in found)
    assert check_resnet(expected, "x") == depth


def test_units__two_hundred_layers__by_hand() -> None:
    """1 + (3 + 24 + 36 + 3) * 3 + 4 shortcuts."""
    assert len(list(units(DEPTHS[200]))) == 203


def test_units__first_block__shortcut_before_its_own() -> None:
    assert [unit.conv for unit in units(DEPTHS[50])][:6] == [
        "conv1",
        "layer1.0.downsample.0",
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer1.0.conv3",
        "layer1.1.conv1",
    ]


def test_check_resnet__wide__is_a_resnet() -> None:
    with torch.device("meta"):
        state = torchvision.models.wide_resnet50_2().state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith("fc.") and "tracked" not in name}
    assert check_resnet(kept, "x") == 50


@pytest.mark.parametrize(
    ("name", "shape", "complaint"),
    [
        ("conv1.weight", (64, 3, 3, 3), "conv1.weight is (64, 3, 3, 3), expected (64, 3, 7, 7)"),
        ("conv1.weight", (64, 1, 7, 7), "conv1.weight is (64, 1, 7, 7), expected (64, 3, 7, 7)"),
        ("layer3.2.conv2.weight", (256, 255, 3, 3), "is (256, 255, 3, 3), expected (256, 256, 3, 3)"),
        ("layer2.1.conv3.weight", (500, 128, 1, 1), "is (500, 128, 1, 1), expected (512, 128, 1, 1)"),
        ("layer4.0.downsample.0.weight", (2048, 512, 1, 1), "expected (2048, 1024, 1, 1)"),
        ("layer1.0.conv1.weight", (64, 64), "is (64, 64), expected"),
        ("layer1.2.bn3.running_var", (64,), "layer1.2.bn3.running_var is (64,), expected (256,)"),
    ],
)
def test_check_resnet__wrong_shape__is_named(
    resnet50: State, name: str, shape: tuple[int, ...], complaint: str
) -> None:
    with pytest.raises(CheckpointError, match=re.escape(complaint)):
        check_resnet(resnet50 | {name: torch.empty(shape, device="meta")}, "x.pkl")


def test_check_resnet__missing_and_left_over__are_named(resnet50: State) -> None:
    lacking = {name: value for name, value in resnet50.items() if name != "layer2.3.bn1.bias"}
    with pytest.raises(CheckpointError, match=r"x.pkl lacks layer2\.3\.bn1\.bias"):
        check_resnet(lacking, "x.pkl")
    with pytest.raises(CheckpointError, match=r"has beyond a ResNet fc\.weight"):
        check_resnet(resnet50 | {"fc.weight": torch.empty(1)}, "x.pkl")


@pytest.mark.parametrize("depth", [18, 34])
def test_check_resnet__basic_blocks__are_refused(depth: int) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pkl"):
        check_resnet(published(depth), "x.pkl")
