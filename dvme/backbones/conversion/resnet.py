"""The names and shapes of a bottleneck ResNet in torchvision's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from dvme.errors import CheckpointError
from dvme.text import first_few

Blocks = tuple[int, int, int, int]
DEPTHS: dict[int, Blocks] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
"""Blocks in each of the four layers, by the depth that papers write; 200 is SimCLR's and BYOL's."""
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
RGB = 3


@dataclass(frozen=True)
class Unit:
    """A convolution and the normalisation behind it."""

    conv: str
    norm: str
    kernel: int
    takes: str
    """The convolution whose channels reach this one; "" for the image."""
    gives: str
    """The convolution that gives as many channels: itself, or of a layer's sum the first that adds to it."""


def units(blocks: Blocks) -> Iterator[Unit]:
    """Every convolution, a block's shortcut before its own ones: the order in which SimCLR creates them."""
    yield Unit("conv1", "bn1", 7, "", "conv1")
    reaching = "conv1"
    for layer, n_blocks in enumerate(blocks, start=1):
        leaving = f"layer{layer}.0.conv3"
        for block in range(n_blocks):
            prefix = f"layer{layer}.{block}"
            first, second, third = (f"{prefix}.conv{i}" for i in (1, 2, 3))
            if block == 0:
                yield Unit(f"{prefix}.downsample.0", f"{prefix}.downsample.1", 1, reaching, leaving)
            yield Unit(first, f"{prefix}.bn1", 1, reaching, first)
            yield Unit(second, f"{prefix}.bn2", 3, first, second)
            yield Unit(third, f"{prefix}.bn3", 1, second, leaving)
            reaching = leaving


def check_resnet(state: Mapping[str, Tensor], source: str) -> int:
    """The depth of the network whose names and shapes these are.

    Any width will do, as long as every convolution takes what the one before it gives.

    Raises:
        CheckpointError: naming what is missing, left over or of the wrong shape.
    """
    blocks = tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{i}.")}) for i in range(1, 5))
    depth = next((depth for depth, known in DEPTHS.items() if known == blocks), None)
    if depth is None:
        known = ", ".join(f"{blocks} of ResNet-{depth}" for depth, blocks in DEPTHS.items())
        raise CheckpointError(f"{source} has {blocks} blocks in its layers; it can be converted with {known}")
    wanted = {f"{unit.conv}.weight" for unit in units(DEPTHS[depth])}
    wanted |= {f"{unit.norm}.{part}" for unit in units(DEPTHS[depth]) for part in NORM_PARTS}
    misfits = {"lacks": sorted(wanted - set(state)), "has beyond a ResNet": sorted(set(state) - wanted)}
    for what, names in misfits.items():
        if names:
            raise CheckpointError(f"{source} {what} {first_few(names)}; is it the file of a ResNet-{depth}?")
    _check_shapes(state, DEPTHS[depth], source)
    return depth


def _check_shapes(state: Mapping[str, Tensor], blocks: Blocks, source: str) -> None:
    shapes = {unit.conv: tuple(state[f"{unit.conv}.weight"].shape) for unit in units(blocks)}
    n_channels = {conv: shape[0] if len(shape) == 4 else 0 for conv, shape in shapes.items()} | {"": RGB}
    for unit in units(blocks):
        name, shape = f"{unit.conv}.weight", shapes[unit.conv]
        expected = (n_channels[unit.gives], n_channels[unit.takes], unit.kernel, unit.kernel)
        if shape != expected:
            raise CheckpointError(f"{source} does not fit: {name} is {shape}, expected {expected}; is it a ResNet v1?")
        for part in NORM_PARTS:
            if (found := tuple(state[f"{unit.norm}.{part}"].shape)) != shape[:1]:
                message = f"{source} does not fit: {unit.norm}.{part} is {found}, expected {shape[:1]}; fetch it again"
                raise CheckpointError(message)
