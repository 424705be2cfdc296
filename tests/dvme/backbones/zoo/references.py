"""Networks as their papers describe them, from a state dict with the publishers' names, in plain torch functions.

They are written for the tests alone: slow, without timm and torchvision, and with nothing that could be shared
with what they check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]
Padding = Literal["torch", "same-pool", "same"]


# ResNet


def pad_same(images: Tensor, kernel: int, stride: int, fill: float = 0.0) -> Tensor:
    """TensorFlow's SAME: as many outputs as ceil(size / stride), the smaller half of the padding before."""
    pads: list[int] = []
    for size in (images.shape[3], images.shape[2]):  # functional.pad takes the last axis first
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(images, pads, value=fill)


def resnet_features(state: State, images: Tensor, *, padding: Padding, blocks: Iterable[int] = (3, 4, 6, 3)) -> Tensor:
    """(B, 2048 * width): the average of the last feature map of a bottleneck ResNet v1.5, torchvision's names.

    Args:
        state: parameters and running statistics.
        images: (B, 3, H, W).
        padding: `torch`: symmetric; `same-pool`: as SimCLR, only the maximum pooling SAME; `same`: as BYOL,
            strided convolutions as well.
        blocks: per stage.
    """

    def unit(x: Tensor, convolution: str, norm: str, stride: int) -> Tensor:
        weight = state[f"{convolution}.weight"]
        kernel = weight.shape[2]
        if padding == "same" and stride > 1:
            x = functional.conv2d(pad_same(x, kernel, stride), weight, stride=stride)
        else:
            x = functional.conv2d(x, weight, stride=stride, padding=(kernel - 1) // 2)
        mean, var, gain, shift = (
            state[f"{norm}.{part}"][None, :, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gain + shift

    x = unit(images, "conv1", "bn1", 2).relu()
    if padding == "torch":
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
    else:
        x = functional.max_pool2d(pad_same(x, 3, 2, -math.inf), 3, stride=2)
    for stage, n_blocks in enumerate(blocks, start=1):
        for block in range(n_blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = unit(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if block == 0 else x
            x = unit(x, f"{name}.conv1", f"{name}.bn1", 1).relu()
            x = unit(x, f"{name}.conv2", f"{name}.bn2", stride).relu()
            x = (unit(x, f"{name}.conv3", f"{name}.bn3", 1) + shortcut).relu()
    return x.mean(dim=(2, 3))


# Vision transformers


def vit_tokens(state: State, images: Tensor, *, heads: int, positions: Tensor | None = None) -> list[Tensor]:
    """The normalised tokens (B, 1 + R + T, D) after every block, by DINO's and DINOv2's names.

    Args:
        state: `register_tokens`, the layer scales and the gated perceptron are used where they are there.
        images: (B, 3, H, W).
        heads: of the attention.
        positions: (1, 1 + T, D) instead of the state's, for another grid.
    """
    weight = state["patch_embed.proj.weight"]
    patches = functional.conv2d(images, weight, state["patch_embed.proj.bias"], stride=weight.shape[2])
    tokens = patches.flatten(2).transpose(1, 2)  # (B, T, D)
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), tokens], dim=1)
    tokens = tokens + (state["pos_embed"] if positions is None else positions)
    if "register_tokens" in state:  # behind the class token, without positions
        registers = state["register_tokens"].expand(len(images), -1, -1)
        tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
    outputs = []
    for index in range(n_blocks(state)):
        tokens = _block(state, f"blocks.{index}", tokens, heads, eps=1e-6)
        outputs.append(_layer_norm(state, "norm", tokens, 1e-6))
    return outputs


def dinov3_tokens(state: State, images: Tensor, *, heads: int) -> Tensor:
    """The normalised tokens (B, 5 + T, D) after the last block, by DINOv3's names.

    Patches are turned by their centre's place in [-1, 1] on both axes; class and storage tokens are not.

    Source: Simeoni et al. 2025, section on the rotary position embedding; periods from 1 to 100.
    """
    weight = state["patch_embed.proj.weight"]
    patches = functional.conv2d(images, weight, state["patch_embed.proj.bias"], stride=weight.shape[2])
    height, width = patches.shape[2:]
    prefix = torch.cat([state["cls_token"], state["storage_tokens"]], dim=1).expand(len(images), -1, -1)
    tokens = torch.cat([prefix, patches.flatten(2).transpose(1, 2)], dim=1)

    per_head = tokens.shape[2] // heads
    periods = 100.0 ** (torch.arange(per_head // 4) / (per_head // 4))  # (P,)
    rows = (torch.arange(height) + 0.5) / height * 2 - 1
    columns = (torch.arange(width) + 0.5) / width * 2 - 1
    places = torch.cartesian_prod(rows, columns)  # (T, 2)
    angles = (2 * math.pi * places[:, :, None] / periods).flatten(1).repeat(1, 2)  # (T, per_head)

    def turned(x: Tensor) -> Tensor:
        """(B, heads, T, per_head)."""
        still, moving = x[:, :, : prefix.shape[1]], x[:, :, prefix.shape[1] :]
        first, second = moving.chunk(2, dim=-1)
        moving = moving * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()
        return torch.cat([still, moving], dim=2)

    for index in range(n_blocks(state)):
        tokens = _block(state, f"blocks.{index}", tokens, heads, eps=1e-5, turned=turned)
    return _layer_norm(state, "norm", tokens, 1e-5)


def n_blocks(state: State) -> int:
    return 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))


def _block(
    state: State,
    name: str,
    tokens: Tensor,
    heads: int,
    *,
    eps: float,
    turned: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """One pre-norm block; `turned` is what happens to queries and keys (B, heads, T, D / heads)."""
    n, t, d = tokens.shape
    projected = _linear(state, f"{name}.attn.qkv", _layer_norm(state, f"{name}.norm1", tokens, eps))
    queries, keys, values = (part.reshape(n, t, heads, d // heads).transpose(1, 2) for part in projected.split(d, 2))
    if turned is not None:
        queries, keys = turned(queries), turned(keys)
    attention = (queries @ keys.transpose(2, 3) / math.sqrt(d // heads)).softmax(dim=3)  # (B, heads, T, T)
    attended = (attention @ values).transpose(1, 2).reshape(n, t, d)
    scale = state.get(f"{name}.ls1.gamma", torch.ones(()))
    tokens = tokens + scale * _linear(state, f"{name}.attn.proj", attended)
    normed = _layer_norm(state, f"{name}.norm2", tokens, eps)
    if f"{name}.mlp.w12.weight" in state:
        gate, value = _linear(state, f"{name}.mlp.w12", normed).chunk(2, dim=2)
        out = _linear(state, f"{name}.mlp.w3", gate * torch.sigmoid(gate) * value)
    else:
        hidden = _linear(state, f"{name}.mlp.fc1", normed)
        out = _linear(state, f"{name}.mlp.fc2", hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))
    return tokens + state.get(f"{name}.ls2.gamma", torch.ones(())) * out


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _layer_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(dim=2, keepdim=True)
    spread = (centred.square().mean(dim=2, keepdim=True) + eps).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


# Position embeddings


def cubic(distance: Tensor, a: float = -0.75) -> Tensor:
    """The kernel of bicubic interpolation. Source: Keys 1981, equation 15, with torch's constant."""
    x = distance.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def resampling_matrix(before: int, after: int, *, scale: float) -> Tensor:
    """(after, before): weights of bicubic interpolation along one axis without antialiasing, edges repeated."""
    weights = torch.zeros(after, before, dtype=torch.float64)
    for row in range(after):
        centre = (row + 0.5) / scale - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            column = min(max(tap, 0), before - 1)
            weights[row, column] += cubic(torch.tensor(centre - tap, dtype=torch.float64))
    return weights


def resample_positions(positions: Tensor, grid: int, *, offset: float) -> Tensor:
    """Position embeddings (1, 1 + T, D) for grid x grid patches, by a scale of (grid + offset) / before."""
    before = math.isqrt(positions.shape[1] - 1)
    matrix = resampling_matrix(before, grid, scale=(grid + offset) / before)
    square = positions[0, 1:].reshape(before, before, -1).double()
    moved = torch.einsum("ab,cd,bde->ace", matrix, matrix, square).reshape(1, grid * grid, -1)
    return torch.cat([positions[:, :1], moved.to(positions.dtype)], dim=1)
