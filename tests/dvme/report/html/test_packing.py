"""Packed arrays and texts, unpacked slowly: one byte after the other."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.report.html.packing import NO_CODE, packed_array, packed_texts, quantised, smallest_codes

FORMATS = {"u1": "<B", "u2": "<H", "u4": "<I", "f4": "<f"}


def unpacked(packed: dict[str, str]) -> list[Any]:
    """What is in a packed array."""
    planes = zlib.decompress(base64.b64decode(packed["deflated"]))
    size = int(packed["type"][1])
    n = len(planes) // size
    of_each = [bytes(planes[plane * n + place] for plane in range(size)) for place in range(n)]
    return [struct.unpack(FORMATS[packed["type"]], each)[0] for each in of_each]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.float32, ">u2"])
def test_packed_array__comes_back(kind: Any) -> None:
    values = np.random.default_rng(0).integers(0, 250, 100).astype(kind) * np.array(1, dtype=kind)
    if values.dtype.itemsize > 1:
        values = values * np.array(257, dtype=values.dtype)
    assert unpacked(packed_array(values)) == values.tolist()
    assert unpacked(packed_array(values[::3])) == values[::3].tolist()
    assert unpacked(packed_array(values[:0])) == []


def test_packed_texts__every_text_comes_back() -> None:
    texts = ["a/1.png", "", 'a\n,\x00"', "</script>", "ä\u2028𝄞", "a/1.png"]
    assert json.loads(zlib.decompress(base64.b64decode(packed_texts(texts)["deflated"]))) == texts
    broken = packed_texts(["a\udcff.png"])  # a name that is no text: a browser could not read it
    assert json.loads(zlib.decompress(base64.b64decode(broken["deflated"]))) == ["a?.png"]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (-1e3, 1e-2), (5.0, 1e6)])
def test_quantised__is_off_by_half_a_step_at_most(kind: Any, shift: float, scale: float) -> None:
    values = (np.random.default_rng(0).normal(size=5_000) * scale + shift).astype(kind)
    values[::7] = np.nan
    found = quantised(values)
    is_known = ~np.isnan(values)
    np.testing.assert_array_equal(found.codes == NO_CODE, ~is_known)
    off = np.abs(found.low + found.step * found.codes[is_known] - values[is_known].astype(np.float64))
    assert off.max() <= found.step / 2 * (1 + 1e-9)
    spread = float(np.nanmax(values)) - float(np.nanmin(values))
    assert found.step == pytest.approx(spread / 65_534)
    assert found.codes[is_known].max() == 65_534


@pytest.mark.parametrize("values", [[3.5, 3.5], [3.5, np.nan]])
def test_quantised__of_one_value(values: list[float]) -> None:
    found = quantised(np.array(values))
    assert (found.low, found.step) == (3.5, 0.0)
    assert found.codes.tolist() == [0 if value == 3.5 else NO_CODE for value in values]


def test_quantised__of_nothing() -> None:
    assert quantised(np.full(3, np.nan)).codes.tolist() == [NO_CODE] * 3


@pytest.mark.parametrize(("n", "n_bytes"), [(1, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4)])
def test_smallest_codes__hold_the_largest(n: int, n_bytes: int) -> None:
    codes: NDArray[Any] = np.array([0, n - 1])
    found = smallest_codes(codes, n)
    assert found.dtype.itemsize == n_bytes
    assert found.tolist() == codes.tolist()
