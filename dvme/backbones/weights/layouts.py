"""Names and tensors of published layouts, turned into those of timm's architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from dvme.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

TensorMap: TypeAlias = "dict[str, Tensor]"

TORCHVISION_TO_RESNETV2 = (
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.norm."),
    *((rf"^layer{stage + 1}\.", f"stages.{stage}.blocks.") for stage in range(4)),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.downsample\.0\.", ".downsample.conv."),
    (r"\.downsample\.1\.", ".downsample.norm."),
)
"""torchvision's ResNet names to those of timm's ResNetV2, which pads and widens as SimCLR and BYOL need it."""

SIMCLR_V2_CONVERTER_TO_RESNETV2 = (
    (r"^net\.0\.0\.", "stem.conv."),
    (r"^net\.0\.1\.0\.", "stem.norm."),
    *((rf"^net\.{stage + 1}\.blocks\.", f"stages.{stage}.blocks.") for stage in range(4)),
    (r"\.projection\.shortcut\.", ".downsample.conv."),
    (r"\.projection\.bn\.0\.", ".downsample.norm."),
    *((rf"\.net\.{2 * i}\.", f".conv{i + 1}.") for i in range(3)),
    *((rf"\.net\.{2 * i + 1}\.0\.", f".norm{i + 1}.") for i in range(3)),
)
"""Names of SimCLRv2-Pytorch's converter (a Sequential of Sequentials) to those of timm's ResNetV2."""

DINOV3_TO_EVA = (
    (r"^storage_tokens$", "reg_token"),
    (r"\.ls(\d)\.gamma$", r".gamma_\1"),
)
"""DINOv3's names to those of timm's Eva."""

DINOV2_TO_TIMM = (
    (r"^register_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
"""DINOv2's names to those of timm's VisionTransformer; `w12` and `w3` are the giant's SwiGLU."""


def _dinov2_registers(state: TensorMap) -> TensorMap:
    """The class token takes its position embedding in; register tokens have none.

    Raises:
        CheckpointError: if there is no class token, or no position embedding to take in.
    """
    for key in ("cls_token", "pos_embed"):
        if key not in state:
            raise CheckpointError(f"missing keys {key}")
    token, positions = state["cls_token"], state["pos_embed"]  # (1, 1, D), (1, 1 + T, D)
    if positions.ndim != 3 or len(positions) != 1:
        raise CheckpointError(f"wrong shapes pos_embed {tuple(positions.shape)}, not (1, tokens, dimensions)")
    if token.shape != positions[:, :1].shape:
        raise CheckpointError(f"wrong shapes cls_token {tuple(token.shape)} beside pos_embed {tuple(positions.shape)}")
    return state | {"cls_token": token + positions[:, :1], "pos_embed": positions[:, 1:]}


def _dinov3(state: TensorMap) -> TensorMap:
    """Split the biases of queries, keys and values; the keys' is masked to zero in training and left out."""
    split: TensorMap = {}
    for key, value in state.items():
        if not key.endswith(".qkv.bias"):
            split[key] = value
            continue
        if value.ndim != 1 or len(value) % 3:
            raise CheckpointError(f"wrong shapes {key} {tuple(value.shape)}, not a multiple of three")
        queries, _, values = value.chunk(3)
        prefix = key.removesuffix("qkv.bias")
        split |= {f"{prefix}q_bias": queries, f"{prefix}v_bias": values}
    return split


CONVERSIONS: dict[str, Callable[[TensorMap], TensorMap]] = {
    "as-is": dict,
    "dinov2-registers": _dinov2_registers,
    "dinov3": _dinov3,
}
"""By `Layout.tensors`."""
