"""Cells of patients and classes, counted in loops."""

from __future__ import annotations

import numpy as np
import pytest

from dvme.stats.units import Units


def test_units__cells_of_patients_by_hand() -> None:
    """A has images of classes 2, 0 and 2; B one of class 0."""
    units = Units(np.array([2, 0, 0, 2]), np.array(["A", "B", "A", "A"]))
    cell, unit, of_class = units.cells
    assert (cell.tolist(), unit.tolist(), of_class.tolist()) == ([1, 2, 0, 1], [0, 0, 1], [0, 2, 0])
    assert (units.counts.tolist(), units.n) == ([2, 0, 1], 2)
    assert units.sums(np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]])).tolist() == [[3, 30], [5, 50], [2, 20]]
    assert [units.powers(k).tolist() for k in (1, 2)] == [[2, 0, 2], [2, 0, 4]]


@pytest.mark.parametrize("exponent", [1, 2, 4])
def test_units__an_image_alone_counts_once(exponent: int) -> None:
    assert Units(np.array([1, 0, 1])).powers(exponent).tolist() == [1, 2]
