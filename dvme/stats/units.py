"""What is independent on a test set: images, or patients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Units:
    """The independent parts of a test set: images, or patients with all of their images."""

    labels: NDArray[Any]
    """(N,) class indices."""
    groups: NDArray[Any] | None = None
    """(N,) patient of each image; None: every image is a unit of its own."""

    def is_same(self, other: Units) -> bool:
        """Whether the other is of the same images and patients."""
        if self is other:
            return True
        if self.groups is None or other.groups is None:
            return self.groups is other.groups and np.array_equal(self.labels, other.labels)
        return np.array_equal(self.groups, other.groups) and np.array_equal(self.labels, other.labels)

    @cached_property
    def cells(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """What a unit has of a class is a cell: (N,) cell of each image, (K,) unit and (K,) class of each cell."""
        if self.groups is None:
            every = np.arange(len(self.labels))
            return every, every, np.asarray(self.labels)
        n_classes = int(self.labels.max(initial=0)) + 1
        pairs = np.unique(self.groups, return_inverse=True)[1] * n_classes + self.labels
        found, cell = np.unique(pairs, return_inverse=True)
        return cell, found // n_classes, found % n_classes

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """(C,) units that hold each class, up to the last one that occurs."""
        return np.bincount(self.cells[2])

    @cached_property
    def n(self) -> int:
        """Units."""
        return len(self.labels) if self.groups is None else len(np.unique(self.cells[1]))

    @property
    def fewest(self) -> int:
        """Units of the rarest class that occurs."""
        return int(self.counts[self.counts > 0].min(initial=self.n))

    def powers(self, exponent: int) -> NDArray[np.float64]:
        """(C,) sum over each class's units of their images of that class, to a power."""
        if self.groups is None:
            return self.counts.astype(np.float64)
        cell, _, of_class = self.cells
        n_images = np.bincount(cell).astype(np.float64)
        return np.bincount(of_class, n_images**exponent).astype(np.float64, copy=False)

    def sums(self, parts: NDArray[Any]) -> NDArray[Any]:
        """(K, J) sums by cell of the (N, J) images' parts."""
        if self.groups is None:
            return parts
        return np.stack([np.bincount(self.cells[0], own, len(self.cells[1])) for own in parts.T], axis=1)
