"""What keeps named tensors from being exactly those of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

COUNTER = "num_batches_tracked"
LISTED_AT_MOST = 4


def name_problems(kept: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being exactly those of a model, a line each; batch counters may be missing."""
    both = [key for key in target if key in kept]
    named = {
        "missing keys": [key for key in target if key not in kept and not key.endswith(COUNTER)],
        "unexpected keys": [key for key in kept if key not in target],
        "wrong shapes": [
            f"{key} {tuple(kept[key].shape)} instead of {tuple(target[key].shape)}"
            for key in both
            if kept[key].shape != target[key].shape
        ],
        "wrong kinds of numbers": [
            f"{key} {_kind(kept[key])} instead of {_kind(target[key])}"
            for key in both
            if not key.endswith(COUNTER) and not _is_of_kind(kept[key], target[key])
        ],
    }
    return [f"{what} {listed(keys)}" for what, keys in named.items() if keys]


def listed(keys: Sequence[str]) -> str:
    """The first few of many names."""
    shown = ", ".join(str(key) for key in keys[:LISTED_AT_MOST])
    return f"{shown}, ... ({len(keys)} in all)" if len(keys) > LISTED_AT_MOST else shown


def _is_of_kind(value: Tensor, wanted: Tensor) -> bool:
    """Whether numbers mean the same in a model's tensor: floats of any width do, what was quantised does not."""
    is_plain = value.layout == wanted.layout and not value.is_quantized
    is_float, is_complex = value.is_floating_point(), value.is_complex()
    return is_plain and (is_float, is_complex) == (wanted.is_floating_point(), wanted.is_complex())


def _kind(value: Tensor) -> str:
    """`int8`, or `sparse float32`."""
    layout, dtype = (str(kind).removeprefix("torch.") for kind in (value.layout, value.dtype))
    return dtype if layout == "strided" else f"{layout.replace('_', ' ')} {dtype}"
