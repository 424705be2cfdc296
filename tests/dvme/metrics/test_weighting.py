"""Sums under many weightings against loops."""

from __future__ import annotations

import numpy as np
import pytest

from dvme.metrics import weighting
from dvme.metrics.weighting import Weighting, blocks, gathering, ratio


def test_ratio__is_nan_where_there_is_nothing() -> None:
    found = ratio(np.array([[1.0, 0.0], [2.0, 5.0]]), np.array([2.0, 0.0]))
    np.testing.assert_array_equal(found, [[0.5, np.nan], [1.0, np.nan]])


def test_blocks__cover_every_weighting_in_bounded_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighting, "BLOCK_VALUES", 30)
    weights = np.arange(70, dtype=np.uint16).reshape(7, 10)
    found = list(blocks(weights))
    assert [len(block) for _, block in found] == [3, 3, 1]
    assert [len(block) for _, block in blocks(weights, 2)] == [1] * 7
    assert [len(block) for _, block in blocks(weights, 100)] == [1] * 7  # never none at all
    np.testing.assert_array_equal(np.concatenate([weights[rows] for rows, _ in found]), weights)
    assert all(block.dtype == np.float64 for _, block in found)


@pytest.mark.parametrize("block_values", [5, 1 << 20])
def test_weighting__sums_as_a_loop(monkeypatch: pytest.MonkeyPatch, block_values: int) -> None:
    monkeypatch.setattr(weighting, "BLOCK_VALUES", block_values)
    rng = np.random.default_rng(0)
    weights, values = rng.poisson(1, (4, 6)), rng.normal(size=9)
    places, images = rng.integers(0, 3, 9), rng.integers(0, 6, 9)
    matrix = gathering(places, images, 5, 6, values)
    expected = np.zeros((4, 5))
    for r in range(4):
        for place, image, value in zip(places, images, values, strict=True):
            expected[r, place] += weights[r, image] * value
    found = Weighting.of(weights, 6)
    np.testing.assert_allclose(found.sums(matrix), expected, atol=1e-12)
    np.testing.assert_allclose(found.sums(matrix.toarray()), expected, atol=1e-12)
    assert found.as_given(expected) is expected
    one = Weighting.of(weights[0], 6)
    np.testing.assert_allclose(one.as_given(one.sums(matrix)), expected[0], atol=1e-12)
    counted = Weighting.of(None, 6).sums(gathering(places, images, 5, 6))[0]
    assert counted.tolist() == np.bincount(places, minlength=5).tolist()
