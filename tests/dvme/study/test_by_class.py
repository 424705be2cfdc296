"""Scores class by class: against a slow loop, with what nobody knows left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenes import discs, scene_of

from dvme.metrics.segmentation import UNKNOWN, overlaps
from dvme.stats.units import Units
from dvme.study.by_class import ceiling_counts, class_scores

N, NAMES = 9, ["one", "two", "nowhere known"]


def units() -> Units:
    return Units(np.zeros(N, dtype=np.int64), None)


@pytest.fixture
def heads() -> list[np.ndarray]:
    """Two heads; the second class is not known of the first image, the third of none, and the fifth image is empty."""
    rng = np.random.default_rng(0)
    found = []
    true = rng.integers(5, 40, (N, 3))
    for _ in range(2):
        predicted = rng.integers(5, 40, (N, 3))
        counts = np.stack([rng.integers(0, np.minimum(true, predicted) + 1), predicted, true], axis=2)
        counts[0, 1] = counts[:, 2] = UNKNOWN
        counts[4, 0] = 0
        found.append(counts)
    return found


def test_class_scores__are_those_of_a_slow_loop(heads: list[np.ndarray]) -> None:
    found = class_scores(heads, NAMES, units(), reached=heads[0])
    for c, each in enumerate(found[:2]):
        dice, iou, over_all = [], [], []
        for counts in heads:
            known = [own for own in counts[:, c].tolist() if own[2] >= 0]
            dice.append(np.mean([2 * a / (b + d) if b + d else 1.0 for a, b, d in known]))
            iou.append(np.mean([a / (b + d - a) if b + d else 1.0 for a, b, d in known]))
            a, b, d = np.sum(known, axis=0)
            over_all.append(2 * a / (b + d))
        assert each.dice.estimate == pytest.approx(np.mean(dice), rel=1e-12)
        assert each.iou.estimate == pytest.approx(np.mean(iou), rel=1e-12)
        assert each.global_dice == pytest.approx(np.mean(over_all), rel=1e-12)
        assert each.ceiling == pytest.approx(dice[0], rel=1e-12)
        assert each.dice.low < each.dice.estimate < each.dice.high
    assert [each.n_images for each in found] == [N - 1, N - 1, 0]
    assert np.isnan([found[2].dice.estimate, found[2].global_dice]).all()
    assert np.isnan(class_scores(heads, NAMES, units())[0].ceiling)


def test_ceiling_counts__a_grid_as_fine_as_the_mask_reaches_all(tmp_path: Path) -> None:
    labels = discs(4, 8, 2)
    scene = scene_of(tmp_path, {"a@dense=last": [np.zeros((4, 2, 2, 3))]}, labels, ("one", "two"))
    told: list[tuple[str, int, int]] = []
    positions = np.array([2, 0])
    found = ceiling_counts(scene.masks, positions, [(8, 8), (2, 2)], lambda *step: told.append(step))
    for place, position in enumerate(positions):
        planes = scene.masks.read(position)
        np.testing.assert_array_equal(found[8, 8][place], overlaps(planes == 1, planes))
        assert (found[2, 2][place, :, 2] == found[8, 8][place, :, 2]).all()
    assert told[-1] == ("ceilings", 2, 2)
    assert ceiling_counts(scene.masks, positions, []) == {}
