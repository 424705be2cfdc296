from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dvme.stats.t_comparison import compared_by_t


@pytest.mark.parametrize("df", [1.0, 4.0, 7.3, math.inf])
def test_judge__same_as_scipy(df: float) -> None:
    peer = stats.norm() if math.isinf(df) else stats.t(df)
    found = compared_by_t(-0.3, 0.04, df, 0.9)
    assert (found.statistic, found.df) == (pytest.approx(-1.5), df)
    assert found.p == pytest.approx(2 * peer.sf(1.5))
    margin = 0.2 * peer.ppf(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((-0.3 - margin, -0.3 + margin))


def test_judge__without_variance() -> None:
    same = compared_by_t(0.0, 0.0, 4.0, 0.95)
    assert (same.p, same.statistic) == (1.0, 0.0)
    assert np.isnan([same.difference.low, same.difference.high]).all()
    apart = compared_by_t(0.1, 0.0, 4.0, 0.95)
    assert apart.difference.estimate == 0.1
    assert np.isnan([apart.p, apart.statistic, apart.difference.low, apart.difference.high]).all()


@pytest.mark.parametrize(("variance", "df"), [(math.nan, 4.0), (0.1, 0.0), (0.1, math.nan)])
def test_judge__undefined(variance: float, df: float) -> None:
    found = compared_by_t(0.1, variance, df, 0.95)
    assert np.isnan([found.p, found.statistic, found.difference.low]).all()
