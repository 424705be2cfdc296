"""What an extraction says of images whose greys a range leaves few of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme.text import counted
from dvme_cli.console import say

if TYPE_CHECKING:
    from dvme.extraction.extract import ExtractReport


def show_greys(report: ExtractReport) -> None:
    """Name images that a handful of pixels, a fixed range or a window leave few greys."""
    _show_outliers(report)
    _show_few_greys(report)


def _show_outliers(report: ExtractReport) -> None:
    """Images that would be another picture without a handful of pixels, which the stretch to 8 bits goes by."""
    if report.outliers:
        image, found = max(report.outliers.items(), key=lambda item: item[1].share)
        have = "image has" if len(report.outliers) == 1 else "images have"
        spans = "pixels spans" if found.n_pixels == 1 else "pixels span"
        say(
            f"{len(report.outliers):,} {have} a range of grey that a handful of pixels set, such as {image} "
            f"({found.n_pixels:,} of {found.n_of:,} {spans} {found.share:.0%} of it); all others share what is left of "
            "the 256 greys. Clip such values and extract again (--json lists all)"
        )


def _show_few_greys(report: ExtractReport) -> None:
    """Images that a fixed range, or a window, leaves nearly flat, though their files tell more."""
    if report.few_greys:
        image, found = max(report.few_greys.items(), key=lambda item: item[1].n_greys)
        have = "image is" if len(report.few_greys) == 1 else "images are"
        fits = f"; @range={found.fits} fits it" if found.fits else ""
        fits = "; @voi=none does without its window" if found.by_window else fits
        say(
            f"{len(report.few_greys):,} {have} left with few of the 256 greys, such as {image} (its {found.n_values:,} "
            f"values become {counted(found.n_greys, 'grey')}){fits} (--json lists all)"
        )
