"""Labels that are likely wrong, by heads that did not learn from the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.study.design.manifest import SubsetManifest
from dvme.study.ledger import FinishedJob

TEST = "test"
ROUNDING = 1e-6
"""Probabilities may be this far below a threshold that is their own mean."""


@dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong; many of them are hard images with a right one."""

    image: str
    """As its source names it."""
    path: str
    """Where it is now, as far as the cache knows."""
    label: str
    predicted: str
    p_label: float
    """Probability of the label."""
    p_predicted: float
    """Probability of the most probable class."""
    fold: str
    """`test`, or the fold of the first repeat in which hyper-parameters were chosen on it."""
    method: str
    """That leads on validation, whose heads these probabilities are of."""
    content: str = ""
    """Its content id, 32 hexadecimal digits; "" in the summary of an older dvme, which had it as the image."""


def find_suspects(
    manifest: SubsetManifest,
    jobs: Sequence[FinishedJob],
    size: int,
    method: str,
    images: Sequence[str] = (),
    paths: Sequence[str] = (),
) -> list[Suspect]:
    """All of a study, the least likely label first.

    Args:
        manifest: its subsets.
        jobs: one method's at one size, a job for each draw.
        size: its position.
        method: what it is called.
        images: N, as their source names them, in the manifest's order; none where they are not known.
        paths: N, where they are now; none where that is not known.
    """
    probabilities, labels = unseen_probabilities(manifest, jobs, size), manifest.targets.values
    known = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    found, fold = known[likely_wrong_labels(labels[known], probabilities[known])], sides(manifest, size)
    predicted = probabilities.argmax(axis=1)
    return [
        Suspect(
            image=str(images[i]) if len(images) else "",
            path=str(paths[i]) if len(paths) else "",
            label=manifest.classes[labels[i]],
            predicted=manifest.classes[predicted[i]],
            p_label=float(probabilities[i, labels[i]]),
            p_predicted=float(probabilities[i, predicted[i]]),
            fold=str(fold[i]),
            method=method,
            content=manifest.images[i].tobytes().hex(),
        )
        for i in found.tolist()
    ]


def unseen_probabilities(manifest: SubsetManifest, jobs: Sequence[FinishedJob], size: int) -> NDArray[np.float64]:
    """(N, C) by heads that did not learn from the image; nan without any.

    Of test images the mean over the draws, of the others that over the draws in which hyper-parameters were chosen on
    them: early stopping may have seen their labels, the weights have not.
    """
    total, counts = np.zeros((len(manifest.images), len(manifest.classes))), np.zeros(len(manifest.images))
    for own, job in zip(manifest.draws, jobs, strict=True):
        for where, values in ((manifest.test, job.test), (manifest.validation(own, size), job.validation)):
            total[where] += values
            counts[where] += 1
    empty = np.full(total.shape, np.nan)
    mean: NDArray[np.float64] = np.divide(total, counts[:, None], out=empty, where=counts[:, None] > 0)
    return mean


def sides(manifest: SubsetManifest, size: int) -> NDArray[Any]:
    """(N,) `test`, or the fold of the first repeat in which hyper-parameters were chosen on the image."""
    side = np.full(len(manifest.images), MISSING, dtype=object)
    for own in manifest.draws:
        if own.repeat == 1:
            side[manifest.validation(own, size)] = f"fold {own.fold}"
    side[manifest.test] = TEST
    return side


def likely_wrong_labels(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Images whose given label is likely wrong, by confident learning, the least likely label first.

    A class's threshold is the mean probability that images labelled so have for it. An image is suspicious where a
    class other than its label reaches its own threshold; where several do, the most probable class counts. It never is
    where the prediction is the label. The order is by the probability of the label less that of the most probable
    other class.

    Args:
        labels: (N,) class indices.
        probabilities: (N, C) from heads that were not fitted on the image in question.

    Returns:
        (n,) positions.

    Source: Northcutt, Jiang and Chuang 2021, section 3.1 (the confident joint), with the order by normalised margin;
        without images that are predicted as labelled, as their package `cleanlab` has it.
    """
    n_classes = probabilities.shape[1]
    thresholds = np.full(n_classes, np.inf)
    for c in np.unique(labels):
        thresholds[c] = probabilities[labels == c, c].mean()
    is_reached, predicted = probabilities >= thresholds - ROUNDING, probabilities.argmax(axis=1)
    n_reached = is_reached.sum(axis=1)
    likely = np.where(n_reached > 1, predicted, is_reached.argmax(axis=1))
    is_other = (n_reached > 0) & (likely != labels) & (predicted != labels)
    suspicious = np.flatnonzero(is_other)
    own = probabilities[suspicious, labels[suspicious]]
    others = probabilities[suspicious].copy()
    others[np.arange(len(suspicious)), labels[suspicious]] = -np.inf
    return suspicious[np.argsort(own - others.max(axis=1), kind="stable")]
