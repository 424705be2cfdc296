"""Which images a study gets wrong with the most confidence, and which labels are likely wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def likely_wrong_labels(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Images whose given label is likely wrong, by confident learning, the least likely label first.

    A class's threshold is the mean probability that images labelled so have for it. An image is suspicious where a
    class other than its label reaches its own threshold, and more probably so than the label if that reaches its own.
    The order is by the probability of the label less that of the most probable other class.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C) from heads that were not fitted on the image in question.

    Returns:
        (n,) positions.

    Source: Northcutt, Jiang and Chuang 2021, section 3.1 (the confident joint), with the order by normalised margin.
    """
    n_classes = probabilities.shape[1]
    thresholds = np.full(n_classes, np.inf)
    for c in np.unique(labels):
        thresholds[c] = probabilities[labels == c, c].mean()
    reached = np.where(probabilities >= thresholds, probabilities, -np.inf)
    likely = reached.argmax(axis=1)
    suspicious = np.flatnonzero(np.isfinite(reached.max(axis=1)) & (likely != labels))
    own = probabilities[suspicious, labels[suspicious]]
    others = probabilities[suspicious].copy()
    others[np.arange(len(suspicious)), labels[suspicious]] = -np.inf
    return suspicious[np.argsort(own - others.max(axis=1), kind="stable")]
