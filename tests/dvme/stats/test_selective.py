from __future__ import annotations

import numpy as np
import pytest

from dvme.metrics.referral import risk_coverage_area
from dvme.stats.selective import area_scored


def test_area_scored__is_the_metric_and_its_derivative_by_weights() -> None:
    rng, n = np.random.default_rng(0), 60
    losses, confidences = rng.random((2, n)).round(1), rng.random((2, n)).round(1)
    found = area_scored(list(losses), list(confidences))
    areas = [float(risk_coverage_area(*each)) for each in zip(losses, confidences, strict=True)]
    np.testing.assert_allclose(found.folds, areas, atol=1e-12)
    step = 1e-6
    for head in range(2):
        heavier = 1.0 + step * np.eye(n)
        moved = risk_coverage_area(losses[head], confidences[head], heavier)
        np.testing.assert_allclose(found.parts[:, head], (moved - areas[head]) / step, atol=1e-6)


def test_area_scored__variance_is_that_of_other_test_sets() -> None:
    """Of images whose loss falls with their confidence, drawn anew 1,000 times."""
    rng, areas, variances = np.random.default_rng(1), [], []
    for _ in range(1000):
        confidence = rng.random(150)
        wrong = (rng.random(150) < 0.4 - 0.3 * confidence).astype(float)
        found = area_scored([wrong], [confidence])
        areas.append(found.estimate)
        variances.append(found.test_variance)
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.15)
