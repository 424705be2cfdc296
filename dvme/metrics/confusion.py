"""Which class is taken for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.metrics.classification import countable
from dvme.metrics.grades import predicted_classes


@dataclass(frozen=True)
class Confusion:
    """Images by true and predicted class."""

    n_images: int
    n_left_out: int
    """Images without a label or a finite probability."""
    accuracy: float
    """Share of the images that are taken for their class; nan without images."""
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """(C, C): true classes, by predicted ones."""


def count_confusion(
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    classes: Sequence[str],
    cuts: Sequence[float] | None = None,
) -> Confusion:
    """Count true against predicted classes.

    Not by scikit-learn, which refuses to count no images and warns of a single class.

    Args:
        labels: (N,) class indices; below 0: none.
        probabilities: (N, C).
        classes: C names.
        cuts: see `predicted_classes`.

    Raises:
        DataError: if the shapes do not fit, or a label is not a class.
    """
    y, p, n_left_out = countable(labels, probabilities, len(classes))
    n = len(classes)
    counts = np.bincount(y * n + predicted_classes(p, cuts), minlength=n * n).reshape(n, n)
    accuracy = float(counts.trace()) / len(y) if len(y) else math.nan
    return Confusion(len(y), n_left_out, accuracy, tuple(classes), tuple(tuple(row) for row in counts.tolist()))
