"""Dice, IoU and distances of outlines, beside MONAI's (monai.json, by record_monai.py) and cases worked by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from outlines import slow_outline_scores

from dvme.errors import DataError
from dvme.metrics.segmentation import (
    UNKNOWN,
    VOID,
    boundary_dice,
    dice,
    hausdorff95,
    iou,
    known_mean,
    outline_scores,
    overlaps,
    pooled,
)

MONAI: dict[str, Any] = json.loads(Path(__file__).with_name("monai.json").read_text())
CASES = pytest.mark.parametrize("case", MONAI["cases"], ids=range(len(MONAI["cases"])))


def plane(*rows: str) -> NDArray[np.uint8]:
    """A mask as it is drawn: `1`, `0`, and `x` for void."""
    return np.array([[VOID if sign == "x" else int(sign) for sign in row] for row in rows], dtype=np.uint8)


@CASES
def test_overlap__is_monais(case: Any) -> None:
    counts = overlaps(plane(*case["predicted"])[None] == 1, plane(*case["truth"])[None])
    assert dice(counts)[0] == pytest.approx(case["dice"], abs=1e-9)
    assert iou(counts)[0] == pytest.approx(case["iou"], abs=1e-9)


@CASES
def test_outlines__are_as_far_apart_as_monais(case: Any) -> None:
    predicted, truth = plane(*case["predicted"]) == 1, plane(*case["truth"]) == 1
    for spacing, recorded in zip(MONAI["spacings"], case["by_spacing"], strict=True):
        far, shares = recorded["hausdorff95"], recorded["boundary_dice"]
        assert hausdorff95(predicted, truth, spacing) == pytest.approx(far, abs=1e-9, nan_ok=True)
        own = [boundary_dice(predicted, truth, tolerance, spacing) for tolerance in MONAI["tolerances"]]
        assert own == pytest.approx(shares, abs=1e-9, nan_ok=True)


def test_overlaps__by_hand() -> None:
    truth = np.stack([plane("1100", "1100", "0000", "00xx"), plane("0000", "0000", "0000", "0000")])
    predicted = np.stack([plane("1110", "0000", "0000", "0011") == 1, plane("0000", "0000", "0000", "0001") == 1])
    counts = overlaps(predicted, truth)
    assert counts.tolist() == [[2, 3, 4], [0, 1, 0]]  # the two pixels on void do not count
    assert dice(counts).tolist() == [4 / 7, 0.0]
    assert iou(counts).tolist() == [2 / 5, 0.0]


def test_dice__empty_against_empty_is_one_and_unknown_is_no_number() -> None:
    truth = np.stack([np.zeros((4, 4)), np.full((4, 4), VOID)]).astype(np.uint8)
    counts = overlaps(np.zeros((2, 4, 4), dtype=bool), truth)
    assert counts.tolist() == [[0, 0, 0], [UNKNOWN] * 3]
    for score in (dice, iou):
        assert score(counts) == pytest.approx([1.0, math.nan], nan_ok=True)


def test_means__of_images_and_over_all_pixels() -> None:
    counts = np.array([[[5, 10, 10], [0, 0, 0]], [[90, 90, 90], [0, 4, 0]], [[UNKNOWN] * 3, [UNKNOWN] * 3]])
    assert known_mean(dice(counts), axis=0).tolist() == [(0.5 + 1.0) / 2, (1.0 + 0.0) / 2]
    assert pooled(counts).tolist() == [[95, 100, 100], [0, 4, 0]]
    assert dice(pooled(counts)).tolist() == [0.95, 0.0]
    assert known_mean(iou(counts), axis=0)[0] == pytest.approx((5 / 15 + 1.0) / 2)
    assert pooled(counts[2:]).tolist() == [[UNKNOWN] * 3] * 2
    assert np.isnan(known_mean(dice(counts[2:]), axis=0)).all()


def test_outlines__by_hand() -> None:
    truth, predicted = plane("0000", "0110", "0110", "0000") == 1, plane("0000", "0011", "0011", "0000") == 1
    # Of four pixels each, two lie on the other outline and two are one pixel from it: percentile 95 of 0, 0, 1, 1 is 1.
    assert hausdorff95(predicted, truth) == 1.0
    assert hausdorff95(predicted, truth, (1.0, 3.0)) == 3.0
    assert boundary_dice(predicted, truth, 0.0) == 0.5
    assert boundary_dice(predicted, truth, 1.0) == 1.0
    # A square of three has a pixel inside, which is on no outline.
    block, hollow = plane("1110", "1110", "1110", "0000") == 1, plane("1110", "1010", "1110", "0000") == 1
    assert boundary_dice(block, hollow, 0.0) == 1.0


def test_outlines__of_empty_masks() -> None:
    empty, dot = np.zeros((4, 4), dtype=bool), np.eye(4, dtype=bool)
    assert math.isnan(hausdorff95(empty, empty))
    assert math.isnan(boundary_dice(empty, empty, 1.0))
    assert hausdorff95(empty, dot) == hausdorff95(dot, empty) == math.inf
    assert boundary_dice(empty, dot, 5.0) == boundary_dice(dot, empty, 5.0) == 0.0


def test_shapes__that_differ_are_refused() -> None:
    with pytest.raises(DataError, match=r"pass \(L, H, W\) of both"):
        overlaps(np.zeros((1, 4, 4), dtype=bool), np.zeros((1, 4, 5), dtype=np.uint8))
    with pytest.raises(DataError, match=r"pass \(H, W\) of both"):
        hausdorff95(np.zeros((4, 4), dtype=bool), np.zeros((4, 5), dtype=bool))


def test_outlines__are_those_of_all_pairs_wherever_masks_lie() -> None:
    """Blobs at the ends of an image and far from them, in one another and apart."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[:30, :40]
    for _ in range(40):
        two = [
            ((down - y) ** 2 + (across - x) ** 2 < radius**2) & (rng.random((30, 40)) < 0.97)
            for y, x, radius in zip(rng.uniform(-3, 33, 2), rng.uniform(-3, 43, 2), rng.uniform(1, 9, 2), strict=True)
        ]
        (found,) = outline_scores(two[0][None], two[1][None].astype(np.uint8), 3.5)
        assert found == pytest.approx(slow_outline_scores(*two, 3.5), rel=1e-12, nan_ok=True)
        assert (hausdorff95(*two), boundary_dice(*two, 3.5)) == pytest.approx(tuple(found), rel=1e-12, nan_ok=True)


def test_outline_scores__by_hand() -> None:
    truth = np.stack(
        [
            plane("00000", "01100", "01100", "00000"),
            plane("00000", "00000", "00000", "00000"),
            plane("00011", "00011", "00000", "00000"),
            plane("00000", "00000", "00000", "00000"),
            plane("1100x", "1100x", "0000x", "0000x"),
            plane("xxxxx", "xxxxx", "xxxxx", "xxxxx"),
        ]
    )
    predicted = [
        plane("00000", "00110", "00110", "00000"),
        plane("00000", "00000", "00000", "10000"),
        plane("00000", "00000", "00000", "00000"),
        plane("00000", "00000", "00000", "00000"),
        plane("11001", "11001", "00001", "00001"),
        plane("11000", "11000", "00000", "00000"),
    ]
    found = outline_scores(np.stack(predicted) == 1, truth, 0.5)
    shifted, invented, missed, neither, beside_void, nothing_known = found.tolist()
    assert shifted == [1.0, 0.5]
    assert invented == missed == [math.inf, 0.0]
    assert beside_void == [0.0, 1.0]  # what is predicted of void is no outline
    for each in (neither, nothing_known):
        assert each == pytest.approx([math.nan, math.nan], nan_ok=True)
    assert outline_scores(np.stack(predicted) == 1, truth, 1.0)[0].tolist() == [1.0, 1.0]
