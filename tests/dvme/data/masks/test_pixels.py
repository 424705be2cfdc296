"""Values of masks' files, beside the array that was saved and tifffile."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from dvme.data.masks.pixels import label_values
from dvme.errors import ImageError

VALUES = np.arange(24).reshape(4, 6)


@pytest.mark.parametrize(
    ("suffix", "dtype", "values"),
    [
        ("png", np.uint8, VALUES),
        ("png", np.uint16, VALUES * 2_000),
        ("tif", np.uint16, VALUES * 2_000),
        ("tif", np.int32, VALUES * 2_000),
        ("tif", np.float32, VALUES),
        ("bmp", np.uint8, VALUES),
        ("gif", np.uint8, VALUES),
        ("pgm", np.uint8, VALUES),
        ("webp", np.uint8, VALUES),
    ],
)
def test_label_values__are_those_that_were_saved(
    save: Callable[..., Path], suffix: str, dtype: Any, values: Any
) -> None:
    path = save(f"m.{suffix}", values, dtype=dtype, **({"lossless": True} if suffix == "webp" else {}))
    assert (label_values(path.read_bytes()).values == values).all()


def test_label_values__of_a_palette_are_its_indices(save: Callable[..., Path]) -> None:
    path = save("m.png", VALUES % 4, is_palette=True)
    with Image.open(path) as image:
        assert image.mode == "P"
    assert (label_values(path.read_bytes()).values == VALUES % 4).all()


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_label_values__of_tiff_with_its_white_end(photometric: str) -> None:
    buffer = BytesIO()
    stored = VALUES.astype(np.uint16)
    tifffile.imwrite(buffer, stored, photometric=photometric)
    expected = VALUES if photometric == "minisblack" else 65_535 - VALUES
    assert (label_values(buffer.getvalue()).values == expected).all()


def test_label_values__are_upright(save: Callable[..., Path]) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for values, dtype in ((VALUES, np.uint8), (VALUES * 2_000, np.uint16)):
        path = save("m.png", np.rot90(values), exif=exif, dtype=dtype)
        assert (label_values(path.read_bytes()).values == values).all()


def test_label_values__of_one_bit_are_0_and_255() -> None:
    buffer = BytesIO()
    Image.fromarray((VALUES % 2 * 255).astype(np.uint8)).convert("1").save(buffer, "PNG")
    assert (label_values(buffer.getvalue()).values == VALUES % 2 * 255).all()


def test_label_values__of_several_pages_are_refused() -> None:
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.zeros((3, 4, 6), dtype=np.uint8), photometric="minisblack")
    with pytest.raises(ImageError, match="holds several images"):
        label_values(buffer.getvalue())


def test_label_values__of_a_negative_value_are_refused() -> None:
    buffer = BytesIO()
    tifffile.imwrite(buffer, (VALUES - 1).astype(np.int16), photometric="minisblack")
    with pytest.raises(ImageError, match="has values from -1 to 22"):
        label_values(buffer.getvalue())
