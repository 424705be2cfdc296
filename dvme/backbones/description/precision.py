"""On which devices a precision can be computed, as far as their names tell; needs no torch."""

from __future__ import annotations

from dvme.backbones.description.spec import BackboneSpec
from dvme.errors import OptionError, Text, parameter

TF32 = "tf32"
WITH_TF32 = frozenset({"auto", "cuda"})
"""Kinds of devices among which some compute in TF32. On AMD's and Intel's it is another rounding, or none."""


def check_named_device(spec: BackboneSpec, device: str) -> None:
    """Refuse TF32 on a device whose very name says that it has none.

    Args:
        spec: what would compute.
        device: as torch names it, or `auto`.

    Raises:
        OptionError: naming both, and what to choose.
    """
    if spec.precision == TF32 and device.partition(":")[0] not in WITH_TF32:
        raise OptionError(without_tf32(spec, device))


def without_tf32(spec: BackboneSpec, device: str) -> Text:
    """One line that says so, and what to do."""
    message = f"{spec.name} computes in TF32, which {device} does not have, only NVIDIA GPUs from Ampere on; "
    return message + parameter("device", "cuda") + " takes one, or choose precision=float32 or bf16"
