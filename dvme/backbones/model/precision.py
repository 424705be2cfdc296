"""A model that computes in a precision: cast, and run with torch's switches set for it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import nn

from dvme.backbones.description.precision import TF32, check_named_device, without_tf32
from dvme.backbones.description.spec import BackboneSpec, Precision
from dvme.errors import OptionError
from dvme.float32 import full_float32, tf32

if TYPE_CHECKING:
    from torch import Tensor

HALF: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
AMPERE = (8, 0)
"""Compute capability of the first GPUs that have TF32."""


def check_precision(spec: BackboneSpec, device: torch.device) -> None:
    """Refuse TF32 on a device that has none; torch would compute in float32 there without a word.

    Raises:
        OptionError: naming both, and what to choose.
    """
    check_named_device(spec, str(device))
    if spec.precision == TF32:
        # On AMD's GPUs it takes an environment variable, and rounds to fewer bits than on NVIDIA's.
        has_tf32 = torch.version.hip is None and torch.cuda.get_device_capability(device) >= AMPERE
        if not has_tf32:
            raise OptionError(without_tf32(spec, f"{device} ({torch.cuda.get_device_name(device)})"))


def cast(model: nn.Module, precision: Precision) -> nn.Module:
    """The model itself, with all its floating point parameters and buffers in the precision's type."""
    return model.to(HALF[precision]) if precision in HALF else model


def as_input(images: Tensor, precision: Precision) -> Tensor:
    """Images (B, C, H, W) as a model that was cast takes them, in the memory format that they have."""
    return images.to(HALF[precision]) if precision in HALF else images


def switched(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Torch's switches as the precision needs them, whatever the host program has set."""
    return tf32(device) if precision == TF32 else full_float32(device)
