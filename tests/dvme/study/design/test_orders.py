from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.study.design.orders import Balance, nested_order

COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def _labels(counts: list[int], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


def _order(labels: NDArray[np.int64], balance: Balance, seed: int = 0) -> NDArray[np.int64]:
    return nested_order(labels, balance, np.random.default_rng(seed))


@given(counts=COUNTS, seed=st.integers(0, 100), balance=st.sampled_from(["balanced", "stratified", "natural"]))
def test_nested_order__is_an_order_of_all(counts: list[int], seed: int, balance: Balance) -> None:
    labels = _labels(counts, seed)
    order = _order(labels, balance, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    assert order.tolist() == _order(labels, balance, seed).tolist()


@given(counts=COUNTS, seed=st.integers(0, 100))
def test_nested_order__balanced_takes_as_many_of_each_as_there_are(counts: list[int], seed: int) -> None:
    """Every beginning: classes that have more left differ by one at most, and one that lags has no more."""
    labels = _labels(counts, seed)
    order = _order(labels, "balanced", seed)
    for n in range(1, len(labels) + 1):
        taken = np.bincount(labels[order[:n]], minlength=len(counts))
        most = taken.max()
        for own, total in zip(taken.tolist(), counts, strict=True):
            assert own >= min(total, most - 1)


@given(counts=COUNTS, seed=st.integers(0, 100))
def test_nested_order__stratified_is_less_than_one_from_the_share(counts: list[int], seed: int) -> None:
    labels = _labels(counts, seed)
    order = _order(labels, "stratified", seed)
    for n in range(1, len(labels) + 1):
        taken = np.bincount(labels[order[:n]], minlength=len(counts))
        for own, total in zip(taken.tolist(), counts, strict=True):
            assert abs(own - Fraction(n * total, len(labels))) < 1


def test_nested_order__stratified_with_many_classes_of_one_image() -> None:
    """Each due at even distances, the ten would all come in the middle, five rows from their share."""
    labels = np.concatenate([np.zeros(100, dtype=np.int64), np.arange(1, 11)])
    order = _order(labels, "stratified")
    large = np.cumsum(labels[order] == 0)
    assert np.abs(large - np.arange(1, 111) * 100 / 110).max() < 1


def test_nested_order__balanced_of_three_classes_by_hand() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2] * 2)
    taken = [np.bincount(labels[_order(labels, "balanced")[:n]], minlength=3).tolist() for n in (3, 6, 12, 22)]
    assert taken == [[1, 1, 1], [2, 2, 2], [5, 5, 2], [10, 10, 2]]


def test_nested_order__natural_is_chance() -> None:
    labels = np.array([0] * 50 + [1] * 50)
    counts = [int(labels[_order(labels, "natural", seed)[:20]].sum()) for seed in range(300)]
    # Hypergeometric: mean 10, variance 20 / 4 x 80 / 99.
    assert np.mean(counts) == pytest.approx(10, abs=0.5)
    assert np.var(counts) == pytest.approx(20 / 4 * 80 / 99, rel=0.25)


@pytest.mark.parametrize("balance", ["balanced", "stratified", "natural"])
def test_nested_order__every_row_has_the_same_chance(balance: Balance) -> None:
    labels = np.repeat([0, 1, 2], 10)
    hits = sum(np.bincount(_order(labels, balance, seed)[:6], minlength=30) for seed in range(600))
    assert np.abs(hits / 600 - 6 / 30).max() < 5 * np.sqrt(0.2 * 0.8 / 600)


def test_nested_order__other_seeds_draw_others() -> None:
    labels = np.repeat([0, 1], 20)
    for balance in ("balanced", "stratified", "natural"):
        assert _order(labels, balance, 0)[:10].tolist() != _order(labels, balance, 1)[:10].tolist()


def test_nested_order__of_nothing() -> None:
    assert len(_order(np.empty(0, dtype=np.int64), "balanced")) == 0
