"""Dense features: patch tokens or feature maps of a backbone instead of one vector an image.

They are a variation of a backbone, written into its name: `dino@dense=last-4`. In a cache such a backbone has a long
row: map after map in the order of the layers, each map its tokens row by row over its grid, each token its channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvme.backbones.description.variation import DENSE, split_name


@dataclass(frozen=True)
class Grid:
    """The tokens of one map. Cell (i, j) is the image's rectangle [i/rows, (i+1)/rows) x [j/columns, (j+1)/columns)."""

    rows: int
    columns: int
    channels: int

    @property
    def n_tokens(self) -> int:
        """Cells of the grid."""
        return self.rows * self.columns

    @property
    def n_values(self) -> int:
        """Numbers of the map."""
        return self.n_tokens * self.channels

    @property
    def text(self) -> str:
        """As fingerprints have it: `14x14x384`."""
        return f"{self.rows}x{self.columns}x{self.channels}"


def grids_of(fields: Mapping[str, Any]) -> tuple[Grid, ...]:
    """The maps of a row, by a fingerprint's fields; () of a backbone that gives one vector an image."""
    maps = fields.get("maps")
    if not maps:
        return ()
    return tuple(Grid(*(int(part) for part in each.split("x"))) for each in str(maps).split(","))


def grids_text(grids: Sequence[Grid]) -> str:
    """As `grids_of` reads it."""
    return ",".join(grid.text for grid in grids)


def maps_text(grids: Sequence[Grid]) -> str:
    """`14 x 14 x 384`; of several maps one after the other, of equal ones how many there are: `4 of 14 x 14 x 384`."""
    texts = [f"{grid.rows} x {grid.columns} x {grid.channels}" for grid in grids]
    counts = {text: texts.count(text) for text in texts}
    return ", ".join(text if count == 1 else f"{count} of {text}" for text, count in counts.items())


def is_dense(name: str) -> bool:
    """Whether a backbone of this name gives dense features."""
    return DENSE in split_name(name)[1]
