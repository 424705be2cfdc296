"""What of an image file is read, how finely, and by which range its grey of more than 8 bits becomes 8."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from dvme.errors import OptionError

USUAL = ""
"""A field that is not set: the range is an image's own extremes, and of a DICOM file what its header bounds; the
first window; the first frame."""
RANGES = ("image", "declared", "dtype")
BITS = re.compile(r"([1-9]\d?)bit")
PERCENTILES = re.compile(r"percentile:(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)")
LEAST_BITS, MOST_BITS = 9, 32
LEAST_DRAFT, MOST_DRAFT = 16, 65_500
"""The second: the longest side of a JPEG file."""
VOI = ("first", "none", "lut")
FRAMES = ("middle",)
CHOICES = {
    "range": "image, declared, dtype, 9bit to 32bit, or percentile:LOW:HIGH as in percentile:0.5:99.5",
    "voi": "first, none, lut, or the number of a window, from 0 on",
    "frame": "middle, or the number of a frame, from 0 on",
    "draft": f"pixels of the short side, from {LEAST_DRAFT} to {MOST_DRAFT}",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A policy for files that hold more than one 8-bit picture; of those that hold one, only `draft` changes anything.

    Each field is part of a backbone's name and fingerprint where it is set.
    """

    range: str = USUAL
    """Which grey of more than 8 bits becomes 0 and which 255: `image`, its own extremes; `declared`, the scale that the
    file says it uses; `dtype`, all bits of its numbers; `12bit`, 0 to 4095, or -2048 to 2047 of signed numbers;
    `percentile:LOW:HIGH` of its pixels, in percent, beyond which greys are clipped. Nothing else clips: an image with a
    grey beyond the range fails, and the reason names ranges that fit. A PPM of more than 8 bits is read by `declared`,
    `dtype` and bits only. Images of 8 bits are read as ever."""
    voi: str = USUAL
    """What a DICOM file is seen through: `first`, its VOI LUT or else its first window; `none`; `lut`, a table only;
    or a window by number. What a file lacks is its failure."""
    frame: str = USUAL
    """Of a DICOM file with several frames: a number, or `middle`. Of any other file with several images, such as a TIFF
    of pages or an animation, only the first can be read."""
    draft: str = USUAL
    """JPEG files are decoded to 1/8, 1/4 or 1/2 of their size, which their coefficients give at once: to the smallest
    whose short side has so many pixels as this. Other files are read as ever."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, and bring each value into its one spelling.

        Raises:
            OptionError: naming the field and what it may be.
        """
        for name, parse in (("range", _range), ("voi", _voi), ("frame", _frame), ("draft", _draft)):
            value = getattr(self, name)
            if value != USUAL:
                object.__setattr__(self, name, parse(value))

    @property
    def set_fields(self) -> dict[str, str]:
        """The fields that are set, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != USUAL}


def _range(value: str) -> str:
    if value in RANGES:
        return value
    if (bits := BITS.fullmatch(value)) and LEAST_BITS <= int(bits[1]) <= MOST_BITS:
        return value
    if percentiles := PERCENTILES.fullmatch(value):
        low, high = float(percentiles[1]), float(percentiles[2])
        if low < high <= 100:
            return f"percentile:{low:g}:{high:g}"
    raise OptionError(f"range={value} is not possible; choose {CHOICES['range']}")


def _voi(value: str) -> str:
    if value in VOI or value.isdecimal():
        return f"{int(value)}" if value.isdecimal() else value
    raise OptionError(f"voi={value} is not possible; choose {CHOICES['voi']}")


def _frame(value: str) -> str:
    if value in FRAMES or value.isdecimal():
        return f"{int(value)}" if value.isdecimal() else value
    raise OptionError(f"frame={value} is not possible; choose {CHOICES['frame']}")


def _draft(value: str) -> str:
    if value.isdecimal() and LEAST_DRAFT <= int(value) <= MOST_DRAFT:
        return f"{int(value)}"
    raise OptionError(f"draft={value} is not possible; choose {CHOICES['draft']}")
