"""Which images a study gets wrong with the most confidence, and which labels are likely wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.study.suspects import likely_wrong_labels

__all__ = ["confident_mistakes", "likely_wrong_labels"]


def confident_mistakes(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Wrongly classified images, the most confident first.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C).

    Returns:
        (n,) positions.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    confidence = probabilities[wrong, predicted[wrong]]
    return wrong[np.argsort(-confidence, kind="stable")]
