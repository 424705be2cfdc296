from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dvme.heads.neighbours.votes import TEMPERATURE, counted, depth, label_votes, votes


def test_votes__worked_by_hand() -> None:
    similarities = np.array([[0.9, 0.83, 0.76]])
    shares = votes(similarities, np.array([[1, 0, 0]]), n_classes=3)
    # weights relative to the nearest: 1, e^-1, e^-2
    weight = 1 + np.exp(-1) + np.exp(-2)
    np.testing.assert_allclose(shares, [[(np.exp(-1) + np.exp(-2)) / weight, 1 / weight, 0.0]])


def test_counted_and_depth__by_hand() -> None:
    weights = np.array([[2.0, 0.5, 3.0, 1.0]])
    assert counted(weights, 4).tolist() == [[2.0, 0.5, 1.5, 0.0]]
    assert counted(weights, 1).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert counted(weights, 9).tolist() == weights.tolist()
    assert [depth(k, weights[0], 4) for k in (1, 2, 4, 7)] == [2, 3, 4, 4]  # sums of the least: 0.5, 1.5, 3.5, 6.5
    assert depth(3, None, 4) == 3


def test_label_votes__worked_by_hand() -> None:
    similarities, neighbours = np.array([[0.9, 0.83], [0.5, 0.5]]), np.array([[0, 1], [2, 2]])
    cells = np.array([[1.0, np.nan, 0.25], [0.0, 1.0, np.nan], [np.nan, 0.0, 1.0]])
    near = 1.0 / (1.0 + np.exp(-1.0))
    expected = [[near, 1.0, 0.25], [0.5, 0.0, 1.0]]
    np.testing.assert_allclose(label_votes(similarities, neighbours, cells, np.array([0.5, 0.4, 0.3])), expected)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 6), is_weighted=st.booleans())
def test_label_votes__a_neighbour_after_the_other(seed: int, k: int, is_weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.choice([0.0, 1.0, 0.7, np.nan], (7, 3), p=[0.3, 0.2, 0.1, 0.4])
    neighbours = np.stack([rng.permutation(7)[:k] for _ in range(4)])
    similarities = -np.sort(-rng.uniform(-1, 1, (4, k)), axis=1)
    counts = rng.integers(0, 3, (4, k)).astype(float) if is_weighted else None
    prior = rng.uniform(size=3)
    found = label_votes(similarities, neighbours, cells, prior, counts)
    for row in range(4):
        for label in range(3):
            ayes = total = 0.0
            for position, one in enumerate(neighbours[row]):
                if not np.isnan(cells[one, label]):
                    weight = np.exp(similarities[row, position] / TEMPERATURE)
                    weight *= 1.0 if counts is None else counts[row, position]
                    total += weight
                    ayes += weight * cells[one, label]
            assert np.isclose(found[row, label], ayes / total if total else prior[label], rtol=1e-9)
