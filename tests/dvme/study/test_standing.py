from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dvme.stats.influence import Scored
from dvme.stats.units import Units
from dvme.study.standing import BETTER, EQUAL, LEADS, UNTESTED, WORSE, Standing

Make = Callable[..., Scored]
UNITS = Units(np.repeat([0, 1], [28, 12]))
ERROR = 0.01
"""Of every method, so that a difference has sqrt(2) times as much."""


def _standing(make: Make, means: Sequence[Sequence[float]], validation: Any = None, **settings: Any) -> Standing:
    """Of means by size and method; without other validation scores, the first method leads and the last is last."""
    places = [(m, size) for size, row in enumerate(means) for m in range(len(row))]
    scored = {(m, size): make(means[size][m], ERROR, m + 1, **settings) for m, size in places}
    ranked = {(m, size): -float(m) if validation is None else validation[size][m] for m, size in places}
    return Standing(scored, ranked, [0.0] * len(means))


def _p(difference: float) -> float:
    return float(2 * stats.t.sf(abs(difference) / (np.sqrt(2) * ERROR), 30))


def _drawn(rng: np.random.Generator, truth: NDArray[Any], n_folds: int = 5) -> Standing:
    """A table of (M, S) true scores: test images that methods share in part, luck of each fold, noisy validation."""
    n_methods, n_sizes = truth.shape
    scored: dict[tuple[int, int], Scored] = {}
    common = rng.normal(size=(len(UNITS.labels), 1))
    for m, size in np.ndindex(n_methods, n_sizes):
        effects = common + rng.normal(size=common.shape) + 0.5 * rng.normal(size=(len(common), n_folds))
        folds, parts = truth[m, size] + 0.3 * rng.normal(size=n_folds), np.empty_like(effects)
        for c, n in enumerate(UNITS.counts):
            of_class = UNITS.labels == c
            folds += effects[of_class].mean(axis=0)
            parts[of_class] = (effects[of_class] - effects[of_class].mean(axis=0)) / n
        scored[m, size] = Scored("auc", folds, parts, UNITS, most=np.inf)  # these are no AUCs
    validation = {place: truth[place] + 0.5 * rng.normal() for place in scored}
    return Standing(scored, validation, [0.0] * n_sizes)


def _random_tables(n: int) -> list[Standing]:
    rng = np.random.default_rng(0)
    return [_drawn(rng, rng.choice([0.0, 0.5, 2.0], (4, 2)) * rng.normal(size=(4, 2))) for _ in range(n)]


def test_versus__all_comparisons_of_all_sizes_and_methods_count(make_scored: Make) -> None:
    """Three others, two sizes."""
    below = [[0.0, 0.030, 0.045, 0.015], [0.0, 0.036, 0.002, 0.060]]
    standing = _standing(make_scored, [[0.8 - each for each in row] for row in below])
    margin = np.sqrt(2) * ERROR * stats.t.ppf(1 - 0.025 / 6, 30)
    marks = set()
    for m, size in ((m, size) for size in (0, 1) for m in (1, 2, 3)):
        p = 6 * _p(below[size][m])
        for one, other in ((m, 0), (0, m)):
            versus = standing.versus(one, other, size)
            found = versus.comparison.difference
            assert versus.p_adjusted == pytest.approx(min(1.0, p))
            assert (found.low, found.high) == pytest.approx((found.estimate - margin, found.estimate + margin))
        marks.add(standing.mark(m, size))
        assert standing.mark(m, size) == (WORSE if p < 0.05 else EQUAL)
    assert marks == {WORSE, EQUAL}


def test_versus__neither_is_the_reference(make_scored: Make) -> None:
    """Times the number of the whole table's comparisons: 3 methods but the reference, 2 sizes."""
    standing = _standing(make_scored, [[0.9, 0.8, 0.76, 0.8], [0.9, 0.8, 0.8, 0.8]])
    assert standing.versus(1, 2, 0).p_adjusted == pytest.approx(6 * _p(0.04))
    assert standing.versus(1, 3, 0).p_adjusted == 1.0


def test_versus__the_interval_leaves_out_0_where_p_is_below_5_per_cent() -> None:
    n_apart = 0
    for standing in _random_tables(30):
        for size in (0, 1):
            for one, other in permutations(range(4), 2):
                versus, back = standing.versus(one, other, size), standing.versus(other, one, size)
                assert versus.comparison.difference.includes_zero == (versus.p_adjusted >= 0.05)
                assert (versus.word, back.word) in {("gain", "loss"), ("loss", "gain"), ("no gain shown",) * 2}
                n_apart += versus.p_adjusted < 0.05
    assert 30 < n_apart < 30 * 24 - 30


def test_mark__of_each_kind(make_scored: Make) -> None:
    """The reference leads on validation, though the second is the highest on the test set."""
    standing = _standing(make_scored, [[0.8, 0.9, 0.801, 0.7]])
    assert [standing.mark(m, 0) for m in range(4)] == [LEADS, BETTER, EQUAL, WORSE]
    other = _standing(make_scored, [[0.8, 0.9, 0.801, 0.7]], [[0.1, 0.2, np.nan, 0.3]])
    assert [other.mark(m, 0) for m in range(4)] == [BETTER, BETTER, BETTER, LEADS]
    assert (other.leader(0), other.leader(0, [0, 1, 2]), other.leader(0, [2])) == (3, 1, None)


def test_mark__two_images_of_a_class_allow_no_test(make_scored: Make) -> None:
    standing = _standing(make_scored, [[0.8, 0.9, 0.1]], n_second=2)
    assert [standing.mark(m, 0) for m in range(3)] == [LEADS, UNTESTED, UNTESTED]
    assert np.isnan(standing.versus(1, 2, 0).p_adjusted)
    against = standing.against(0, [1, 2], 0)
    assert against is not None
    assert against.word == "no test"


def test_mark__without_validation_nobody_leads(make_scored: Make) -> None:
    standing = _standing(make_scored, [[0.8, 0.9], [0.8, 0.7]], [[np.nan, np.nan], [0.1, 0.2]])
    assert [standing.mark(m, 0) for m in (0, 1)] == [UNTESTED, UNTESTED]
    assert (standing.leader(0), standing.against(0, [1], 0)) == (None, None)
    assert [standing.mark(m, 1) for m in (0, 1)] == [BETTER, LEADS]


def test_against__every_one_that_may_be_the_best_has_to_be_beaten(make_scored: Make) -> None:
    """The second single is not told apart from the leading one; the third is worse, and no rival."""
    standing = _standing(make_scored, [[0.85, 0.80, 0.83, 0.70]])
    against = standing.against(0, [1, 2, 3], 0)
    assert against is not None
    assert (against.leader, set(against.rivals), against.hardest) == (1, {1, 2}, 2)
    assert (against.rivals[1].word, against.word) == ("gain", "no gain shown")
    alone = standing.against(0, [1, 3], 0)
    assert alone is not None
    assert (set(alone.rivals), alone.word) == ({1}, "gain")
    assert standing.against(0, [], 0) is None


def test_against__a_loss_is_told_by_the_one_that_it_is_lost_to(make_scored: Make) -> None:
    """The third's interval reaches lower, and holds 0; it can show no loss."""
    errors = (0.001, 0.001, 0.05)
    scored = {(m, 0): make_scored(mean, errors[m], m + 1) for m, mean in enumerate((0.80, 0.83, 0.82))}
    against = Standing(scored, {(0, 0): 0.9, (1, 0): 0.8, (2, 0): 0.7}, [0.0]).against(0, [1, 2], 0)
    assert against is not None
    assert [against.rivals[m].word for m in (1, 2)] == ["loss", "no gain shown"]
    assert (against.word, against.hardest) == ("loss", 1)


def test_against__a_loss_is_asked_of_the_leader_only(make_scored: Make) -> None:
    """Of many rivals that are equal to it some would beat it by chance; validation chose the one that may say so."""
    standing = _standing(make_scored, [[0.80, 0.80, 0.90]])
    against = standing.against(0, [1, 2], 0)
    assert against is not None
    assert [against.rivals[m].word for m in (1, 2)] == ["no gain shown", "loss"]
    assert (against.leader, against.word, against.hardest) == (1, "no gain shown", 1)


def test_against__no_piece_of_a_gain_disagrees() -> None:
    """Where the reference gains over its rivals, each of them is marked as worse, whatever else is in the table."""
    n_gains = 0
    for standing in _random_tables(100):
        for size in (0, 1):
            reference = standing.leader(size)
            assert reference is not None
            others = [m for m in range(4) if m != reference]
            for pool in (others, others[:2], others[2:]):
                against = standing.against(reference, pool, size)
                assert against is not None
                marks = {standing.mark(m, size) for m in against.rivals}
                assert (against.word == "gain") == (marks == {WORSE})
                assert (against.word == "loss") == (standing.mark(against.leader, size) == BETTER)
                n_gains += against.word == "gain"
    assert n_gains > 50


def test_mark__equal_methods_are_told_apart_in_5_per_cent_of_tables() -> None:
    rng = np.random.default_rng(0)
    tables = (_drawn(rng, np.zeros((15, 1))) for _ in range(400))
    n_wrong = sum(any(table.mark(m, 0) in {BETTER, WORSE} for m in range(15)) for table in tables)
    assert 0 < n_wrong <= 0.08 * 400


def test_versus__all_true_differences_of_a_table_are_in_their_intervals() -> None:
    """Fourteen of fifteen methods are clearly worse, the case in which intervals by Holm's steps miss most."""
    rng = np.random.default_rng(0)
    truth = np.r_[np.full(14, -2.0), 0.0][:, None]
    n_missed = 0
    for table in (_drawn(rng, truth) for _ in range(200)):
        leader = table.leader(0)
        assert leader is not None
        found = {m: table.versus(m, leader, 0).comparison.difference for m in range(15) if m != leader}
        n_missed += any(not each.low <= truth[m, 0] - truth[leader, 0] <= each.high for m, each in found.items())
    assert n_missed <= 0.08 * 200
