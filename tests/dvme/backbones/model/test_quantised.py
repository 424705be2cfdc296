from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.backbones.description.dense import Grid
from dvme.backbones.model.quantised import HALF_A_SCALE, maps_of, quantised, row_bytes, row_form, values_of

GRIDS = (Grid(2, 3, 5), Grid(1, 2, 4))
DIM = 2 * 3 * 5 + 1 * 2 * 4


def test_quantised__by_hand() -> None:
    """Of a token the largest magnitude is 127 scales; the bytes are all values of a map, then all of its scales."""
    features = np.array([[127.0, -63.5, 1.4, 0.0, 0.0, 0.0, 254.0, -2.0, 3.0]], dtype=np.float32)
    rows, is_finite = quantised(features, (Grid(1, 2, 3), Grid(1, 1, 3)))
    assert is_finite.tolist() == [True]
    expected = struct.pack("<6b2e", 127, -64, 1, 0, 0, 0, 1.0, 0.0) + struct.pack("<3be", 127, -1, 2, 2.0)
    assert rows.tobytes() == expected
    first, second = maps_of(rows, (Grid(1, 2, 3), Grid(1, 1, 3)))
    np.testing.assert_array_equal(first, [[[127, -64, 1], [0, 0, 0]]])
    np.testing.assert_array_equal(second, [[[254, -2, 4]]])


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 300.0]))
def test_maps_of__within_half_a_scale_of_what_was_quantised(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(4, DIM)) * size * rng.lognormal(size=(4, 1))).astype(np.float32)
    rows, is_finite = quantised(features, GRIDS)
    assert is_finite.all()
    assert rows.shape == (4, row_form(GRIDS, DIM, "int8")[0])
    at = 0
    for grid, found in zip(GRIDS, maps_of(rows, GRIDS), strict=True):
        tokens = features[:, at : at + grid.n_values].reshape(4, grid.n_tokens, grid.channels)
        at += grid.n_values
        largest = np.abs(tokens).max(axis=2, keepdims=True)
        # The scale itself is rounded to 11 bits, or to multiples of 6e-8 where it is small.
        assert (np.abs(found - tokens) <= largest * (HALF_A_SCALE + 2**-11) + 127 * 3.1e-8).all()
        assert found.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9])
def test_quantised__a_token_without_a_scale_is_told(bad: float) -> None:
    features = np.ones((3, DIM), dtype=np.float32)
    features[1, -1] = bad
    rows, is_finite = quantised(features, GRIDS)
    assert is_finite.tolist() == [True, False, True]
    np.testing.assert_allclose(values_of(rows[[0, 2]], GRIDS), 1, rtol=1e-3)


def test_row_form__a_byte_a_value_and_two_a_token() -> None:
    assert row_form(GRIDS, DIM, "int8") == (DIM + 2 * 8, "uint8")
    assert row_form(GRIDS, DIM, "float16") == (DIM, "float16")
    assert [row_bytes(GRIDS, DIM, dtype) for dtype in ("int8", "float16", "float32")] == [DIM + 16, 2 * DIM, 4 * DIM]
    assert row_bytes((), 1280, "float32") == 5120


def test_values_of__floats_as_they_are() -> None:
    rows = np.arange(2 * DIM, dtype=np.float16).reshape(2, DIM)
    np.testing.assert_array_equal(values_of(rows, GRIDS), rows)
    first, second = maps_of(rows, GRIDS)
    assert (first.shape, second.shape, first[1, 4, 2]) == ((2, 6, 5), (2, 2, 4), DIM + 4 * 5 + 2)
