"""Runs of pixels, beside a slow loop and the code that SIIM gave with its data."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.data.masks.runs import checked_runs, is_runs, pixels_of
from dvme.errors import DataError

Mask = NDArray[np.bool_]


def kaggle(mask: Mask) -> str:
    """By a walk down each column, pixels counted from 1 on."""
    numbered = enumerate((bool(mask[row, column]) for column in range(mask.shape[1]) for row in range(len(mask))), 1)
    runs = [[at for at, _ in own] for is_on, own in groupby(numbered, key=lambda pair: pair[1]) if is_on]
    return " ".join(f"{run[0]} {len(run)}" for run in runs)


def siim_to_mask(rle: str, width: int, height: int) -> Mask:
    """`rle2mask` of mask_functions.py, as the competition gave it, with the transposition that its examples add."""
    mask = np.zeros(width * height)
    array = np.asarray([int(x) for x in rle.split()])
    current = 0
    for start, length in zip(array[0::2], array[1::2], strict=True):
        current += start
        mask[current : current + length] = 255
        current += length
    return mask.reshape(width, height).T == 255


@pytest.mark.parametrize("seed", range(5))
def test_pixels_of__is_what_was_written(seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 11)) < 0.4
    assert (pixels_of(checked_runs(kaggle(mask), mask.shape), mask.shape) == mask).all()


def test_pixels_of__by_hand() -> None:
    # 4 rows, 3 columns: pixels 1 to 3 begin the first column, 10 to 12 end the last one.
    expected = [[1, 0, 0], [1, 0, 1], [1, 0, 1], [0, 0, 1]]
    assert pixels_of("1 3 10 3", (4, 3)).astype(int).tolist() == expected


@pytest.mark.parametrize("runs", ["0 3 2 4", "5 1 0 2 3 1", "27 1"])
def test_checked_runs__relative_ones_as_siim_reads_them(runs: str) -> None:
    found = pixels_of(checked_runs(runs, (4, 7), is_relative=True), (4, 7))
    assert (found == siim_to_mask(runs, 7, 4)).all()


def test_checked_runs__of_siims_own_table() -> None:
    spec = importlib.util.find_spec("torchxrayvision")
    assert spec is not None
    assert spec.origin is not None
    with gzip.open(Path(spec.origin).parent / "data" / "siim-pneumothorax-train-rle.csv.gz", "rt") as file:
        every = (runs.strip() for _, runs in islice(csv.reader(file), 1, None))
        several = list(islice((runs for runs in every if runs != "-1"), 20))
    for runs in several:
        found = pixels_of(checked_runs(runs, (1024, 1024), is_relative=True), (1024, 1024))
        assert (found == siim_to_mask(runs, 1024, 1024)).all()


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ("1 3 4", "these have 3 numbers"),
        ("10 4", "ends at pixel 13, and the image has 12 (3 x 4)"),
        ("0 4", "begins before the first pixel"),
        ("3 0", "length of 0"),
        ("1 99999999999999999999999", "ends at pixel"),
    ],
)
def test_checked_runs__refuses(runs: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        checked_runs(runs, (4, 3))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_one"), [("1 3", True), ("1,3", True), ("12", False), ("a 3", False), ("-1", False)]
)
def test_is_runs__a_single_number_may_be_a_folder(text: str, is_one: bool) -> None:
    assert is_runs(text) == is_one
