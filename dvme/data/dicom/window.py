"""Values of interest: the window or table that a DICOM file is to be seen through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.dicom.lut import Lut, lut_of
from dvme.data.dicom.opened import numbers
from dvme.data.dicom.picture import Picture
from dvme.data.reading import USUAL
from dvme.errors import ImageError

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
WITHOUT = "@voi=none reads it without"


@dataclass(frozen=True)
class Window:
    """A range of values that is spread over all greys."""

    center: float
    width: float
    function: str

    def shares(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values of any shape lie in it: 0 at its lower end and below, 1 at its upper end and above.

        Source: DICOM PS3.3, section C.11.2.1.2 and C.11.2.1.3.
        """
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                return np.asarray(1 / (1 + np.exp(-4 * (values - self.center) / self.width)))
        exact = self.function == "LINEAR_EXACT"
        center, width = (self.center, self.width) if exact else (self.center - 0.5, self.width - 1)
        if width == 0:
            return np.asarray(values > center, dtype=np.float64)
        return np.clip((values - center) / width + 0.5, 0, 1)


def voi_of(places: list[Any], picture: Picture, asked: str, *, is_signed: bool) -> Window | Lut | None:
    """What to see a file through; None for all that it holds.

    Of a table and windows the table is the first, as pydicom has it.

    Args:
        places: where to look, the nearest first.
        picture: of the file.
        asked: `voi` of a reading.
        is_signed: whether the values can be negative.

    Raises:
        ImageError: if it is damaged, or there is none such as is asked for.
    """
    if asked == "none":
        return None
    windows = list(zip(numbers(places, "WindowCenter"), numbers(places, "WindowWidth"), strict=False))
    tables = [item for item in places[-1].get("VOILUTSequence") or () if "LUTDescriptor" in item and "LUTData" in item]
    has = "no window" if not windows else "one window, 0" if len(windows) == 1 else f"windows 0 to {len(windows) - 1}"
    if asked == "lut" and not tables:
        raise ImageError(f"has no VOI LUT; it has {has} (@voi=first takes what there is)")
    if asked in (USUAL, "first", "lut") and tables:
        return lut_of(tables[0], picture, "VOI LUT", is_signed=is_signed, instead=WITHOUT)
    if asked in (USUAL, "first"):
        return _window(places, *windows[0]) if windows else None
    if int(asked) >= len(windows):
        raise ImageError(f"has {has}; window {asked} is not there (@voi=first takes what there is)")
    return _window(places, *windows[int(asked)])


def _window(places: list[Any], center: float, width: float) -> Window:
    named = next((place.get("VOILUTFunction") for place in places if place.get("VOILUTFunction")), FUNCTIONS[0])
    function = str(named).strip().upper()
    if function not in FUNCTIONS:
        raise ImageError(f"has a VOILUTFunction that is none of {', '.join(FUNCTIONS)}; {WITHOUT}")
    if width < 1 if function == FUNCTIONS[0] else width <= 0:
        raise ImageError(f"has a window of width {width:g}, which shows nothing; {WITHOUT}")
    return Window(center, width, function)
