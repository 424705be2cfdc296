"""Masks as text: pairs of where a run of pixels begins and how long it is, column by column."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError

RUNS = re.compile(r"\d+(?:[\s,]+\d+)+")
"""At least two numbers; a single one may be the name of a folder."""
WITHOUT = "-1"
"""The mask of an image without any pixel of the class. Source: SIIM-ACR Pneumothorax Segmentation, Kaggle 2019."""


def is_runs(text: str) -> bool:
    """Whether a text is a mask, and no name of a file."""
    return RUNS.fullmatch(text) is not None


def checked_runs(text: str, size: tuple[int, int], *, is_relative: bool = False) -> str:
    """Runs as `pixels_of` takes them.

    Args:
        text: START LENGTH pairs of whole numbers.
        size: (H, W) of the image.
        is_relative: whether each start is counted from the end of the run before, from 0 on, as SIIM has them; else
            each is the number of a pixel, from 1 on, as usual at Kaggle.

    Raises:
        DataError: if they are none, or leave the image.
    """
    numbers = np.array([int(part) for part in re.split(r"[\s,]+", text.strip())], dtype=object)
    if len(numbers) % 2:
        raise DataError(f"runs are pairs of START and LENGTH, and these have {len(numbers)} numbers")
    starts, lengths = numbers[::2], numbers[1::2]
    if is_relative:
        starts = np.cumsum(starts) + np.concatenate([[0], np.cumsum(lengths)[:-1]]) + 1
    n_pixels, last = size[0] * size[1], max(starts + lengths - 1)
    if min(lengths) < 1 or min(starts) < 1:
        raise DataError("a run begins before the first pixel, or has a length of 0")
    if last > n_pixels:
        raise DataError(f"a run ends at pixel {last:,}, and the image has {n_pixels:,} ({size[1]} x {size[0]})")
    return " ".join(f"{start} {length}" for start, length in zip(starts, lengths, strict=True))


def pixels_of(runs: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) which pixels are in runs that `checked_runs` has checked."""
    flat = np.zeros(size[0] * size[1], dtype=bool)
    numbers = list(map(int, runs.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = True
    return flat.reshape(size[1], size[0]).T
