"""The task that labels define: its classes, their order and their counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.samples import MISSING
from dvme.errors import DataError
from dvme.wording import counted

LEADING_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


@dataclass(frozen=True)
class Task:
    """A classification task: class names in their order, and how many samples each has."""

    classes: tuple[str, ...]
    """In the order of their leading numbers if all have one, else alphabetical."""
    counts: tuple[int, ...]
    """Samples per class."""
    n_unlabelled: int
    """Samples without a label."""

    @classmethod
    def from_labels(cls, labels: Sequence[str] | NDArray[Any]) -> Task:
        """Read the task off a column of labels; "" is no label."""
        counts = Counter(str(label) for label in labels)
        n_unlabelled = counts.pop(MISSING, 0)
        classes = tuple(sorted(counts, key=class_order(list(counts))))
        return cls(classes, tuple(counts[name] for name in classes), n_unlabelled)

    @property
    def kind(self) -> str:
        """`binary`, `multiclass`, `single-class` or `unlabelled`."""
        return {0: "unlabelled", 1: "single-class", 2: "binary"}.get(len(self.classes), "multiclass")

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the kind."""
        return asdict(self) | {"kind": self.kind}

    def encode(self, labels: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
        """Class indices, -1 where there is no label."""
        index = {name: position for position, name in enumerate(self.classes)} | {MISSING: -1}
        return np.array([index[str(label)] for label in labels], dtype=np.int64)

    def check_trainable(self) -> None:
        """Refuse a task that no classifier can learn.

        Raises:
            DataError: if there are no labels, or only one class.
        """
        if not self.classes:
            raise DataError("no image has a label; extract again with class folders or a label column")
        if len(self.classes) == 1:
            message = f"all {self.counts[0]} labelled images are {self.classes[0]!r}; a task needs two classes"
            raise DataError(message)
        if len({name for name in self.classes if _as_number(name) is None}) == 0:
            by_value: dict[float | None, str] = {}
            for name in self.classes:
                twin = by_value.setdefault(_as_number(name), name)
                if twin != name:
                    message = f"classes {twin!r} and {name!r} are the same number; write it one way in the label column"
                    raise DataError(message)

    def describe(self) -> str:
        """One line: `multiclass, 4 classes: 0 (1508), 1 (295), ...`."""
        if not self.classes:
            return f"{self.kind}, {counted(self.n_unlabelled, 'image')}"
        counts = ", ".join(f"{name} ({count:,})" for name, count in zip(self.classes, self.counts, strict=True))
        extra = f"; {self.n_unlabelled:,} unlabelled" if self.n_unlabelled else ""
        return f"{self.kind}, {len(self.classes)} classes: {counts}{extra}"


def _as_number(name: str) -> float | None:
    """The value of a name that is a number and nothing else."""
    match = LEADING_NUMBER.fullmatch(name)
    return float(name) if match else None


def class_order(names: Sequence[str]) -> Callable[[str], Any]:
    """The sort key of class names: by their leading number if all have one (`2`, `33%`, `1 mild`), else by name."""
    numbers = {name: match for name in names if (match := LEADING_NUMBER.match(name))}
    if len(numbers) < len(names):
        return lambda name: name
    return lambda name: (float(numbers[name].group()), name)
