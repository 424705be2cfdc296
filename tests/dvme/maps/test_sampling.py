from __future__ import annotations

from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.maps import sampling
from dvme.maps.sampling import POINTS_OF_A_CELL, proportional_sample, regions_of


def _clusters(sizes: list[int], seed: int = 0, dim: int = 3) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Points about far centres, shuffled, and of which cluster each is."""
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = 20 * rng.normal(size=(len(sizes), dim))
    return (centres[cluster] + rng.normal(size=(len(cluster), dim))).astype(np.float32), cluster


@pytest.mark.parametrize(("n", "least", "most"), [
    (100, [60, 30, 9, 1], [60, 30, 9, 1]),  # every tenth
    (25, [15, 7, 2, 0], [15, 8, 3, 1]),  # 15, 7.5, 2.25 and 0.25
    (999, [599, 299, 89, 9], [600, 300, 90, 10]),
])  # fmt: skip
def test_proportional_sample__shares_worked_out_by_hand(
    n: int, least: list[int], most: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    points, cluster = _clusters([600, 300, 90, 10])
    monkeypatch.setattr(sampling, "regions_of", lambda *_: cluster)
    for seed in range(20):
        found = np.bincount(cluster[proportional_sample(points, n, seed)], minlength=4)
        assert found.sum() == n
        assert (least <= found).all()
        assert (found <= most).all()


@pytest.mark.parametrize("n", [50, 77, 333])
def test_proportional_sample__every_region_has_its_share_to_less_than_one(n: int) -> None:
    points, _ = _clusters([400, 350, 200, 50])
    regions = regions_of(points, n // POINTS_OF_A_CELL, 3)
    found = np.bincount(regions[proportional_sample(points, n, 3)], minlength=n // POINTS_OF_A_CELL)
    for region, n_drawn in enumerate(found):
        share = np.count_nonzero(regions == region) * n / len(points)
        assert floor(share) <= n_drawn <= ceil(share)


def test_proportional_sample__every_point_has_the_same_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    points, cluster = _clusters([30, 10])
    monkeypatch.setattr(sampling, "regions_of", lambda *_: cluster)
    drawn = np.zeros(40)
    for seed in range(300):
        drawn[proportional_sample(points, 10, seed)] += 1
    assert np.abs(drawn / 300 - 0.25).max() < 4.5 * np.sqrt(0.25 * 0.75 / 300)


def test_proportional_sample__is_nearer_to_all_than_a_plain_draw() -> None:
    """By shares of classes that overlap, none of which the draw knows."""
    sizes = [3000, 1500, 800, 400, 200, 60, 40]
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(7), sizes)
    points = (3 * rng.normal(size=(7, 10))[classes] + rng.normal(size=(6000, 10))).astype(np.float32)
    expected = np.array(sizes) / 10

    def error(rows: NDArray[Any]) -> float:
        return float((np.square(np.bincount(classes[rows], minlength=7) - expected) / expected).mean())

    ours = [error(proportional_sample(points, 600, seed)) for seed in range(10)]
    plain = [error(np.random.default_rng(seed).choice(6000, 600, replace=False)) for seed in range(100)]
    assert np.mean(ours) < 0.5 * np.mean(plain)


def test_proportional_sample__rows_ascend_and_follow_from_the_seed() -> None:
    points, _ = _clusters([300, 200])
    found = proportional_sample(points, 60, 2**32 - 1)
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(found, proportional_sample(points, 60, 2**32 - 1))
    assert not np.array_equal(found, proportional_sample(points, 60, 1))


def test_proportional_sample__of_all_and_of_one() -> None:
    points, _ = _clusters([20, 11])
    np.testing.assert_array_equal(proportional_sample(points, 31, 0), np.arange(31))
    assert len(proportional_sample(points, 1, 0)) == 1
    np.testing.assert_array_equal(proportional_sample(np.zeros((31, 2), dtype=np.float32), 31, 0), np.arange(31))
