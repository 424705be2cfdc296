from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.study.design.multilabel import iterative_split, nested_label_order


def _chest(n: int = 300, seed: int = 0) -> NDArray[np.bool_]:
    """Findings from common to rare, some of which come together."""
    rng = np.random.default_rng(seed)
    has_label = rng.random((n, 6)) < np.array([0.4, 0.2, 0.1, 0.05, 0.03, 0.02])
    has_label[:, 5] |= has_label[:, 0] & (rng.random(n) < 0.03)
    return has_label


def _deviation(has_label: NDArray[np.bool_], part: NDArray[np.int64], shares: list[float]) -> float:
    """Mean over labels and parts of how far a label's share is from the part's; Sechidis et al. 2011, section 4.2."""
    totals = has_label.sum(axis=0)
    return float(
        np.mean([abs(has_label[part == p].sum(axis=0) / totals - share).mean() for p, share in enumerate(shares)])
    )


def test_iterative_split__closer_than_chance() -> None:
    shares = [0.2] * 5
    for seed in range(5):
        has_label = _chest(seed=seed)
        ours = iterative_split(has_label, np.arange(300), shares, np.random.default_rng(seed))
        chance = [np.random.default_rng(s).permutation(300) % 5 for s in range(50)]
        assert _deviation(has_label, ours, shares) < min(_deviation(has_label, each, shares) for each in chance)


def test_iterative_split__rare_labels_are_spread_as_evenly_as_they_can_be() -> None:
    has_label = np.zeros((100, 2), dtype=bool)
    has_label[:, 0] = True
    has_label[:5, 1] = True
    part = iterative_split(has_label, np.arange(100), [0.2] * 5, np.random.default_rng(0))
    assert np.bincount(part).tolist() == [20] * 5
    assert np.bincount(part[:5], minlength=5).tolist() == [1] * 5


def test_iterative_split__single_labels_are_plain_stratification() -> None:
    labels = np.arange(90) % 3
    part = iterative_split(np.eye(3, dtype=bool)[labels], np.arange(90), [0.5, 0.5], np.random.default_rng(0))
    assert [np.bincount(labels[part == p]).tolist() for p in (0, 1)] == [[15] * 3] * 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n_units=st.integers(5, 40), n_parts=st.integers(2, 5))
def test_iterative_split__a_patient_is_in_one_part(seed: int, n_units: int, n_parts: int) -> None:
    rng = np.random.default_rng(seed)
    units, has_label = rng.integers(0, n_units, 80), rng.random((80, 4)) < 0.2
    part = iterative_split(has_label, units, [1 / n_parts] * n_parts, np.random.default_rng(seed))
    assert ((part >= 0) & (part < n_parts)).all()
    for unit in np.unique(units):
        assert len(np.unique(part[units == unit])) == 1
    again = iterative_split(has_label, units, [1 / n_parts] * n_parts, np.random.default_rng(seed))
    assert part.tolist() == again.tolist()


def test_nested_label_order__every_beginning_is_stratified() -> None:
    has_label = _chest(600)
    sizes = [60, 150, 300, 600]
    order = nested_label_order(has_label, sizes, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(600))
    totals = has_label.sum(axis=0)
    for n in sizes[:-1]:
        ours = np.abs(has_label[order[:n]].sum(axis=0) - totals * n / 600)
        chance = [
            np.abs(has_label[np.random.default_rng(s).permutation(600)[:n]].sum(axis=0) - totals * n / 600).mean()
            for s in range(50)
        ]
        assert ours.mean() < np.quantile(chance, 0.05)
        assert ours.max() <= 2.5
