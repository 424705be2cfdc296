"""Predictions and labels of several images of one patient or study, joined into one of each."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from dvme_cache.deferred import deferred

special = deferred("scipy.special")

Join = Literal["mean", "max", "noisy-or"]
JOINS: tuple[str, ...] = get_args(Join)
Conflicts = Literal["any", "drop"]
CONFLICTS: tuple[str, ...] = get_args(Conflicts)


def joined(odds: NDArray[Any], unit: NDArray[np.intp], join: Join) -> NDArray[np.float64]:
    """What the images of each unit say together.

    `mean` of the probabilities; `max`, the largest of them; `noisy-or`, 1 - prod(1 - p): the chance that any image
    shows it, if their errors had nothing to do with each other. It grows with the number of images.

    Args:
        odds: (N, L) log odds, log p - log (1 - p), each column a question of its own.
        unit: (N,) which unit an image is of, 0 to U - 1, each at least once.
        join: see above.

    Returns:
        (U, L) log odds, which keep apart what as probabilities are all 1.

    Source: Pearl 1988, section 4.3.2, for the noisy-or.
    """
    order = np.argsort(unit, kind="stable")
    starts = np.searchsorted(unit[order], np.arange(int(unit.max(initial=-1)) + 1))
    rows: NDArray[np.float64] = odds[order].astype(np.float64)
    if join == "max":
        return np.maximum.reduceat(rows, starts, axis=0)
    without = special.log_expit(-rows)  # log (1 - p)
    if join == "mean":
        with_it = np.logaddexp.reduceat(special.log_expit(rows), starts, axis=0)
        mean: NDArray[np.float64] = with_it - np.logaddexp.reduceat(without, starts, axis=0)
        return mean
    none = np.add.reduceat(without, starts, axis=0)
    with np.errstate(divide="ignore"):
        any_of: NDArray[np.float64] = np.log(-np.expm1(none)) - none
    return any_of


class JoinedTruth(NamedTuple):
    """Labels of units."""

    truth: NDArray[np.float64]
    """(U, L) of 1, 0, and nan where it is not known."""
    is_conflict: NDArray[np.bool_]
    """(U, L) where some images have it and some have it not."""


def joined_truth(truth: NDArray[Any], unit: NDArray[np.intp], conflicts: Conflicts) -> JoinedTruth:
    """What the labels of the images say of each unit, question by question.

    A unit has what an image of it has, and has not what no image has. Where no image has it and of one it is not
    known, it is not known of the unit. Where some have it and some have it not, `any` says that the unit has it, and
    `drop` that it is not known.

    Args:
        truth: (N, L) of 1, 0 and nan.
        unit: (N,) which unit an image is of, 0 to U - 1.
        conflicts: see above.
    """
    n_units, n_labels = int(unit.max(initial=-1)) + 1, truth.shape[1]

    def some(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
        found = np.zeros((n_units, n_labels), dtype=bool)
        np.logical_or.at(found, unit, cells)
        return found

    has, lacks, is_unknown = some(truth == 1.0), some(truth == 0.0), some(np.isnan(truth))
    is_conflict = has & lacks
    found = np.where(has, 1.0, np.where(is_unknown, np.nan, 0.0))
    if conflicts == "drop":
        found[is_conflict] = np.nan
    return JoinedTruth(found, is_conflict)
