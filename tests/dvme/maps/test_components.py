from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from dvme.maps import components
from dvme.maps.components import blocks_of, components_of
from dvme.vectors import unit_rows


@pytest.fixture
def unit() -> NDArray[np.float32]:
    """(200, 12), each direction of another variance, far from the origin."""
    rng = np.random.default_rng(0)
    return unit_rows(3 + rng.normal(size=(200, 12)) * np.arange(1, 13) / 6)


@pytest.mark.parametrize("size", [1, 7, 200])
def test_components_of__are_scikit_learns_in_blocks_of_any_size(unit: NDArray[Any], size: int) -> None:
    blocks = (unit[start : start + size] for start in range(0, len(unit), size))
    found = components_of(blocks, 5).scores(unit)
    expected = PCA(5, svd_solver="full").fit_transform(unit.astype(np.float64))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_components_of__least_and_largest_values(unit: NDArray[Any]) -> None:
    found = components_of(iter([unit[:50], unit[50:]]), 2).extremes
    np.testing.assert_array_equal(found, [unit.min(axis=0), unit.max(axis=0)])


def test_components_of__fewer_dimensions_than_asked_for() -> None:
    signs = np.array([[1], [-1], [-1], [1]], dtype=np.float32)
    np.testing.assert_array_equal(components_of(iter([signs]), 50).scores(signs), [[1, 0], [-1, 0], [-1, 0], [1, 0]])


def test_blocks_of__all_rows_once_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "BLOCK", 4)
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    blocks = list(blocks_of(lambda rows: values[rows], 10))
    assert [len(block) for block in blocks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), values)
