import numpy as np

from dvme.report.figures.thinning import thinned


def test_thinned__straight_stretches_need_no_points() -> None:
    x = np.array([0.0, 0.25, 0.5, 0.5, 0.5, 1.0])
    y = np.array([0.0, 0.0, 0.0, 0.5, 1.0, 1.0])
    assert [each.tolist() for each in thinned(x, y)] == [[0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]]


def test_thinned__a_curve_looks_the_same() -> None:
    x = np.linspace(0.0, 1.0, 20_000)
    y = 0.5 + 0.4 * np.sin(9 * x) * np.sqrt(x)
    fewer_x, fewer_y = thinned(x, y)
    assert len(fewer_x) <= 200
    assert (fewer_x[0], fewer_x[-1]) == (0.0, 1.0)
    assert np.abs(np.interp(x, fewer_x, fewer_y) - y).max() < 1e-3


def test_thinned__short_curves_stay() -> None:
    for n in (0, 1, 2):
        x, y = thinned(np.arange(n), np.arange(n))
        assert len(x) == len(y) == n
