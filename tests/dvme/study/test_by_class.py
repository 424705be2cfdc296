"""Scores class by class: against a slow loop, with what nobody knows left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenes import discs, scene_of
from scipy import stats

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


@pytest.fixture
def outlines(heads: list[np.ndarray]) -> list[np.ndarray]:
    """Of `heads`: the second head misses the first class in three images, and invents it in the empty one."""
    rng = np.random.default_rng(1)
    found = [np.stack([rng.uniform(1, 9, (N, 3)), rng.uniform(0, 1, (N, 3))], axis=2) for _ in range(2)]
    for counts, scores in zip(heads, found, strict=True):
        scores[counts[..., 2] == UNKNOWN] = np.nan
        scores[4, 0] = np.nan
    heads[1][1:4, 0, :2] = 0
    heads[1][4, 0] = 0, 7, 0
    found[1][1:5, 0] = np.inf, 0.0
    return found


def test_class_scores__of_outlines_are_those_of_a_slow_loop(
    heads: list[np.ndarray], outlines: list[np.ndarray]
) -> None:
    found = class_scores(heads, NAMES, units(), outlines=outlines)
    for c, each in enumerate(found[:2]):
        far, near, missed, empty = [], [], [], []
        for counts, scores in zip(heads, outlines, strict=True):
            both = zip(counts[:, c].tolist(), scores[:, c].tolist(), strict=True)
            images = [(own, *outline) for own, outline in both if own[2] >= 0]
            far.append(np.mean([hd for (_, taken, true), hd, _ in images if taken and true]))
            near.append(np.mean([share for (_, taken, true), _, share in images if taken or true]))
            missed.append(sum(bool(taken) != bool(true) for (_, taken, true), *_ in images))
            empty.append(sum(not taken and not true for (_, taken, true), *_ in images))
        assert each.outlines is not None
        assert each.outlines.hausdorff95.estimate == pytest.approx(np.mean(far), rel=1e-12)
        assert each.outlines.boundary_dice.estimate == pytest.approx(np.mean(near), rel=1e-12)
        assert (each.outlines.n_missed, each.outlines.n_empty) == (np.mean(missed), np.mean(empty))
        for own in (each.outlines.hausdorff95, each.outlines.boundary_dice):
            assert 0 <= own.low < own.estimate < own.high
    assert [each.outlines.n_missed for each in found[:2] if each.outlines] == [2.0, 0.0]
    assert [each.outlines.n_empty for each in found[:2] if each.outlines] == [0.5, 0.0]
    assert found[2].outlines is None
    assert class_scores(heads, NAMES, units())[0].outlines is None


def test_class_scores__intervals_of_hd95_are_of_t_over_the_images_or_patients_that_have_one(
    heads: list[np.ndarray], outlines: list[np.ndarray]
) -> None:
    """Beside scipy's; of patients with two images each, of the patients' means."""
    (found,) = class_scores(heads[:1], NAMES[:1], units(), outlines=outlines[:1])
    known = outlines[0][np.arange(N) != 4, 0, 0]
    low, high = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
    assert found.outlines is not None
    assert (found.outlines.hausdorff95.low, found.outlines.hausdorff95.high) == pytest.approx((low, high))
    patients = Units(np.zeros(N, dtype=np.int64), np.array([0, 0, 1, 1, 4, 2, 2, 3, 3]))
    (of_patients,) = class_scores(heads[:1], NAMES[:1], patients, outlines=outlines[:1])
    means = known.reshape(-1, 2).mean(axis=1)
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    assert of_patients.outlines is not None
    own = of_patients.outlines.hausdorff95
    assert (own.low, own.high) == pytest.approx((max(low, 0.0), high))


def test_class_scores__where_nothing_is_met_there_is_no_distance(heads: list[np.ndarray]) -> None:
    """And none from a head that misses all; two images allow no interval."""
    counts = [np.tile(np.array([[0, 0, 5]]), (N, 1))[:, None] for _ in range(2)]
    missed = np.tile([np.inf, 0.0], (N, 1, 1))
    (found,) = class_scores(counts, NAMES[:1], units(), outlines=[missed, missed])
    assert found.outlines is not None
    assert np.isnan(found.outlines.hausdorff95.estimate)
    assert (found.outlines.n_missed, found.outlines.boundary_dice.estimate) == (N, 0.0)
    met = missed.copy()
    met[:2, 0] = [[4.0, 1.0], [8.0, 1.0]]
    (found,) = class_scores(counts, NAMES[:1], units(), outlines=[missed, met])
    assert found.outlines is not None
    assert found.outlines.hausdorff95.estimate == 6.0
    assert np.isnan(found.outlines.hausdorff95.low)


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
