"""What a study counts on a set of images: other metrics where an image has one class than where it may have several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError, parameter
from dvme.metrics.agreement import count_tables, mean_absolute_error
from dvme.metrics.classification import METRICS, log_odds, score
from dvme.metrics.decisions import subset_accuracy
from dvme.metrics.grades import predicted_classes
from dvme.metrics.labelled import mean_over_labels
from dvme.metrics.ranking import areas
from dvme.metrics.segmentation import dice, iou, known_mean, pooled
from dvme.stats.findings import can_be_judged, scored_findings
from dvme.stats.influence import Scored, mean_of_images, mean_scored, scored
from dvme.stats.intervals import Interval
from dvme.stats.units import Units

FINDING_METRICS = ("auc", "average_precision", "subset_accuracy")
"""Of images that may have several findings: the first two are means over the findings that can be judged."""

MASK_METRICS = ("dice", "iou", "global_dice")
"""Of segmentations: means over images of the mean over classes, and Dice over the pixels of all images. By the last
nothing is judged: images of many pixels count for more in it."""

MAE = "mae"
"""Mean absolute error in grades, beside the metrics of images with one class each. It means something where classes are
in order. Lower is better, so nothing is ranked or judged by it."""


def metrics_of(labels: NDArray[Any]) -> tuple[str, ...]:
    """In the order of the tables.

    Args:
        labels: (N,) class indices, (N, L) of 1, 0 and nan, or (N, L, 1) of a segmentation.
    """
    return {1: METRICS, 2: FINDING_METRICS, 3: MASK_METRICS}[labels.ndim]


def shown_of(labels: NDArray[Any]) -> tuple[str, ...]:
    """The metrics, and what stands beside them."""
    return (*metrics_of(labels), *([MAE] if labels.ndim == 1 else []))


def judging_metric(metric: str, *, is_segmentation: bool) -> str:
    """By what a study judges: where nobody says, by AUC, of a segmentation by Dice.

    Args:
        metric: that is asked for; "": none is.
        is_segmentation: whether the study is of masks.

    Raises:
        OptionError: if that cannot be.
    """
    usual = MASK_METRICS[0] if is_segmentation else METRICS[0]
    metric = metric or usual
    if not is_segmentation:
        check_metric(metric)
        return metric
    if metric not in MASK_METRICS[:2]:
        said = f"a segmentation is judged by {' or '.join(MASK_METRICS[:2])}, not by {metric!r}; leave out "
        raise OptionError(said + parameter("metric"))
    return metric


def check_metric(metric: str) -> None:
    """Refuse a metric that no labels have, or by which nothing is judged.

    Raises:
        OptionError: naming all.
    """
    if metric == MAE:
        raise OptionError(
            "mae cannot judge a study, because less of it is better; choose kappa: mae is shown beside it"
        )
    if metric not in METRICS:
        if metric in FINDING_METRICS:
            said = f"metric {metric!r} stands beside the AUC of several findings, by which they are judged; leave out "
            raise OptionError(said + parameter("metric"))
        raise OptionError(f"metric {metric!r} is not known; choose from {', '.join(METRICS)}")


def check_metric_of(metric: str, labels: NDArray[Any]) -> None:
    """Refuse, of classes or findings, a metric by which these labels are not judged.

    Raises:
        OptionError: naming the one that they are.
    """
    if labels.ndim == 2 and metric != METRICS[0]:
        said = f"a study of several findings is judged by {METRICS[0]}, not by {metric}; leave out "
        raise OptionError(said + parameter("metric"))


def judged_labels(labels: NDArray[Any], test: NDArray[np.int64], groups: NDArray[Any] | None) -> NDArray[Any]:
    """The labels by which a study scores: findings that the test images cannot judge are unknown everywhere.

    Then a mean over findings is of the same ones in every row and column of a table.

    Args:
        labels: (N,) class indices, or (N, L, 1) of a segmentation, which stay as they are; or (N, L).
        test: positions of the test images.
        groups: of these, which are patients; None: every image is a unit of its own.
    """
    if labels.ndim != 2:
        return labels
    judged = labels.copy()
    judged[:, ~can_be_judged(labels[test], groups)] = np.nan
    return judged


def ranked(labels: NDArray[Any], log_probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """(N, C) what an AUC goes by, see `log_odds`."""
    return log_odds(log_probabilities, is_multilabel=labels.ndim == 2)


def decided(log_probabilities: NDArray[Any], cuts: Sequence[float] | None) -> NDArray[np.int64]:
    """(N,) what images are taken for: the class with the largest of (N, C) log odds, or by tuned cuts."""
    return predicted_classes(log_odds(log_probabilities) if cuts is None else np.exp(log_probabilities), cuts)


def scores_of(
    labels: NDArray[Any], log_probabilities: NDArray[Any], cuts: Sequence[float] | None = None
) -> dict[str, float]:
    """Everything of `shown_of`.

    Args:
        labels: (N,) class indices, (N, L) findings, or (N, L, 1) of a segmentation.
        log_probabilities: (N, C); of a segmentation (N, L, 3) counts of pixels, see `overlaps`.
        cuts: see `predicted_classes`.
    """
    if labels.ndim == 3:
        return _of_masks(log_probabilities)
    odds = ranked(labels, log_probabilities)
    if labels.ndim == 1:
        taken = decided(log_probabilities, cuts)
        error = mean_absolute_error(count_tables(labels, taken, odds.shape[1]))
        return score(labels, odds, predicted=taken) | {MAE: float(error)}
    found = areas(labels, odds)
    return {
        "auc": float(mean_over_labels(found.auc).mean),
        "average_precision": float(mean_over_labels(found.average_precision).mean),
        "subset_accuracy": float(subset_accuracy(labels, odds, 0.0)),
    }


def scored_by(
    labels: NDArray[Any],
    folds: Sequence[NDArray[Any]],
    units: Units,
    metric: str,
    cuts: Sequence[Sequence[float] | None] | None = None,
) -> Scored:
    """One method's metric on the test set, with what every unit contributes.

    Args:
        labels: as `judged_labels` gives them.
        folds: J of (N, C) log probabilities; of a segmentation of (N, L, 3) counts.
        units: of the test images.
        metric: of `metrics_of`.
        cuts: of each head, see `predicted_classes`.
    """
    if labels.ndim == 3:
        return mean_of_images(np.stack([image_scores(fold, metric) for fold in folds], axis=1), units, metric)
    odds = [ranked(labels, each) for each in folds]
    if labels.ndim == 1:
        taken = [decided(fold, own) for fold, own in zip(folds, cuts or [None] * len(folds), strict=True)]
        return scored(labels, odds, units, [metric], predicted=taken)[metric]
    _, mean = scored_findings(labels, odds, units.groups)
    assert mean is not None  # `units_of_test` refuses a test set without a finding to judge
    return mean


def image_scores(counts: NDArray[Any], metric: str) -> NDArray[np.float64]:
    """(N,) mean over the classes that are known of each image, of (N, L, 3) counts; nan where none is."""
    return known_mean({"dice": dice, "iou": iou}[metric](counts), axis=1)


def _of_masks(counts: NDArray[Any]) -> dict[str, float]:
    of_images = {name: float(np.nanmean(image_scores(counts, name))) for name in MASK_METRICS[:2]}
    return of_images | {"global_dice": float(np.nanmean(dice(pooled(counts))))}


def error_in_grades(
    labels: NDArray[Any],
    folds: Sequence[NDArray[Any]],
    units: Units,
    cuts: Sequence[Sequence[float] | None] | None = None,
) -> Interval:
    """By how many grades images are taken for another class, mean over images and heads, with its interval.

    Arguments are those of `scored_by`, for images with one class each.
    """
    taken = [decided(fold, own) for fold, own in zip(folds, cuts or [None] * len(folds), strict=True)]
    return mean_scored(np.mean([np.abs(own - labels) for own in taken], axis=0), units).interval()
