from __future__ import annotations

import numpy as np
import pytest

from dvme.stats import draw, paired_bootstrap, resample


def _methods(seed: int, gain: float) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % 2
    shared = labels + rng.normal(size=200)
    heads = []
    for lift in (gain, 0.0):
        logits = [shared + lift * labels + 0.4 * rng.normal(size=200) for _ in range(2)]
        heads.append([np.stack([-x, x], 1) for x in logits])
    return labels, *heads


def test_paired_bootstrap__a_gain_is_seen_and_the_p_value_agrees_with_the_interval() -> None:
    for seed, gain in ((0, 1.0), (1, 0.15), (2, 0.0), (3, 0.1), (4, 0.2)):
        labels, one, other = _methods(seed, gain)
        draws = draw(labels, seed=seed)
        for metric in ("auc", "accuracy"):
            a, b = (resample(labels, heads, draws, [metric])[metric] for heads in (one, other))
            found, turned = paired_bootstrap(a, b), paired_bootstrap(b, a)
            assert (found.p < 0.05) == (not found.difference.includes_zero)
            assert turned.p == pytest.approx(found.p, abs=2 / 2000)
            assert turned.difference.low == pytest.approx(-found.difference.high, abs=1e-3)
            if gain == 1.0:
                assert found.difference.low > 0
                assert found.p < 0.01


def test_paired_bootstrap__identical_methods() -> None:
    labels, one, _ = _methods(0, 0.0)
    same = resample(labels, one, draw(labels, seed=0, n_resamples=50))["auc"]
    found = paired_bootstrap(same, same)
    assert (found.difference.estimate, found.p) == (0.0, 1.0)
    assert np.isnan([found.difference.low, found.difference.high, found.statistic]).all()


def test_paired_bootstrap__pairs_beat_independent_resamples() -> None:
    """Methods that rank alike: the paired interval is much narrower than what their own spreads would give."""
    labels, one, other = _methods(0, 0.1)
    draws = draw(labels, seed=0)
    a, b = (resample(labels, heads, draws, ["auc"])["auc"] for heads in (one, other))
    width = paired_bootstrap(a, b).difference.high - paired_bootstrap(a, b).difference.low
    apart = 2 * 1.96 * np.hypot(a.resampled.std(), b.resampled.std())
    assert width < 0.6 * apart
