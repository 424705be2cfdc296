"""The size in a codestream, against the headers of files that hold one."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import LARGER, SHIPPED, header_of
from pydicom.encaps import get_frame

from dvme.data.dicom import is_dicom
from dvme.data.dicom.codestream import codestream_of, unboxed

NAMES = ("JP", "J2K", "jpeg", "JLS", "jls", "MR_small_j", "693_J2K", "US1_J2K")
BROKEN = {"JPEG2000-embedded-sequence-delimiter.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"}


def frames() -> list[tuple[str, bytes, tuple[int, int, int]]]:
    found = []
    for path in (path for folder in (LARGER, SHIPPED) for path in sorted(folder.glob("*.dcm"))):
        if not any(name in path.name for name in NAMES) or path.name in BROKEN or path.stat().st_size > 700_000:
            continue
        header = header_of(path.read_bytes())
        if is_dicom(path.read_bytes()) and header.file_meta.TransferSyntaxUID.is_encapsulated:
            n = int(header.get("NumberOfFrames") or 1)
            size = (header.Rows, header.Columns, header.SamplesPerPixel)
            if header.file_meta.TransferSyntaxUID != "1.2.840.10008.1.2.5":
                found.append((path.name, get_frame(header.PixelData, 0, number_of_frames=n), size))
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_codestream_of__is_what_headers_say() -> None:
    every = frames()
    assert len(every) > 25
    for name, frame, size in every:
        stream = codestream_of(unboxed(frame))
        assert stream is not None, name
        assert (stream.rows, stream.columns, stream.components) == size, name


@pytest.mark.parametrize(
    "frame", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xda\0\0\0\0", b"\xff\x4f\xff\x51\0"]
)
def test_codestream_of__what_says_nothing(frame: bytes) -> None:
    assert codestream_of(frame) is None


def test_unboxed__a_jp2_file(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (50, 40), 7).save(tmp_path / "one.jp2")
    boxed = (tmp_path / "one.jp2").read_bytes()
    assert codestream_of(boxed) is None
    stream = codestream_of(unboxed(boxed))
    assert stream is not None
    assert (stream.rows, stream.columns, stream.components, stream.bits) == (40, 50, 1, 8)
