"""Sizes by headers, beside those of the decoded images."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from dvme.data import decode_image
from dvme.data.sizes import image_size
from dvme.errors import ImageError

PIXELS = np.arange(7 * 12, dtype=np.uint8).reshape(7, 12)
LAST_CHUNK = 12
"""Bytes of IEND."""


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274] = orientation
    return found


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "gif"])
def test_image_size__is_that_of_the_decoded_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, **({} if suffix in {"bmp", "gif"} else {"exif": exif(orientation)}))
    image = decode_image(path.read_bytes())
    assert image_size(path) == (image.height, image.width)


def test_image_size__of_a_png_that_says_how_it_is_turned_behind_its_pixels(tmp_path: Path) -> None:
    buffer, body = BytesIO(), b"eXIf" + exif(6).tobytes().removeprefix(b"Exif\0\0")
    Image.fromarray(PIXELS).save(buffer, "PNG")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue()[:-LAST_CHUNK] + chunk + buffer.getvalue()[-LAST_CHUNK:])
    image = decode_image(path.read_bytes())
    assert image_size(path) == (image.height, image.width) == (12, 7)


def test_image_size__of_a_dicom_file() -> None:
    found = get_testdata_file("CT_small.dcm", download=False)
    assert isinstance(found, str)
    assert image_size(Path(found)) == (128, 128)


def test_image_size__of_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(ImageError):
        image_size(tmp_path / "a.png")
