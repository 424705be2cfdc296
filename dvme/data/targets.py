"""What images are to be recognised as: the one form that labels have between a cache's column and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.data.order import natural_key
from dvme.data.task import Task

HIDDEN = -1
"""The class of an image whose label nobody may know."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The classes of N images: one of each, or any number of them."""

    classes: tuple[str, ...]
    """C names, in their order."""
    values: NDArray[Any]
    """(N,) int64 class indices, HIDDEN where nobody may know; (N, C) bool where an image may have several labels."""
    is_order_given: bool = False
    """Whether the order of the classes is a user's."""

    @classmethod
    def of(cls, labels: NDArray[Any], class_order: Sequence[str] = (), separator: str | None = None) -> Self:
        """Read a column.

        Args:
            labels: (N,) text, none of it missing.
            class_order: the user's, from the lowest; see `Task.from_labels`.
            separator: what stands between the labels of an image that may have several; None: each has one.
        """
        if separator is not None:
            return cls(*_taken_apart(labels, separator))
        task = Task.from_labels(labels, class_order)
        return cls(task.classes, task.encode(labels), task.is_order_given)

    @classmethod
    def from_plain(cls, classes: Sequence[str], plain: Sequence[Any], *, is_order_given: bool = False) -> Self:
        """The targets whose `plain` values these are.

        Raises:
            TypeError, ValueError, IndexError: if they are none.
        """
        names = tuple(classes)
        if not any(isinstance(own, list | tuple) for own in plain):
            values = np.array(plain, dtype=np.int64)
            if len(values) and not 0 <= values.min() <= values.max() < len(names):
                raise ValueError(f"a label is none of {len(names)} classes")
            return cls(names, values, is_order_given)
        values = np.zeros((len(plain), len(names)), dtype=bool)
        for row, own in zip(values, plain, strict=True):
            row[list(own)] = True
        return cls(names, values, is_order_given)

    @property
    def plain(self) -> list[Any]:
        """Values for JSON: the index of each image's class, or the list of its classes."""
        if self.is_multilabel:
            return [np.flatnonzero(row).tolist() for row in self.values]
        listed: list[Any] = self.values.tolist()
        return listed

    @property
    def is_multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.values.ndim == 2

    @property
    def task(self) -> Task:
        """The task that they define, where an image has one label."""
        counts = np.bincount(self.values[self.values >= 0], minlength=len(self.classes))
        return Task(self.classes, tuple(counts.tolist()), 0, self.is_order_given)

    def __len__(self) -> int:
        return len(self.values)

    def at(self, rows: NDArray[Any]) -> Targets:
        """Those of some images."""
        return replace(self, values=self.values[rows])

    def hidden(self, rows: NDArray[Any]) -> Targets:
        """The same, of which nobody can learn the classes of these images; as int64, for a bool cannot be hidden."""
        values = self.values.astype(np.int64)
        values[rows] = HIDDEN
        return replace(self, values=values)

    def counts(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """(C,) how many of these images have each class."""
        own = self.values[rows]
        found = own.sum(axis=0) if self.is_multilabel else np.bincount(own, minlength=len(self.classes))
        return np.asarray(found, dtype=np.int64)

    def differing(self, other: Targets) -> NDArray[np.int64]:
        """Positions of the images whose classes, by name, are others in `other`, of the same N images."""
        names = tuple(dict.fromkeys((*self.classes, *other.classes)))
        one, two = (each.among(names) for each in (self, other))
        return np.flatnonzero((one != two).any(axis=1))

    def among(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """(N, len(names)) which image has which of these classes."""
        found = np.zeros((len(self), len(names)), dtype=bool)
        own = self.values if self.is_multilabel else self.values[:, None] == np.arange(len(self.classes))
        found[:, [names.index(name) for name in self.classes]] = own
        return found


def _taken_apart(labels: NDArray[Any], separator: str) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """L names in natural order, and (N, L) who has which, of labels such as `effusion|nodule`."""
    sets = [{part.strip() for part in str(text).split(separator) if part.strip()} for text in labels]
    names = tuple(sorted(set().union(*sets), key=natural_key))
    return names, np.array([[name in own for name in names] for own in sets], dtype=bool).reshape(len(sets), len(names))
