"""What the grid of a segmentation costs it, in words, and how to have a finer one."""

from __future__ import annotations

from collections.abc import Sequence

from dvme.backbones.description.variation import split_name
from dvme.errors import Text, parameter
from dvme.heads import UNETS, base_name
from dvme.study.outcome import Cell
from dvme.text import METRIC_NAMES, grid_text

LOW = 0.9
"""A ceiling below which a finer grid is worth a line, whatever the head makes of this one."""
LEAST = 0.02
"""What a grid loses at least, where that is worth a line for it is more than what the head loses."""


def grid_lines(cells: Sequence[Cell], metric: str) -> list[str]:
    """A line where the method that leads loses much by its grid, or more than by its head.

    Args:
        cells: of the largest size, best on validation first.
        metric: that the ceilings are of.
    """
    leading = cells[0]
    if leading.ceiling is None or leading.grid is None:
        return []
    by_grid, by_head = 1.0 - leading.ceiling, leading.ceiling - leading.test[metric].mean
    if not (leading.ceiling < LOW or by_grid > max(by_head, LEAST)):
        return []
    what = f"{leading.method}: its grid of {grid_text(leading.grid)} lets {METRIC_NAMES[metric]} reach "
    return [what + f"{leading.ceiling:.3f}; " + _finer(leading, leading.grid)]


def _finer(cell: Cell, grid: tuple[int, int]) -> str:
    head = base_name(cell.head)
    if head in UNETS:
        rest = [part for part in cell.head.split("@")[1:] if not part.startswith("size=")]
        return f"a larger input has a finer one, {'@'.join([head, *rest, f'size={2 * max(grid)}'])}"
    is_last = any(split_name(name)[1].get("dense") == "last" for name in cell.backbones)
    earlier = (
        "earlier layers of a convolutional backbone (dvme extract with " + parameter("layers", "last-4") + "), or "
    )
    layers = earlier if is_last else Text("")
    return "for a finer one take " + layers + "a larger @size= in the names of backbones"
