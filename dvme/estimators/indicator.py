"""Several labels as scikit-learn takes them, an indicator matrix; and weights of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.class_weight import compute_class_weight

from dvme.errors import DataError, OptionError
from dvme.heads.fitting.cells import check_cells

ClassWeight = Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None
"""None; `balanced`; a weight by class; or of several labels a list of such, one for each label."""
BALANCED = "balanced"
STREAM = 2
"""Sets the random numbers of this split apart from those of the training with the same seed."""


def indicator_of(y: ArrayLike) -> NDArray[Any] | None:
    """(N, L) where `y` has a column for each of several labels; None where it has one label for each row.

    Sparse matrices are made dense. A single column is one label, as in scikit-learn.
    """
    if hasattr(y, "toarray"):
        y = y.toarray()
    cells = np.asarray(y)
    if cells.ndim != 2 or cells.shape[1] < 2:
        return None
    if cells.dtype == object:
        try:
            cells = cells.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError("y has several columns that are not numbers; pass 1, 0, or nan for unknown") from error
    if cells.dtype.kind not in "biuf":
        raise DataError(f"y has several columns of {cells.dtype}; pass 1, 0, or nan for unknown")
    return cells


def checked_indicator(cells: NDArray[Any], n_rows: int) -> NDArray[np.float32]:
    """(N, L) cells that heads can learn from.

    Raises:
        DataError: if they are not from 0 to 1, or as many as the rows, or no label has both values.
    """
    if len(cells) != n_rows:
        raise DataError(f"y has {len(cells)} rows and X has {n_rows}; pass one for each")
    taught = cells.astype(np.float32)
    check_cells(taught, cells.shape[1])
    if not ((taught > 0.0).any(axis=0) & (taught < 1.0).any(axis=0)).any():
        raise DataError("no label of y has both 0 and 1; a classifier needs rows with and without a label")
    return taught


def split_rows_of_labels(
    cells: NDArray[Any], fraction: float, seed: int, units: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows to learn from and rows to choose on, both ascending, each with its share of every label.

    Args:
        cells: (N, L) 1, 0, a part, or nan.
        fraction: of the rows, in [0, 1).
        seed: of the draw.
        units: (N,) integers, equal for rows that stay together; None: every row may be drawn on its own.
    """
    from dvme.study.design.multilabel import iterative_split

    every = np.arange(len(cells))
    if fraction == 0.0:
        return every, every[:0]
    rng = np.random.default_rng([seed, STREAM])
    part = iterative_split(cells >= 0.5, every if units is None else units, [1.0 - fraction, fraction], rng)
    if not (part == 0).any():
        return every, every[:0]
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def weights_of_classes(
    class_weight: ClassWeight, classes: NDArray[Any], labels: NDArray[Any], sample_weight: NDArray[Any] | None
) -> NDArray[np.float64] | None:
    """(N,) how often each row counts for its class; None where all count alike.

    Args:
        class_weight: see `ClassWeight`; a class that is not named weighs 1.
        classes: (C,) as the user names them.
        labels: (N,) positions among the classes.
        sample_weight: (N,), which `balanced` counts rows by; None: 1.

    Raises:
        OptionError: if it is none of these, or a weight is negative or not finite.
    """
    if class_weight is None:
        return None
    if not isinstance(class_weight, Mapping) and class_weight != BALANCED:
        raise OptionError(f"class_weight {class_weight!r} is not possible; pass 'balanced', or a weight for each class")
    present = np.unique(labels)
    given = {"sample_weight": sample_weight} if sample_weight is not None else {}
    try:
        own = compute_class_weight(class_weight, classes=classes[present], y=classes[labels], **given)
    except ValueError as error:
        raise OptionError(f"class_weight {class_weight!r} does not fit the classes {classes.tolist()}") from error
    if not (np.isfinite(own).all() and (own >= 0.0).all()):
        raise OptionError(f"class_weight {class_weight!r} has a weight below 0 or without end; a weight is 0 or more")
    by_class = np.ones(len(classes))
    by_class[present] = own
    weights: NDArray[np.float64] = by_class[labels]
    return weights


def weights_of_cells(
    class_weight: ClassWeight, cells: NDArray[Any], sample_weight: NDArray[Any] | None
) -> NDArray[np.float64] | None:
    """(N, L) how often each cell counts, every label weighed by its own known rows; None where all count alike.

    Raises:
        OptionError: as `weights_of_classes`, or if there is not one for each label, or labels are known in part.
    """
    if class_weight is None:
        return None
    n_labels = cells.shape[1]
    is_listed = isinstance(class_weight, Sequence) and not isinstance(class_weight, str)
    each = list(class_weight) if is_listed else [class_weight] * n_labels
    if len(each) != n_labels or (isinstance(class_weight, Mapping)):
        raise OptionError(
            f"y has {n_labels} labels; pass class_weight 'balanced', or a list with a dict for each label"
        )
    if not np.isin(cells[~np.isnan(cells)], (0.0, 1.0)).all():
        raise OptionError("class_weight is for labels of 0 and 1, and some of y are between; leave it out")
    found = np.ones(cells.shape)
    for label, own in enumerate(each):
        known = np.flatnonzero(~np.isnan(cells[:, label]))
        counts = None if sample_weight is None else sample_weight[known]
        if len(known):
            own_weights = weights_of_classes(own, np.arange(2), cells[known, label].astype(np.int64), counts)
            found[known, label] = 1.0 if own_weights is None else own_weights
    return found
