"""Telling DICOM files by their first bytes, with pydicom's own files as the examples."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dvme.data.dicom import is_dicom

pydicom = pytest.importorskip("pydicom")
FOLDER = Path(pydicom.data.__file__).parent / "test_files"
TORN = {FOLDER / "no_meta.dcm"}
"""A byte lies before its first element, so that pydicom finds no pixels in it either."""
HEAD = 256


@pytest.mark.parametrize("path", sorted(set(FOLDER.rglob("*.dcm")) - TORN), ids=lambda path: path.name)
def test_is_dicom__pydicoms_own(path: Path) -> None:
    assert is_dicom(path.read_bytes()[:HEAD])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_is_dicom__no_picture_is(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(buffer, kind)
    assert not is_dicom(buffer.getvalue()[:HEAD])


@pytest.mark.parametrize(
    "data",
    [b"", b"DICM", b"\x08\x00", b"{}", b"image,label\n" * 30, bytes(HEAD), b"\xff" * HEAD, b"PK\x03\x04" + bytes(200)],
)
def test_is_dicom__nor_is_anything_else(data: bytes) -> None:
    assert not is_dicom(data)


@pytest.mark.parametrize(("order", "is_explicit"), [("<", True), (">", True), ("<", False), (">", False)])
def test_is_dicom__without_a_preamble_by_the_first_element(order: str, is_explicit: bool) -> None:
    value = b"ISO_IR 100"
    length = b"CS" + struct.pack(f"{order}H", len(value)) if is_explicit else struct.pack(f"{order}I", len(value))
    assert is_dicom(struct.pack(f"{order}HH", 0x0008, 0x0005) + length + value + bytes(200))
    assert not is_dicom(struct.pack(f"{order}HH", 0x0009, 0x0005) + length + value + bytes(200))
