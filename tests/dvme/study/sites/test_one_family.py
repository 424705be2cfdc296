from __future__ import annotations

import math

import numpy as np
import pytest

from dvme.metrics.classification import log_odds
from dvme.stats.influence import Scored, scored
from dvme.stats.units import Units
from dvme.stats.unpaired import Unpaired, drop
from dvme.study.sites.one_family import Tested, one_family
from dvme.study.sites.outcome import Drop
from dvme.study.sites.scores import untested


def _scored(seed: int, signal: float, n: int = 80) -> Scored:
    rng, labels = np.random.default_rng(seed), np.arange(n) % 2
    logits = rng.normal(size=(n, 2)) + signal * np.eye(2)[labels]
    odds = log_odds(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    return scored(labels, [odds], Units(labels, None), ["auc"])["auc"]


def _tested(seed: int, signal: float) -> Tested[Drop]:
    one, other = _scored(0, 2.0), _scored(seed, signal)
    own = drop(one, other)
    return Drop("m", one.interval(), other.interval(), own, own, ""), Unpaired(one, other)


def test_one_family__intervals_are_at_95_per_cent_for_all_that_are_tested() -> None:
    """Three drops and one that is none: each at a third of the error; scores and the drop for itself stay."""
    given = [_tested(1, 0.7), (untested("m", "too few"), None), _tested(2, 1.2), _tested(3, 2.0)]
    found = one_family(given)
    for (before, source), after in zip(given, found, strict=True):
        if source is None:
            assert after.together is None
            assert after.word == "no test"
            continue
        assert after.together is not None
        assert after.together.difference == source.interval(1 - 0.05 / 3)
        assert after.together.p == pytest.approx(min(1.0, 3 * before.drop.p))
        assert (after.internal, after.external, after.drop) == (before.internal, before.external, before.drop)
        assert (after.word != "no drop shown") == (after.together.p < 0.05)


def test_one_family__a_drop_that_is_shown_alone_need_not_be_among_several() -> None:
    seed = next(seed for seed in range(1, 99) if 0.02 < _tested(seed, 1.2)[0].drop.p < 0.05)
    alone = _tested(seed, 1.2)
    assert one_family([alone])[0].word == alone[0].word != "no drop shown"
    assert one_family([alone, _tested(1, 1.0), _tested(2, 1.0)])[0].word == "no drop shown"
    assert one_family([]) == []
    (only,) = one_family([alone])
    assert only.together is not None
    assert only.together == alone[0].drop
    assert math.isnan(untested("m", "too few").shown.difference.low)
