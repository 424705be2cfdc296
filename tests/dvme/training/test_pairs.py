from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvme.training.pairs import epoch_pairs


@given(groups=st.lists(st.integers(-3, 3), max_size=20), seed=st.integers(0, 1000))
def test_epoch_pairs__across_takes_two_of_a_group_where_it_has_two(groups: list[int], seed: int) -> None:
    pairs = epoch_pairs(np.array(groups, dtype=np.int64), np.random.default_rng(seed), across=True)
    assert pairs.shape == (len(groups), 2)
    assert sorted(pairs[:, 0]) == list(range(len(groups)))
    for first, second in pairs.tolist():
        assert groups[first] == groups[second]
        assert (first == second) == (groups.count(groups[first]) == 1)


def test_epoch_pairs__partners_of_a_group_are_equally_likely() -> None:
    groups, rng = np.array([5, 2, 5, 5, 2, 9, 5]), np.random.default_rng(0)
    counts = Counter((int(i), int(k)) for _ in range(3000) for i, k in epoch_pairs(groups, rng, across=True))
    members = (0, 2, 3, 6)
    assert {counts[i, k] for i, k in ((1, 4), (4, 1), (5, 5))} == {3000}
    found = [counts[i, k] for i in members for k in members if i != k]
    assert found == pytest.approx([1000] * 12, abs=110)  # four deviations
    assert sum(counts.values()) == 7 * 3000


def test_epoch_pairs__within_images_each_twice() -> None:
    for groups in (np.array([1, 1, 1, 2]), 4):
        pairs = epoch_pairs(groups, np.random.default_rng(0), across=False)
        assert sorted(pairs.tolist()) == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_epoch_pairs__images_without_groups_are_alone() -> None:
    pairs = epoch_pairs(5, np.random.default_rng(0), across=True)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])


def test_epoch_pairs__both_ways_have_the_same_order_of_images() -> None:
    groups = np.repeat(np.arange(10), 3)
    first, second = (epoch_pairs(groups, np.random.default_rng(1), across=across)[:, 0] for across in (True, False))
    np.testing.assert_array_equal(first, second)
    orders = [tuple(epoch_pairs(groups, np.random.default_rng(seed), across=True)[:, 0]) for seed in range(20)]
    assert len(set(orders)) == 20
