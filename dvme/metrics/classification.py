"""Metrics of a classification, as pure functions. Higher is better in all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError
from dvme.metrics.agreement import accuracy, count_tables, kappa, recalls
from dvme.metrics.labelled import mean_over_labels
from dvme.metrics.ranking import auc

METRICS = ("auc", "accuracy", "balanced_accuracy", "kappa")
"""In the order of the tables; the first is the one that methods are ranked by, on validation."""


def check_metric(metric: str) -> None:
    """Refuse an unknown metric.

    Raises:
        OptionError: naming those that there are.
    """
    if metric not in METRICS:
        raise OptionError(f"metric {metric!r} is not known; choose from {', '.join(METRICS)}")


def countable(
    labels: NDArray[Any], probabilities: NDArray[Any], n_classes: int
) -> tuple[NDArray[Any], NDArray[np.float64], int]:
    """The labels and probabilities of images that have both, and how many have not.

    Args:
        labels: (N,) class indices; below 0: none.
        probabilities: (N, C); an image counts where all of its own are finite.
        n_classes: C.

    Raises:
        DataError: if the shapes do not fit, or a label is not a class.
    """
    shape = (len(labels), n_classes)
    if probabilities.shape != shape:
        raise DataError(f"probabilities are {probabilities.shape}, and labels and classes make {shape}; pass matching")
    if len(labels) and labels.max() >= n_classes:
        raise DataError(f"a label is {labels.max()}, and there are {n_classes} classes; count them from 0")
    counts = (labels >= 0) & np.isfinite(probabilities).all(axis=1)
    return labels[counts], probabilities[counts].astype(np.float64), int((~counts).sum())


def log_odds(log_probabilities: NDArray[Any], *, is_multilabel: bool = False) -> NDArray[np.float64]:
    """What images are ranked by: log p - log (1 - p), which keeps apart what as probabilities are all 1.

    Args:
        log_probabilities: (N, C); -inf for a probability of 0.
        is_multilabel: whether classes do not exclude each other, so that each column is a probability of its own.

    Returns:
        (N, C); of two classes the difference of the two logarithms. The most probable class has the largest.
    """
    logs = log_probabilities.astype(np.float64)
    if is_multilabel:
        with np.errstate(divide="ignore"):
            independent: NDArray[np.float64] = logs - np.log(-np.expm1(logs))
        return independent
    with np.errstate(invalid="ignore"):  # 0 to 0
        if logs.shape[1] == 2:
            return logs - logs[:, ::-1]
        likely = np.arange(len(logs)), logs.argmax(axis=1)
        rest = logs.copy()
        rest[likely] = -np.inf
        odds = logs - np.log1p(-np.minimum(np.exp(logs), 0.5))  # above a half there is one, and it comes next
        odds[likely] = logs[likely] - np.logaddexp.reduce(rest, axis=1)
    return odds


def score(
    labels: NDArray[Any],
    scores: NDArray[Any],
    weights: NDArray[Any] | None = None,
    *,
    predicted: NDArray[Any] | None = None,
) -> dict[str, float]:
    """Every metric of METRICS.

    Args:
        labels: (N,) class indices.
        scores: (N, C) log odds, or probabilities: the largest of a row is the prediction, a column is what an AUC ranks
            by.
        weights: (N,) above 0: 2 is as if a sample were there twice; None: 1.
        predicted: (N,) what samples are taken for, where that is not the class of the largest score.
    """
    table = count_tables(labels, scores.argmax(axis=1) if predicted is None else predicted, scores.shape[1], weights)
    return {
        "auc": macro_auc(labels, scores, weights),
        "accuracy": float(accuracy(table)),
        "balanced_accuracy": float(mean_over_labels(recalls(table)).mean),
        "kappa": float(kappa(table)),
    }


def macro_auc(labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Area under the ROC curve; of more than two classes, the mean over one-versus-rest problems.

    A class that all or none of the labels have leaves no problem to rank and is passed over; nan if
    that holds for every class.
    """
    n_classes = probabilities.shape[1]
    classes = np.array([1]) if n_classes == 2 else np.arange(n_classes)
    return float(mean_over_labels(auc(labels[:, None] == classes, probabilities[:, classes], weights)).mean)
