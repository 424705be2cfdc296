from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dvme.segmentation.unet.head import Unet
from dvme.segmentation.unet.lesson import MaskLesson, Whole
from dvme.segmentation.unet.targets import FULL, UNKNOWN
from dvme.training.epochs import Trained
from dvme.training.pictures import Pictures

N, SIDE = 6, 64
MOVING = replace(Unet(flips="both", degrees=40.0, least_scale=0.3).recipe, batch_size=N)


class Red(nn.Module):
    """Says a pixel is of the class where it is red: what training changes is added and is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = (images[:, :1] - 127.5) / 8.0 + self.added
        return logits


def blobs() -> NDArray[np.bool_]:
    """(N, S, S) larger than what is moved past an edge, off the middle, without a symmetry."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.stack([((y - 20) ** 2 + (x - 26) ** 2 < 150) | ((y > 30) & (x > 24 + n) & (y < 46)) for n in range(N)])


def lesson(planes: NDArray[np.uint8], shown: NDArray[Any]) -> MaskLesson:
    pixels = np.repeat(np.where(shown, 255, 0).astype(np.uint8)[..., None], 3, axis=3)
    rows = np.arange(N)
    return MaskLesson(Pictures(pixels, pixels), rows, rows, planes, planes, np.ones(N))


def trained_on(given: MaskLesson) -> Trained:
    return Trained(Red(), Whole(1, torch.device("cpu")), given, MOVING, 3, 1e-3)


def loss_of(given: MaskLesson) -> float:
    rng = np.random.default_rng(5)
    return given.minibatch_loss(trained_on(given), np.arange(N), rng).item()


def test_minibatch_loss__masks_are_moved_as_their_images_are() -> None:
    shown = blobs()
    planes = np.where(shown, FULL, 0).astype(np.uint8)[:, None]
    assert loss_of(lesson(planes, shown)) < 0.03
    assert loss_of(lesson(np.ascontiguousarray(planes[:, :, ::-1]), shown)) > 0.3, "of others it is not small"


def test_minibatch_loss__what_is_void_moves_along_and_counts_for_nothing() -> None:
    shown = blobs()
    planes = np.where(shown, FULL, 0).astype(np.uint8)[:, None]
    wrong = shown.copy()
    wrong[:, 40:, 40:] = ~wrong[:, 40:, 40:]
    assert loss_of(lesson(planes, wrong)) > 0.09
    planes[:, :, 38:, 38:] = UNKNOWN
    assert loss_of(lesson(planes, wrong)) < 0.04


def test_watched__is_the_dice_of_all_validation_pixels() -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, FULL + 1, (N, 1, SIDE, SIDE)).astype(np.uint8)
    planes[0, 0, :10] = UNKNOWN
    planes[1] = UNKNOWN
    given = lesson(planes, rng.random((N, SIDE, SIDE)) < 0.5)
    trained = trained_on(replace(given, validation=np.array([0, 1, 4])))
    watched = trained.lesson.watched(trained.classifier, trained.device)
    assert watched.rows.tolist() == [0, 4], "of the other nothing is known"
    both = found = true = 0.0
    for row in (0, 4):
        for value, level in zip(given.pictures.crops[row, ..., 0].ravel(), planes[row].ravel(), strict=True):
            if level != UNKNOWN:
                share = 1.0 / (1.0 + np.exp(-(float(value) - 127.5) / 8.0))
                both, found, true = both + share * level / FULL, found + share, true + level / FULL
    assert watched.loss(trained) == pytest.approx(1.0 - (2.0 * both + 1.0) / (found + true + 1.0), abs=1e-6)


def test_watched__is_the_cross_entropy_of_all_validation_pixels() -> None:
    rng = np.random.default_rng(1)
    planes = rng.integers(0, FULL + 1, (N, 1, SIDE, SIDE)).astype(np.uint8)
    planes[0, 0, :10] = UNKNOWN
    given = replace(
        lesson(planes, rng.random((N, SIDE, SIDE)) < 0.5), validation=np.array([0, 4]), loss="cross-entropy"
    )
    trained = trained_on(given)
    total, n_known = 0.0, 0
    for row in (0, 4):
        for value, level in zip(given.pictures.crops[row, ..., 0].ravel(), planes[row].ravel(), strict=True):
            if level != UNKNOWN:
                logit, share = (float(value) - 127.5) / 8.0, level / FULL
                total, n_known = total + np.log1p(np.exp(-abs(logit))) + max(logit, 0.0) - logit * share, n_known + 1
    assert trained.lesson.watched(trained.classifier, trained.device).loss(trained) == pytest.approx(total / n_known)


def test_minibatch_loss__cross_entropy_is_small_where_masks_are_right() -> None:
    shown = blobs()
    planes = np.where(shown, FULL, 0).astype(np.uint8)[:, None]
    right = replace(lesson(planes, shown), loss="cross-entropy")
    wrong = replace(lesson(np.ascontiguousarray(planes[:, :, ::-1]), shown), loss="cross-entropy")
    assert loss_of(right) < 0.1
    assert loss_of(wrong) > 1.0


def test_has_frozen_statistics__a_single_image_has_some() -> None:
    planes = np.zeros((N, 1, SIDE, SIDE), dtype=np.uint8)
    given = replace(lesson(planes, blobs()), train=np.array([2]))
    assert not trained_on(given).is_frozen
