"""Arrays and texts of a page of many points: quantised or coded, deflated, and written as base64."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.json_values import as_json

LEVEL = 6
"""Of zlib; 9 takes six times as long for 3% less."""
LAST_CODE = 65_534
"""The code of the largest value, in 16 bits."""
NO_CODE = 65_535
"""The code of a missing value."""


@dataclass(frozen=True)
class Quantised:
    """Numbers on a grid of 65,535 equal steps over their range."""

    codes: NDArray[np.uint16]
    """As the values; NO_CODE where a value is nan."""
    low: float
    """What code 0 stands for."""
    step: float
    """From one code to the next; no value is off by more than half of it."""


def quantised(values: NDArray[Any]) -> Quantised:
    """Round numbers to 16 bits.

    Args:
        values: of any shape; nan for none.
    """
    is_known = np.isfinite(values)
    if not is_known.any():
        return Quantised(np.full(values.shape, NO_CODE, dtype=np.uint16), 0.0, 0.0)
    known = values[is_known].astype(np.float64)
    low, high = float(known.min()), float(known.max())
    step = (high - low) / LAST_CODE
    codes = np.full(values.shape, NO_CODE, dtype=np.uint16)
    codes[is_known] = np.rint((known - low) / step) if step > 0 else 0
    return Quantised(codes, low, step)


def smallest_codes(codes: NDArray[Any], n: int) -> NDArray[Any]:
    """Codes below n in as few bytes as hold them all."""
    smallest: NDArray[Any] = codes.astype(np.min_scalar_type(max(n - 1, 0)))
    return smallest


def packed_array(values: NDArray[Any]) -> dict[str, str]:
    """Numbers by their bytes: the first of each, then the second of each, and so on, which deflates better.

    Args:
        values: (N,) uint8, uint16, uint32 or float32.
    """
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    planes = plain.view(np.uint8).reshape(len(plain), plain.itemsize).T
    return {"type": f"{plain.dtype.kind}{plain.itemsize}", "deflated": _deflated(planes.tobytes())}


def packed_texts(texts: Sequence[str]) -> dict[str, str]:
    """Texts as a JSON list, which holds every text there is."""
    dumped = as_json(list(texts), separators=(",", ":"), ensure_ascii=False)
    return {"type": "texts", "deflated": _deflated(dumped.encode("utf-8", errors="replace"))}


def _deflated(content: bytes) -> str:
    """In the format of zlib, which `DecompressionStream("deflate")` reads."""
    return base64.b64encode(zlib.compress(content, LEVEL)).decode("ascii")
