"""The task that labels define: its classes, their order and their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.findings import are_findings, finding_names, parsed
from dvme.data.order import class_order, names_tell_order, order_text
from dvme.data.samples import MISSING
from dvme.data.spelling import number_twins
from dvme.errors import DataError, OptionError
from dvme.text import counted, some_of


@dataclass(frozen=True)
class Task:
    """A classification task: class names in their order, and how many samples each has.

    Example:
        >>> dvme.Task.from_labels(["mild", "severe", "mild"]).describe()
        'binary, 2 classes: mild (2), severe (1)'
    """

    classes: tuple[str, ...]
    """In the user's order, else that of their leading numbers if all have one, else natural (`grade2`, `grade10`)."""
    counts: tuple[int, ...]
    """Samples per class."""
    n_unlabelled: int
    """Samples without a label."""
    is_order_given: bool = False
    """Whether the order is the user's."""
    is_multilabel: bool = False
    """Whether a sample may have several of the classes, or none."""
    n_unknown: int = 0
    """Of all samples and classes of a multi-label task: how often nobody knows."""
    is_segmentation: bool = False
    """Whether the classes are of pixels; the counts are then of images in which they occur."""

    @classmethod
    def from_labels(cls, labels: Sequence[str] | NDArray[Any], given: Sequence[str] = ()) -> Task:
        """Read the task off a column of labels; "" is no label.

        Args:
            labels: (N,) class names, or findings as `dvme.data.findings` writes them.
            given: the user's order of classes. It counts where it has every label; classes of it that no label has
                are no part of the task, but findings are.

        Raises:
            DataError: if some images have one class, and others findings.
        """
        if are_findings(labels):
            known = [str(label) for label in labels if label != MISSING]
            names = finding_names(known, given)
            values = parsed(known, names)
            counts_of = tuple((values == 1.0).sum(axis=0).tolist())
            n_unknown = int(values.size - ((values == 1.0) | (values == 0.0)).sum())
            return cls(names, counts_of, len(labels) - len(known), is_multilabel=True, n_unknown=n_unknown)
        counts = Counter(str(label) for label in labels)
        n_unlabelled = counts.pop(MISSING, 0)
        classes = tuple(sorted(counts, key=class_order(list(counts), given)))
        is_order_given = bool(classes) and set(classes) <= set(given)
        return cls(classes, tuple(counts[name] for name in classes), n_unlabelled, is_order_given)

    @property
    def kind(self) -> str:
        """`binary`, `multiclass`, `multi-label`, `segmentation`, `single-class` or `unlabelled`."""
        if self.is_segmentation:
            return "segmentation"
        if self.is_multilabel:
            return "multi-label"
        return {0: "unlabelled", 1: "single-class", 2: "binary"}.get(len(self.classes), "multiclass")

    @property
    def is_ordered(self) -> bool:
        """Whether a score may rest on the order: the user gave it, the names are numbers, or two classes need none."""
        if self.is_multilabel:
            return False
        return len(self.classes) <= 2 or self.is_order_given or names_tell_order(self.classes)

    @property
    def has_grades(self) -> bool:
        """Whether there are more than two classes, and they are in order: then one may be off by several."""
        return self.is_ordered and len(self.classes) > 2

    @property
    def kappa_name(self) -> str:
        """`quadratic kappa`, with the order where nobody gave one."""
        return "quadratic kappa" + ("" if self.is_ordered else f" (order assumed: {order_text(self.classes, 5)})")

    def order_caveat(self, cache: str) -> str:
        """Why quadratic kappa means little here, and how an order is given to a cache; "" where it is ordered."""
        if self.is_ordered:
            return ""
        return (
            f"quadratic kappa depends on the order of the classes, and {some_of(self.classes)} have none that is "
            f"given; dvme cache label {cache} --class-order LOWEST,...,HIGHEST gives it"
        )

    def check_ordered(self, cache: str) -> None:
        """Refuse to judge by quadratic kappa where nobody said which class is next to which.

        Raises:
            OptionError: naming the option that gives an order.
        """
        if caveat := self.order_caveat(cache):
            raise OptionError(caveat)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the kind, and whether the order means anything."""
        return asdict(self) | {"kind": self.kind, "is_ordered": self.is_ordered, "kappa": self.kappa_name}

    def encode(self, labels: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
        """Class indices, -1 where there is no label."""
        index = {name: position for position, name in enumerate(self.classes)} | {MISSING: -1}
        return np.array([index[str(label)] for label in labels], dtype=np.int64)

    def check_trainable(self) -> None:
        """Refuse a task that no classifier can learn.

        Raises:
            DataError: if there are no labels, or only one class.
        """
        if self.is_segmentation:
            if not any(self.counts):
                raise DataError("no mask has a foreground: there is nothing to segment")
            return
        if self.is_multilabel:
            if not any(self.counts):
                raise DataError("no image is known to have any finding; a task needs images with one, and without it")
            return
        if not self.classes:
            raise DataError("no image has a label; extract again with class folders or a label column")
        if len(self.classes) == 1:
            message = f"all {self.counts[0]} labelled images are {self.classes[0]!r}; a task needs two classes"
            raise DataError(message)
        for one, other in number_twins(self.classes):
            message = f"classes {one!r} and {other!r} are the same number; write it one way in the label column"
            raise DataError(message)

    def describe(self) -> str:
        """One line: `multiclass, 4 classes: 0 (1508), 1 (295), ...`."""
        if not self.classes:
            return f"{self.kind}, {counted(self.n_unlabelled, 'image')}"
        counts = some_of([f"{name} ({count:,})" for name, count in zip(self.classes, self.counts, strict=True)])
        extra = f"; {self.n_unlabelled:,} unlabelled" if self.n_unlabelled else ""
        noun, plural = ("finding", "findings") if self.is_multilabel else ("class", "classes")
        if self.is_segmentation:
            noun, plural = "class of pixels", "classes of pixels"
        unknown = f"; {self.n_unknown:,} cells uncertain or unknown" if self.n_unknown else ""
        return f"{self.kind}, {counted(len(self.classes), noun, plural)}: {counts}{extra}{unknown}"
