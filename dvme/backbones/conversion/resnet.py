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


def units(blocks: Blocks) -> Iterator[Unit]:
    """Every convolution, a block's shortcut before its own ones: the order in which SimCLR creates them."""
    yield Unit("conv1", "bn1", 7)
    for layer, n_blocks in enumerate(blocks, start=1):
        for block in range(n_blocks):
            prefix = f"layer{layer}.{block}"
            if block == 0:
                yield Unit(f"{prefix}.downsample.0", f"{prefix}.downsample.1", 1)
            for i, kernel in enumerate((1, 3, 1), start=1):
                yield Unit(f"{prefix}.conv{i}", f"{prefix}.bn{i}", kernel)


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
    given = _channels_given(state, blocks)
    for unit in units(blocks):
        name = f"{unit.conv}.weight"
        shape = tuple(state[name].shape)
        wanted = (given[unit.conv], given[unit.norm], unit.kernel, unit.kernel)
        if len(shape) != 4 or (shape[1], shape[0], *shape[2:]) != wanted:
            expected = (wanted[1], wanted[0], *wanted[2:])
            raise CheckpointError(f"{source} does not fit: {name} is {shape}, expected {expected}; is it a ResNet v1?")
        for part in NORM_PARTS:
            if (found := tuple(state[f"{unit.norm}.{part}"].shape)) != shape[:1]:
                message = f"{source} does not fit: {unit.norm}.{part} is {found}, expected {shape[:1]}; fetch it again"
                raise CheckpointError(message)


def _channels_given(state: Mapping[str, Tensor], blocks: Blocks) -> dict[str, int]:
    """Channels that reach each convolution, and that each normalisation must pass on."""
    size = {name.removesuffix(".weight"): value.shape[0] for name, value in state.items() if value.ndim == 4}
    size |= {unit.conv: size.get(unit.conv, 0) for unit in units(blocks)}
    given = {"conv1": RGB, "bn1": size["conv1"]}
    reaching = size["conv1"]
    for layer, n_blocks in enumerate(blocks, start=1):
        leaving = size[f"layer{layer}.0.conv3"]
        given |= {f"layer{layer}.0.downsample.0": reaching, f"layer{layer}.0.downsample.1": leaving}
        for block in range(n_blocks):
            prefix = f"layer{layer}.{block}"
            inner, middle = size[f"{prefix}.conv1"], size[f"{prefix}.conv2"]
            given |= {f"{prefix}.conv1": reaching, f"{prefix}.conv2": inner, f"{prefix}.conv3": middle}
            given |= {f"{prefix}.bn1": inner, f"{prefix}.bn2": middle, f"{prefix}.bn3": leaving}
            reaching = leaving
    return given
