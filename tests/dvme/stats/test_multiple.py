from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dvme.stats import holm


def test_holm__worked_by_hand() -> None:
    """0.01 x 4, 0.02 x 3, 0.03 x 2 (not below the one before), 0.4 x 1."""
    np.testing.assert_allclose(holm([0.03, 0.01, 0.4, 0.02]), [0.06, 0.04, 0.4, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
    assert holm([]).shape == (0,)


def test_holm__no_test_does_not_count() -> None:
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])


@given(arrays.arrays(float, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm__rejects_what_the_stepwise_rule_rejects(values: np.ndarray) -> None:
    rejected = set()
    for step, index in enumerate(np.argsort(values, kind="stable")):
        if values[index] * (len(values) - step) > 0.05:
            break
        rejected.add(index)
    assert set(np.flatnonzero(holm(values) <= 0.05)) == rejected
