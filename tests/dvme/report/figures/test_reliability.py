from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dvme.report.figures.reliability import draw_fits, draw_missed, draw_oracle, draw_risk
from dvme.stats.units import Units
from dvme.study.assess import assessed, gathered
from dvme.study.operation import Operation
from dvme.study.panel import Panel
from dvme.study.reliability import FindingReliability, Reliability

N = 80
NAME = "<b>Mass</b>"


@pytest.fixture(scope="module")
def found() -> Reliability:
    rng = np.random.default_rng(0)
    truth = (rng.random((N, 2)) < 0.4).astype(float)
    test = Panel((NAME, "Edema"), truth, (truth + rng.normal(size=(N, 2)),) * 2)
    validation = [Panel(test.names, truth, (truth + rng.normal(size=(N, 2)),)) for _ in range(2)]
    units = Units(np.zeros(N, dtype=np.int64))
    method = assessed("m", test, validation, units, Operation(), is_exclusive=False)
    return gathered([method], test, units, Operation(), "finding")


@pytest.fixture
def mass(found: Reliability) -> FindingReliability:
    return found.leading.findings[0]


def test_draw_fits__shows_the_bins_that_hold_images(mass: FindingReliability) -> None:
    figure = draw_fits(mass)
    _, before, *_ = figure.data
    fit = mass.fits["before"]
    filled = np.array(fit.n_images) > 0
    np.testing.assert_array_equal(before.x, np.array(fit.confidence)[filled])
    np.testing.assert_array_equal(before.y, np.array(fit.share)[filled])
    np.testing.assert_allclose(np.add(before.y, before.error_y.array), np.array(fit.high)[filled])
    assert [each.name for each in figure.data[1:]] == [
        f"{name} (ECE {mass.fits[key].expected_error.estimate:.3f})"
        for key, name in (
            ("before", "as the heads say"),
            ("temperature", "after temperature scaling"),
            ("platt", "after Platt scaling"),
        )
    ]


def test_draw_missed__marks_the_operating_point(found: Reliability, mass: FindingReliability) -> None:
    assert mass.at is not None
    by_name = {each.name: each for each in draw_missed(found, mass).data if each.name}
    assert list(by_name["missed"].y) == [rate.estimate for rate in mass.missed]
    assert list(by_name["false alarms"].x) == list(found.thresholds)
    point = by_name["operating point"]
    assert (point.x[0], point.y[0]) == (pytest.approx(np.median(mass.at.thresholds)), mass.at.missed.estimate)
    assert "operating point" not in {each.name for each in draw_missed(found, replace(mass, at=None)).data}


def test_draw_risk_and_oracle__are_what_was_found(found: Reliability, mass: FindingReliability) -> None:
    (line,) = draw_risk(found, mass).data
    assert (list(line.x), list(line.y)) == (list(found.coverages), list(mass.risk))
    lines = [each for each in draw_oracle(found, found.leading).data if each.name]
    assert [list(each.y) for each in lines] == [
        [each.estimate for each in own] for own in (found.leading.oracle, found.leading.cumulative_oracle)
    ]


def test_figures__a_name_is_no_markup(found: Reliability, mass: FindingReliability) -> None:
    for figure in (draw_fits(mass), draw_missed(found, mass), draw_risk(found, mass)):
        assert "&lt;b&gt;Mass&lt;/b&gt;" in figure.layout.title.text
        assert NAME not in figure.to_json()
