"""Scores of segmentations: Dice and IoU from counts of pixels, and distances between the outlines of two masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.metrics.weighting import ratio

VOID = 255
"""A pixel of a mask of which nobody knows the class, or which is to count for nothing."""
UNKNOWN = -1
"""In place of all three counts of a class of which no pixel of an image is known."""
PERCENTILE = 95
PIXELS = (1.0, 1.0)
"""The spacing of rows and of columns where distances are in pixels."""
Ways = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Distances of the one outline from the other, and of the other from the one."""


def overlaps(predicted: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.int64]:
    """Count the pixels of each class; those that are VOID in the truth are left out.

    Args:
        predicted: (L, H, W) bool.
        truth: (L, H, W) uint8: 1, 0, VOID.

    Returns:
        (L, 3) pixels of both, of the prediction and of the truth; UNKNOWN where a class is VOID everywhere.

    Raises:
        DataError: if the shapes differ.
    """
    taken, true = np.asarray(predicted, dtype=bool), np.asarray(truth)
    if taken.shape != true.shape or true.ndim != 3:
        raise DataError(f"predictions are {taken.shape} and masks {true.shape}; pass (L, H, W) of both")
    is_known, is_true = true != VOID, true == 1
    counted = [taken & is_true, taken & is_known, is_true]
    counts = np.stack([np.count_nonzero(each, axis=(1, 2)) for each in counted], axis=1)
    counts[~is_known.any(axis=(1, 2))] = UNKNOWN
    return counts.astype(np.int64, copy=False)


def dice(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(...) twice the common pixels by those of both masks: 1 where both are empty, nan where nothing is known.

    Args:
        counts: (..., 3) as `overlaps` counts them.

    Source: Dice 1945; the F1 score of pixels.
    """
    both, taken, true = np.moveaxis(np.asarray(counts), -1, 0)
    return _of_known(2 * both, taken + true, true)


def iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(...) common pixels by those of either mask: 1 where both are empty, nan where nothing is known.

    Args:
        counts: (..., 3) as `overlaps` counts them.

    Source: Jaccard 1912.
    """
    both, taken, true = np.moveaxis(np.asarray(counts), -1, 0)
    return _of_known(both, taken + true - both, true)


def known_mean(scores: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Mean along one axis of the scores that are known; nan where none is."""
    is_known = ~np.isnan(scores)
    return ratio(np.where(is_known, scores, 0.0).sum(axis=axis), is_known.sum(axis=axis))


def pooled(counts: NDArray[Any]) -> NDArray[np.int64]:
    """(L, 3) counts over the pixels of all images, whose Dice is the global one; UNKNOWN where no image is known.

    Args:
        counts: (N, L, 3).
    """
    own = np.asarray(counts)
    is_known = own[..., 2] != UNKNOWN
    total = np.where(is_known[..., None], own, 0).sum(axis=0)
    total[~is_known.any(axis=0)] = UNKNOWN
    return np.asarray(total, dtype=np.int64)


def hausdorff95(predicted: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float] = PIXELS) -> float:
    """How far the outline of one mask is from the other, at the 95th percentile, of both ways the larger one.

    An outline is the pixels of a mask that have one of another kind, or the end of the image, above, below, left or
    right of them. nan where both masks are empty, as in MONAI, and inf where one is, as MONAI's largest
    distance; its percentile of these is nan.

    Args:
        predicted: (H, W) bool.
        truth: (H, W) bool, without VOID.
        spacing: of rows and of columns; the result has its unit, by default pixels.

    Source: Huttenlocher et al. 1993; the percentile as in MONAI's `compute_hausdorff_distance`.
    """
    return _farthest(_distances(predicted, truth, spacing))


def boundary_dice(
    predicted: NDArray[Any], truth: NDArray[Any], tolerance: float, spacing: Sequence[float] = PIXELS
) -> float:
    """Share of the pixels on both outlines that are at most `tolerance` from the other outline.

    As in MONAI nan where both masks are empty, and 0 where one is.

    Args:
        predicted: (H, W) bool.
        truth: (H, W) bool, without VOID.
        tolerance: in the unit of the spacing.
        spacing: as `hausdorff95`.

    Source: Nikolov et al. 2021, surface Dice, in pixels of outlines as MONAI's `compute_surface_dice`.
    """
    return _share_near(_distances(predicted, truth, spacing), tolerance)


def outline_scores(predicted: NDArray[Any], truth: NDArray[Any], tolerance: float) -> NDArray[np.float64]:
    """`hausdorff95` and `boundary_dice` of each class of an image, in pixels.

    Pixels that are VOID in the truth are outside of every class in the truth and in the prediction, so that what is
    predicted there counts for nothing. A class that goes on into VOID ends there in both.

    Args:
        predicted: (L, H, W) bool.
        truth: (L, H, W) uint8: 1, 0, VOID.
        tolerance: of `boundary_dice`.

    Returns:
        (L, 2): nan and nan where a class is neither there nor predicted, inf and 0 where it is one of the two.
    """
    taken = np.asarray(predicted, dtype=bool) & (truth != VOID)
    both = [_distances(one, two, PIXELS) for one, two in zip(taken, truth == 1, strict=True)]
    return np.array([[_farthest(ways), _share_near(ways, tolerance)] for ways in both]).reshape(-1, 2)


def _of_known(above: NDArray[Any], below: NDArray[Any], true: NDArray[Any]) -> NDArray[np.float64]:
    found = np.where(below == 0, 1.0, ratio(above, below))
    return np.where(true == UNKNOWN, np.nan, found)


def _farthest(ways: Ways) -> float:
    if not all(map(len, ways)):
        return math.inf if any(map(len, ways)) else math.nan
    return max(float(np.percentile(way, PERCENTILE)) for way in ways)


def _share_near(ways: Ways, tolerance: float) -> float:
    every = np.concatenate(ways)
    return float((every <= tolerance).mean()) if len(every) else math.nan


def _distances(predicted: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float]) -> Ways:
    """Of each pixel on one outline, the distance from the other outline, both ways; inf where that is empty."""
    from scipy.ndimage import find_objects

    one, two = (np.asarray(mask, dtype=bool) for mask in (predicted, truth))
    if one.shape != two.shape or one.ndim != 2:
        raise DataError(f"a prediction is {one.shape} and a mask {two.shape}; pass (H, W) of both")
    # Outside of the smallest rectangle with both masks is no outline, and the end of it is one as that of the image is.
    box = find_objects((one | two).astype(np.uint8), 1)[0] or (slice(1), slice(1))
    one, two = _outline(one[box]), _outline(two[box])
    return _to(one, two, spacing), _to(two, one, spacing)


def _to(here: NDArray[np.bool_], there: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    from scipy.ndimage import distance_transform_edt

    if not there.any():
        return np.full(np.count_nonzero(here), np.inf)
    found: NDArray[np.float64] = distance_transform_edt(~there, sampling=spacing)[here]
    return found


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    inside: NDArray[np.bool_] = binary_erosion(mask)
    return mask & ~inside
