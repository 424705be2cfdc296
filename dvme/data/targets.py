"""What images are to be recognised as: the one form that labels have between a cache's column and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.data.findings import are_findings, finding_names, parsed
from dvme.data.task import Task
from dvme.data.uncertainty import UNCERTAIN_VALUE, Uncertainty, is_unsure

if TYPE_CHECKING:
    from dvme.data.masks import Masks

HIDDEN = -1
"""The class of an image whose label nobody may know."""
IGNORED = -1
"""In JSON: what an uncertain cell teaches that teaches nothing."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The classes of N images: one of each, or any number of them."""

    classes: tuple[str, ...]
    """C names, in their order."""
    values: NDArray[Any]
    """(N,) int64 class indices, HIDDEN where nobody may know. Where an image may have several labels, (N, C) float32: 1
    has it, 0 has it not, nan where it is not known."""
    is_order_given: bool = False
    """Whether the order of the classes is a user's."""
    taught: NDArray[Any] | None = field(default=None, repr=False)
    """(N, C) as `values`, but what is uncertain is what heads are to learn of it, from 0 to 1; None: `values`."""
    masks: NDArray[np.uint8] | None = field(default=None, repr=False)
    """(N, 16) what identifies the masks of a segmentation, of which `values` then says which classes occur in them."""

    @classmethod
    def of(cls, labels: NDArray[Any], given: Sequence[str] = (), uncertainty: Uncertainty | None = None) -> Self:
        """Read a column.

        Args:
            labels: (N,) text, none of it missing; see `dvme.data.findings` for those of several findings.
            given: the user's order of classes, from the lowest, see `Task.from_labels`. Of findings it has all, also
                those that no image has; others that occur come after them.
            uncertainty: what is made of uncertain and unknown findings.

        Raises:
            DataError: if some images have one class, and others findings.
        """
        if not are_findings(labels):
            task = Task.from_labels(labels, given)
            return cls(task.classes, task.encode(labels), task.is_order_given)
        policy = uncertainty or Uncertainty()
        names = finding_names(labels, given)
        values = parsed(labels, names)
        unsure = is_unsure(values)
        if policy.blank == "zeros":
            values[np.isnan(values)] = 0.0
        taught = np.where(values == UNCERTAIN_VALUE, np.float32(policy.value), values)
        values[unsure] = np.nan
        return cls(names, values, False, taught if unsure.any() else None)

    @classmethod
    def of_masks(cls, masks: Masks) -> Self:
        """Those of a segmentation."""
        return cls(masks.names, masks.presence, masks=masks.ids)

    @classmethod
    def from_plain(
        cls,
        classes: Sequence[str],
        plain: Sequence[Any],
        *,
        is_order_given: bool = False,
        masks: NDArray[np.uint8] | None = None,
    ) -> Self:
        """The targets whose `plain` values, and `masks`, these are.

        Raises:
            TypeError, ValueError, IndexError: if they are none.
        """
        names = tuple(classes)
        if not any(isinstance(own, list | tuple) for own in plain):
            values = np.array(plain, dtype=np.int64)
            if len(values) and not 0 <= values.min() <= values.max() < len(names):
                raise ValueError(f"a label is none of {len(names)} classes")
            return cls(names, values, is_order_given)
        values = np.zeros((len(plain), len(names)), dtype=np.float32)
        taught = values.copy()
        for position, own in enumerate(plain):
            for entry in own:
                label, part = entry if isinstance(entry, list | tuple) else (entry, 1.0)
                values[position, label] = 1.0 if label is entry else np.nan
                taught[position, label] = np.nan if part == IGNORED else part
        is_same = np.array_equal(values, taught, equal_nan=True)
        return cls(names, values, is_order_given, None if is_same else taught, masks)

    @property
    def plain(self) -> list[Any]:
        """Values for JSON: the index of each image's class, or the list of its classes.

        In such a list [class, part] is one that is not known: heads learn this part of it, or nothing, IGNORED.
        """
        if not self.is_multilabel:
            listed: list[Any] = self.values.tolist()
            return listed
        found = []
        for known, taught in zip(self.values, self.learned, strict=True):
            own: list[Any] = []
            for label in np.flatnonzero(known != 0.0).tolist():
                part = float(taught[label])
                own.append(label if known[label] == 1.0 else [label, IGNORED if np.isnan(part) else part])
            found.append(own)
        return found

    @property
    def learned(self) -> NDArray[Any]:
        """(N,) or (N, C), what heads learn from."""
        return self.values if self.taught is None else self.taught

    @property
    def is_multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.values.ndim == 2

    @property
    def is_segmentation(self) -> bool:
        """Whether the classes are of pixels."""
        return self.masks is not None

    @property
    def scored(self) -> NDArray[Any]:
        """As scores take them: `values`, of a segmentation (N, L, 1), as its pixels are counted in place of them."""
        return self.values[:, :, None] if self.is_segmentation else self.values

    @property
    def task(self) -> Task:
        """The task that they define."""
        if self.is_multilabel:
            present = tuple(self.counts(np.arange(len(self))).tolist())
            return Task(self.classes, present, 0, False, is_multilabel=True, is_segmentation=self.is_segmentation)
        counts = np.bincount(self.values[self.values >= 0], minlength=len(self.classes))
        return Task(self.classes, tuple(counts.tolist()), 0, self.is_order_given)

    def __len__(self) -> int:
        return len(self.values)

    def at(self, rows: NDArray[Any]) -> Targets:
        """Those of some images."""
        taught = None if self.taught is None else self.taught[rows]
        masks = None if self.masks is None else self.masks[rows]
        return replace(self, values=self.values[rows], taught=taught, masks=masks)

    def hidden(self, rows: NDArray[Any]) -> Targets:
        """The same, of which nobody can learn the classes of these images."""
        nothing, values = np.nan if self.is_multilabel else HIDDEN, self.values.copy()
        values[rows] = nothing
        if self.taught is None:
            return replace(self, values=values)
        taught = self.taught.copy()
        taught[rows] = nothing
        return replace(self, values=values, taught=taught)

    def counts(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """(C,) how many of these images have each class."""
        own = self.values[rows]
        found = (own == 1.0).sum(axis=0) if self.is_multilabel else np.bincount(own, minlength=len(self.classes))
        return np.asarray(found, dtype=np.int64)

    def differing(self, other: Targets) -> NDArray[np.int64]:
        """Positions of the images whose classes, by name, are others in `other`, of the same N images."""
        names = tuple(dict.fromkeys((*self.classes, *other.classes)))
        one, two = (each.among(names) for each in (self, other))
        return np.flatnonzero(((one != two) & ~(np.isnan(one) & np.isnan(two))).any(axis=1))

    def among(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(N, len(names)) which image has which of these classes: 1, 0, or nan where that is not known."""
        found = np.zeros((len(self), len(names)), dtype=np.float32)
        own = self.values if self.is_multilabel else self.values[:, None] == np.arange(len(self.classes))
        found[:, [names.index(name) for name in self.classes]] = own
        return found
