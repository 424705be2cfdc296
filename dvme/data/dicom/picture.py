"""What the header of a DICOM file says of how its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dvme.data.dicom.opened import PIXELS
from dvme.errors import ImageError

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
OTHER_COLOUR = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "XYB")
"""What there is beside these. Source: DICOM PS3.3, section C.7.6.3.1.2."""
FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
MOST_BITS = 64
NATIVE = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
"""(implicit VR, little endian) to the transfer syntax of files that name none."""


@dataclass(frozen=True)
class Picture:
    """How the pixels of a file lie, as its header has it."""

    keyword: str
    """The element that holds them."""
    transfer_syntax: str
    """UID."""
    is_little_endian: bool
    rows: int
    columns: int
    n_frames: int
    samples: int
    """1 for grey and palettes, 3 for colour."""
    photometric: str
    planar: int
    allocated: int
    """Bits of a sample as it lies in the file."""
    stored: int
    """Bits of it that are used."""
    high: int
    """The highest bit that is used."""
    is_signed: bool

    @property
    def is_float(self) -> bool:
        """Whether the pixels are floating point numbers."""
        return self.keyword in FLOATS

    @property
    def is_encapsulated(self) -> bool:
        """Whether the pixels are compressed."""
        from pydicom.uid import UID

        return UID(self.transfer_syntax).is_encapsulated

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest value that the used bits hold."""
        return (-(1 << self.stored - 1), (1 << self.stored - 1) - 1) if self.is_signed else (0, (1 << self.stored) - 1)


def picture_of(header: Any, max_pixels: int) -> Picture:
    """How the pixels of a data set lie.

    Raises:
        ImageError: if the header lacks what it must have, contradicts itself, or tells of more pixels than are allowed.
    """
    keyword = next(each for each in PIXELS if header.get(each))
    rows, columns = _number(header, "Rows"), _number(header, "Columns")
    if rows < 1 or columns < 1:
        raise ImageError(f"has {rows} rows and {columns} columns")
    if rows * columns > max_pixels:
        allowed = f"more than {max_pixels:,}; dvme extract --max-pixels {rows * columns} reads it"
        raise ImageError(f"has {rows * columns:,} pixels, {allowed}")
    photometric = str(header.get("PhotometricInterpretation") or "").strip().upper()
    samples = _number(header, "SamplesPerPixel", 1)
    if photometric not in (*GREY, PALETTE, *COLOUR):
        raise ImageError(f"has the PhotometricInterpretation {_told(photometric)}, which dvme cannot read")
    if samples != (3 if photometric in COLOUR else 1):
        raise ImageError(
            f"has SamplesPerPixel {samples}, which contradicts its PhotometricInterpretation {photometric}"
        )
    transfer_syntax = _transfer_syntax(header, keyword)
    allocated, stored, high, is_signed = _bits(header, keyword)
    return Picture(
        keyword=keyword,
        transfer_syntax=transfer_syntax,
        is_little_endian=transfer_syntax != NATIVE[False, False],
        rows=rows,
        columns=columns,
        n_frames=max(1, _number(header, "NumberOfFrames", 1)),
        samples=samples,
        photometric=photometric,
        planar=_number(header, "PlanarConfiguration", 0),
        allocated=allocated,
        stored=stored,
        high=high,
        is_signed=is_signed,
    )


def _told(photometric: str) -> str:
    """For a message; of a damaged header the text may be anything, a patient's name too."""
    return photometric if photometric in OTHER_COLOUR else "of no known kind" if photometric else "of no name"


def frame_of(picture: Picture, row_frame: int | None, asked: str) -> int:
    """The number of the frame to decode: the row's own, else the one asked for, else the first.

    Raises:
        ImageError: if there is none of this number.
    """
    if row_frame is None and asked == "middle":
        return picture.n_frames // 2
    frame = row_frame if row_frame is not None else int(asked or 0)
    if frame >= picture.n_frames:
        of = (
            "has one frame, 0"
            if picture.n_frames == 1
            else f"has {picture.n_frames} frames, 0 to {picture.n_frames - 1}"
        )
        raise ImageError(f"{of}; frame {frame} is none of them")
    return frame


def _bits(header: Any, keyword: str) -> tuple[int, int, int, bool]:
    """Allocated, stored, highest bit, signed."""
    if keyword in FLOATS:
        return FLOATS[keyword], FLOATS[keyword], FLOATS[keyword] - 1, False
    allocated, stored = _number(header, "BitsAllocated"), _number(header, "BitsStored")
    if allocated != 1 and (allocated % 8 or not 0 < allocated <= MOST_BITS):
        raise ImageError(f"has BitsAllocated {allocated}, which is neither 1 nor 8, 16, 32 or 64")
    if not 0 < stored <= allocated:
        raise ImageError(f"has BitsStored {stored} of BitsAllocated {allocated}")
    high = _number(header, "HighBit", stored - 1)
    if not stored - 1 <= high < allocated:
        raise ImageError(f"has HighBit {high}, which does not fit BitsStored {stored} of BitsAllocated {allocated}")
    representation = _number(header, "PixelRepresentation")
    if representation not in (0, 1):
        raise ImageError(f"has PixelRepresentation {representation}, which is neither 0 nor 1")
    return allocated, stored, high, bool(representation)


def _transfer_syntax(header: Any, keyword: str) -> str:
    named = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    if named:
        return str(named)
    if getattr(header[keyword], "is_undefined_length", False):
        raise ImageError("has compressed pixels and no TransferSyntaxUID that says how")
    implicit, little = header.original_encoding
    return NATIVE.get((bool(implicit), bool(little)), NATIVE[True, True])


def _number(header: Any, keyword: str, default: int | None = None) -> int:
    value = header.get(keyword)
    if value is None or value == "":
        if default is None:
            raise ImageError(f"has no {keyword}")
        return default
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise ImageError(f"has no number in {keyword}") from error
