"""The images of a segmentation: their maps, their content and their masks; and which of them a job learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.masks import Masks
from dvme.heads import Head
from dvme.segmentation.maps import DenseMaps, finest_of

BLOCK_BYTES = 1 << 26
"""Of maps that are looked at together."""


@dataclass(frozen=True)
class Scene:
    """N images."""

    maps: Mapping[str, DenseMaps]
    """By backbone."""
    rows: NDArray[np.int64]
    """(N,) of the cache."""
    ids: NDArray[np.uint8]
    """(N, 16) content ids."""
    masks: Masks
    """Of the N images, in their order."""

    def finest(self, backbones: Sequence[str]) -> tuple[int, int]:
        """Rows and columns of the grid with the most tokens of all maps of some backbones."""
        grid = finest_of([self.maps[name].finest for name in backbones])
        return grid.rows, grid.columns

    def n_channels(self, backbone: str) -> int:
        """Values of a token, of all maps together."""
        return self.maps[backbone].finest.channels

    def blocks(
        self, backbones: Sequence[str], positions: NDArray[Any], shape: tuple[int, int], n_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[slice, list[NDArray[np.float32]]]]:
        """The maps of several backbones on one grid, some images at a time; of a single image they may be larger.

        Yields:
            Where in `positions`, and (b, r * c, C_m) of each backbone.
        """
        a_row = 4 * shape[0] * shape[1] * sum(map(self.n_channels, backbones))
        size = max(1, n_bytes // max(1, a_row))
        for start in range(0, len(positions), size):
            at = slice(start, min(start + size, len(positions)))
            rows = self.rows[positions[at]]
            yield at, [self.maps[name].on_grid(rows, shape) for name in backbones]


@dataclass(frozen=True)
class SegmentJob:
    """One head to fit, on these images, chosen on those."""

    head: Head
    """Of `dvme.segmentation.heads`."""
    backbones: tuple[str, ...]
    """Dense ones; several only for a head that fuses."""
    train: NDArray[Any]
    """(n,) positions of images to learn from."""
    validation: NDArray[Any]
    """(v,) positions of images to choose hyper-parameters on, disjoint from them; empty: nothing is chosen."""
    seed: int = 0
    """Of whatever the head draws at random; which tokens are drawn does not depend on it."""
    workplace: Path | None = None
    """A folder for what a kill is to leave of it; None: nothing is left."""

    @property
    def title(self) -> str:
        """What it is called in a message."""
        return f"{self.head.name} on {'+'.join(self.backbones)}"

    @property
    def images(self) -> NDArray[np.int64]:
        """All that it may look at."""
        return np.union1d(self.train, self.validation).astype(np.int64)
