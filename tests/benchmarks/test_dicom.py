"""DICOM files to 8 bits, against pydicom alone doing the same."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import in_jpeg_lossless, shipped
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from dvme.data import decode

REPEATS = 7
MOST = (1 << 15) - 1
"""Of 15 bits stored, of every file here."""


def alone(data: bytes) -> NDArray[Any]:
    """What a careful user writes: pydicom's functions, and the scale of its bounds."""
    header = pydicom.dcmread(io.BytesIO(data))
    seen = apply_voi_lut(apply_modality_lut(pixel_array(header), header), header)
    return 255 - np.round(seen * (255 / MOST)).astype(np.uint8)


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@pytest.mark.bench
@pytest.mark.parametrize("kind", ["uncompressed", "JPEG 2000", "JPEG lossless"])
def test_decode__ratio_to_pydicom_alone(kind: str, tmp_path: Path) -> None:
    """A chest radiograph of 1,955 x 1,841 pixels of 15 bits, in one process and thread."""
    data = shipped("RG1_J2KR.dcm" if kind == "JPEG 2000" else "RG1_UNCR.dcm").read_bytes()
    if kind == "JPEG lossless":
        data = in_jpeg_lossless(data, tmp_path)
    assert np.abs(np.asarray(decode(data).image).astype(int) - alone(data)).max() <= 1
    pairs = [(seconds(lambda: decode(data)), seconds(lambda: alone(data))) for _ in range(REPEATS)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(other / own for own, other in pairs)
    print(f"\nDICOM, {kind}: {1 / ours:.1f}/s, pydicom alone {1 / theirs:.1f}/s, ratio {ratio:.2f}, of {REPEATS}")
    assert ratio > 0.9
