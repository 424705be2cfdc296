from __future__ import annotations

import math

import numpy as np
import pytest

from dvme.stats import independent_effect, paired_effect


def test_paired_effect__worked_by_hand() -> None:
    """Mean 2, standard deviation 1, and Hedges' correction of 2 degrees of freedom, sqrt(1 / pi)."""
    assert paired_effect([1.0, 2.0, 3.0]) == pytest.approx(2.0 * math.sqrt(1 / math.pi))


def test_paired_effect__correction_is_near_its_usual_approximation() -> None:
    values = np.arange(30.0)
    assert paired_effect(values) == pytest.approx(values.mean() / values.std(ddof=1) * (1 - 3 / (4 * 29 - 1)), rel=1e-4)


def test_independent_effect__worked_by_hand() -> None:
    """Means 3 and 1, squares 2 + 2 over 4 degrees of freedom: d = 2; correction gamma(2) / (sqrt(2) gamma(1.5))."""
    correction = 1 / (math.sqrt(2) * math.gamma(1.5))
    assert independent_effect([2, 3, 4], [0, 1, 2]) == pytest.approx(2.0 * correction)


def test_effects__without_spread_or_values() -> None:
    assert paired_effect([0.0, 0.0, 0.0]) == 0.0
    assert independent_effect([1.0, 1.0], [1.0, 1.0]) == 0.0
    assert math.isnan(paired_effect([0.1, 0.1, 0.1]))
    assert math.isnan(paired_effect([0.1]))
    assert math.isnan(paired_effect([0.1, 0.2]))
    assert math.isnan(independent_effect([1.0, 1.0], [0.0, 0.0]))
    assert math.isnan(independent_effect([1.0], [0.0]))
    assert math.isnan(independent_effect([], [0.0, 1.0, 2.0]))
