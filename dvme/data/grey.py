"""Deep grey to 8 bits by a range: which grey becomes black, which white, and what there is to say about that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.reading import BITS, LEAST_BITS, MOST_BITS, PERCENTILES, USUAL
from dvme.data.stretch import FewGreys, Outliers, extremes, find_few_greys, find_outliers, percentiles, scaled
from dvme.errors import ImageError

ENOUGH = 16
"""Of the range, the part that a picture has to span for it to fit: a sixteenth."""
CLIPPED = "percentile:0.5:99.5"
"""The range that is named where a few pixels take up most of any other."""


@dataclass(frozen=True)
class Scale:
    """The grey that becomes black, and the one that becomes white."""

    low: float
    high: float

    def holds(self, least: float, largest: float) -> bool:
        """Whether greys from `least` to `largest` are all of the scale."""
        return self.low <= least and largest <= self.high


@dataclass(frozen=True)
class Grey:
    """Grey of 8 bits, and what there is to say about its range."""

    pixels: NDArray[np.uint8]
    """(H, W)."""
    outliers: Outliers | FewGreys | None = None
    """The few pixels that set the range, where it is the image's own; or how few greys a fixed range leaves."""


def eight_bits(values: NDArray[Any], by: str, declared: Callable[[], Scale | None]) -> Grey:
    """Grey values as 8 bits.

    Args:
        values: (H, W), of any type.
        by: a range, as `Reading` has it.
        declared: gives the scale that the file declares, None where it declares none.

    Raises:
        ImageError: if one of the values is not finite, or beyond the range; if no range is declared; or if the
            percentiles are one value.
    """
    least, largest = extremes(values)
    if by in {USUAL, "image"}:
        return Grey(scaled(values, least, largest), find_outliers(values, largest - least))
    if found := PERCENTILES.fullmatch(by):
        low, high = percentiles(values, float(found[1]), float(found[2]))
        if low == high and least < largest:
            raise ImageError(f"has the grey {low:,g} from end to end of @range={by}; pass wider percentiles")
        return Grey(scaled(values, low, high))
    scale = declared() if by == "declared" else fixed_scale(values.dtype, by)
    if scale is None or not scale.holds(least, largest):
        raise _unfit(values.dtype, by, scale, least, largest)
    pixels = scaled(values, scale.low, scale.high)
    return Grey(pixels, find_few_greys(pixels, values, _fitting(values.dtype, scale, least, largest)))


def is_fixed_range(by: str) -> bool:
    """Whether a range does not depend on the values of each image."""
    return by in {"declared", "dtype"} or BITS.fullmatch(by) is not None


def fixed_scale(dtype: np.dtype[Any], by: str) -> Scale:
    """What `dtype` and `12bit` mean for numbers of a type: all that its bits can be, 0 to 1 for floating point.

    Signed numbers reach from the negative half of their range. Floating point that counts by bits begins at 0.
    """
    if found := BITS.fullmatch(by):
        half = 2 ** (int(found[1]) - 1)
        return Scale(-half, half - 1) if dtype.kind == "i" else Scale(0, 2 * half - 1)
    if dtype.kind == "f":
        return Scale(0, 1)
    return Scale(float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))


def _fitting(dtype: np.dtype[Any], scale: Scale, least: float, largest: float) -> str:
    """A range that shows more of greys from `least` to `largest` than a scale: of the fewest bits, if that does."""
    bits = _least_bits(dtype, least, largest)
    fewest = scale if bits is None else fixed_scale(dtype, bits)
    if bits is None or (largest - least) * ENOUGH < fewest.high - fewest.low:
        return "image"
    return bits if fewest.high - fewest.low < scale.high - scale.low else CLIPPED


def _least_bits(dtype: np.dtype[Any], least: float, largest: float) -> str | None:
    """The least number of bits that holds these greys, as a range; None where none does."""
    every = (f"{n_bits}bit" for n_bits in range(LEAST_BITS, MOST_BITS + 1))
    return next((by for by in every if fixed_scale(dtype, by).holds(least, largest)), None)


def _unfit(dtype: np.dtype[Any], by: str, scale: Scale | None, least: float, largest: float) -> ImageError:
    """Why a range does not hold the greys, and which ranges do."""
    others = [_least_bits(dtype, least, largest), "16bit", "dtype"]
    fitting = [other for other in others if other and fixed_scale(dtype, other).holds(least, largest)]
    names = [f"@range={other}" for other in dict.fromkeys([*fitting, "image", CLIPPED])]
    these = f"{', '.join(names[:-1])} and {names[-1]} fit"
    if scale is None:
        return ImageError(
            f"declares no range of grey, as @range={by} needs it; its greys are {least:,g} to {largest:,g}: {these}"
        )
    beyond, end, which = (largest, scale.high, "largest") if largest > scale.high else (least, scale.low, "least")
    where = "beyond" if which == "largest" else "below"
    return ImageError(f"has {beyond:,.10g} as its {which} grey, {where} the {end:,.10g} of @range={by}; {these}")
