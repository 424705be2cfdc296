"""Sizes of training subsets: numbers, parts of the training images, and the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dvme.defaults import SIZES
from dvme.errors import OptionError, parameter

FULL = "full"
_TENTHS = tuple(f"{percent}%" for percent in range(10, 100, 10))
PRESETS: Mapping[str, tuple[str, ...]] = {
    "truong2021:patchcam": (*("50", "100", "200", "500 S", "1000", "2000", "5000 M", "10000", "20000"), "full F"),
    "truong2021:aptos": ("50 S", "100", "200", "500 M", "full F"),
    "truong2021:pneumonia-cxr": ("50 S", "100", "200", "500 M", "full F"),
    "truong2021:nih-cxr": ("20 S", "50", "100", "150", "200 M", "full F"),
    "azizi2021": (*_TENTHS, FULL),
}
"""Published sets of sizes. Source: Truong et al. 2021, table 1 and appendix B; Azizi et al. 2021, figure 4."""


@dataclass(frozen=True)
class Size:
    """How many images to train on."""

    text: str
    """As it was asked for: `50`, `10%` or `full`."""
    subtask: str = ""
    """The name that a paper gives it: `S`, `M` or `F`."""

    @property
    def label(self) -> str:
        """The head of its column."""
        return f"{self.text} ({self.subtask})" if self.subtask else self.text

    def of(self, n_rows: int) -> int:
        """How many of so many training images.

        Raises:
            OptionError: if there are not that many.
        """
        if self.text == FULL:
            return n_rows
        if self.text.endswith("%"):
            return max(1, round(float(self.text[:-1]) / 100.0 * n_rows))
        if int(self.text) > n_rows:
            raise OptionError(f"size {self.text} is more than the {n_rows:,} training images of a fold; leave it out")
        return int(self.text)


def parse_sizes(names: Sequence[str]) -> list[Size]:
    """Sizes by number, per cent, `full`, or the name of a preset, each once and in the order given.

    Raises:
        OptionError: naming what is not a size.
    """
    sizes: dict[str, Size] = {}
    for name in names:
        for text in PRESETS.get(name, (name,)):
            size = Size(*text.split(" ", 1))
            _check(size.text)
            if size.text not in sizes or size.subtask:  # a paper's name for it wins
                sizes[size.text] = size
    if not sizes:
        raise OptionError("no size is named; pass " + parameter("sizes", SIZES))
    return list(sizes.values())


def _check(text: str) -> None:
    number = text.removesuffix("%")
    is_count = text.isascii() and text.isdigit() and int(text) > 0
    try:
        is_part = text.endswith("%") and 0.0 < float(number) <= 100.0
    except ValueError:
        is_part = False
    if text != FULL and not is_count and not is_part:
        presets = ", ".join(PRESETS)
        raise OptionError(f"size {text!r} is not a number of images, a part such as 10%, full, or one of {presets}")
