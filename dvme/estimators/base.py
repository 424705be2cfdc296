"""What all estimators share: the fit, the validation rows it keeps, and the columns of each backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data

from dvme.errors import DataError, OptionError
from dvme.estimators.indicator import (
    checked_indicator,
    indicator_of,
    split_rows_of_labels,
    weights_of_cells,
    weights_of_classes,
)
from dvme.heads import Embedded, FittedHead, Head, Job, fit_jobs, needs_order
from dvme.limits import every, whole
from dvme.metrics.grades import predicted_classes
from dvme.runtime import Runtime
from dvme.seeds import checked_seed
from dvme.vectors import finite_rows

SPLIT_STREAM = 1
"""Sets the random numbers of the split apart from those of the training with the same seed."""

# eq and repr stay scikit-learn's: two estimators of equal settings are not the same estimator.
estimator = dataclass(kw_only=True, eq=False, repr=False)


@estimator
class HeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What all heads share. The fields are the hyper-parameters; `fit` stores everything else.

    Attributes:
        classes_: (C,) labels, in the order of the probabilities; of several labels (L,) their columns, from 0.
        n_features_in_: columns of X.
        feature_names_in_: their names, where X is a DataFrame with names that are strings.
        blocks_: columns of each block.
        validation_rows_: (v,) rows of X that hyper-parameters were chosen on; empty if none were. None of them is of a
            group that the head learned from, nor of weight 0.
        chosen_: what validation chose, and how the fit went.
        head_: the fitted head, as `dvme.heads.fit_jobs` returns it.
    """

    validation_fraction: float | None = 0.2
    """Part of each class's rows, rounded, that hyper-parameters are chosen on; the head does not learn from them.

    At least one row of a class is left to learn from. 0 or None, or where fewer than two classes have rows to spare:
    nothing is chosen, and the head takes the middle of its path or the last of its epochs.

    Where `fit` is given groups, whole groups are drawn, of as nearly as many rows. A group with all rows of a class is
    never among them: the choice is then made without that class."""
    random_state: int | np.random.RandomState | None = 0
    """Seed of the validation rows and of the training; None: another one for each fit."""

    def fit(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn to tell the labels apart.

        In scikit-learn's tools groups and weights are routed: `set_fit_request(groups=True, sample_weight=True)` under
        `sklearn.set_config(enable_metadata_routing=True)`.

        Args:
            X: (N, D) embeddings; those of several backbones side by side.
            y: (N,) labels, integers or strings, of at least 2 classes. Or (N, L) where a row may have several labels or
                none: 1 has it, 0 has it not, values between teach a part, nan is not known and takes no part in that
                label. It may be sparse.
            groups: (N,) whose each row is, say the patient's number: rows of one group are never on both sides of the
                validation split. A missing one (None, NaN, "") is a group of its own. None: rows are drawn one by one,
                and images of one patient then choose the head that learned from the others.
            sample_weight: (N,), 0 or more: how often each row counts, in learning and in choosing. 2 is as if the row
                were there twice, 0 as if it were not; for the heads trained by minibatches, in the mean of the loss.

        Raises:
            ValueError: if X, y, groups or weights are not that, or a hyper-parameter is not possible.
        """
        cells = indicator_of(y)
        features, targets = self._validated(X, y, cells)
        _check_finite(features)
        rows, weights = _counting_rows(features, sample_weight)
        head, class_weight = self._head(), getattr(self, "class_weight", None)
        cell_weights = None
        if cells is not None:
            labels = checked_indicator(targets, len(features))[rows]
            self.classes_ = np.arange(labels.shape[1])
            cell_weights = weights_of_cells(class_weight, labels, weights)
        else:
            check_classification_targets(targets)
            self.classes_, labels = np.unique(targets[rows], return_inverse=True)
            if len(self.classes_) < 2:
                raise DataError(f"y has 1 class, {self.classes_.tolist()[0]!r}; a classifier needs 2 or more")
            if needs_order(head) and self.classes_.dtype.kind not in "biuf":
                raise DataError("this head needs classes in order, and y has names; pass numbers, 0 for the lowest")
            own = weights_of_classes(class_weight, self.classes_, labels, weights)
            weights = own if weights is None else weights if own is None else weights * own
        self._indicator_dtype = None if cells is None else cells.dtype
        self.blocks_ = _block_sizes(getattr(self, "blocks", None), features.shape[1])
        seed = _seed(self.random_state)
        units = None if groups is None else _units(groups, len(features))[rows]
        train, validation = split_validation(labels, self.validation_fraction, seed, units)
        self.validation_rows_ = rows[validation]
        blocks = _split_columns(features[rows] if len(rows) < len(features) else features, self.blocks_)
        embeddings = {f"block {m}": block for m, block in enumerate(blocks)}
        job = Job(head, tuple(embeddings), train, validation, seed)
        runtime = Runtime(device=getattr(self, "device", "cpu"))
        data = Embedded(embeddings, labels, len(self.classes_), weights, cell_weights)
        self.head_: FittedHead = fit_jobs([job], data, runtime=runtime)[0]
        self.chosen_ = dict(self.head_.chosen)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """(B, C) class probabilities of (B, D) embeddings, in the order of `classes_`; several labels have one each."""
        blocks = self._checked_blocks(X)
        return self.head_.predict_proba(blocks)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """(B,) most probable labels of (B, D) embeddings; of several (B, L) which have a probability above 0.5."""
        probabilities = self.predict_proba(X)
        if self._indicator_dtype is not None:
            return (probabilities > 0.5).astype(self._indicator_dtype)
        labels: NDArray[Any] = self.classes_[predicted_classes(probabilities, self.chosen_.get("cuts"))]
        return labels

    def __sklearn_tags__(self) -> Tags:
        """A row may have several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _validated(self, X: ArrayLike, y: ArrayLike, cells: NDArray[Any] | None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Features, and labels as they are."""
        how: dict[str, Any] = {"dtype": (np.float64, np.float32), "ensure_all_finite": False}
        if cells is not None:
            return validate_data(self, X, **how), cells
        both: tuple[NDArray[Any], NDArray[Any]] = validate_data(self, X, y, **how)
        return both

    def _head(self) -> Head:
        """The head with its hyper-parameters."""
        raise NotImplementedError

    def _checked_blocks(self, X: ArrayLike) -> list[NDArray[Any]]:
        check_is_fitted(self)
        features = validate_data(self, X, dtype=(np.float64, np.float32), ensure_all_finite=False, reset=False)
        _check_finite(features)
        return _split_columns(features, self.blocks_)


def split_validation(
    labels: NDArray[Any], fraction: float | None, seed: int, units: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows to learn from and rows to choose on, both ascending; see HeadClassifier.

    Args:
        labels: (N,) class indices, or (N, L) of several labels.
        fraction: of each class, in [0, 1); None: 0.
        seed: of the draw.
        units: (N,) integers, equal for rows that stay together; None: every row may be drawn on its own.

    Raises:
        OptionError: if the fraction is out of range.
    """
    fraction = fraction or 0.0
    if not isinstance(fraction, Real) or not 0.0 <= fraction < 1.0:
        raise OptionError(f"validation_fraction {fraction!r} is not possible; it must be from 0 to below 1")
    if labels.ndim == 2:
        return split_rows_of_labels(labels, float(fraction), seed, units)
    if units is None or len(np.unique(units)) == len(units):
        is_validation = _drawn_rows(labels, float(fraction), seed)
    else:
        is_validation = _drawn_units(labels, float(fraction), seed, units)
    if len(np.unique(labels[is_validation])) < 2:
        is_validation[:] = False
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _drawn_rows(labels: NDArray[Any], fraction: float, seed: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng([seed, SPLIT_STREAM])
    is_drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        is_drawn[rows[: min(int(fraction * len(rows) + 0.5), len(rows) - 1)]] = True
    return is_drawn


def _drawn_units(labels: NDArray[Any], fraction: float, seed: int, units: NDArray[Any]) -> NDArray[np.bool_]:
    """Whole units, such that every class is left to learn from."""
    from dvme.study.design.holdout import held_out

    is_drawn = np.zeros(len(labels), dtype=bool)
    only = [np.unique(units[labels == label]) for label in np.unique(labels)]
    rows = np.flatnonzero(~np.isin(units, [own[0] for own in only if len(own) == 1]))
    if not len(rows) or fraction == 0.0:
        return is_drawn
    share = min(fraction * len(labels) / len(rows), 0.5 if fraction <= 0.5 else fraction)
    is_drawn[rows[held_out(labels[rows], units[rows], share, n_folds=1, seed=seed)]] = True
    for label in np.unique(labels):
        if is_drawn[labels == label].all():
            is_drawn[np.isin(units, units[labels == label])] = False
    return is_drawn


def _counting_rows(X: NDArray[Any], sample_weight: ArrayLike | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Rows of weight above 0, and their weights; None where none was given."""
    if sample_weight is None:
        return np.arange(len(X)), None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    rows = np.flatnonzero(weights)
    if not len(rows):
        raise DataError(f"sample_weight is 0 for all {len(X)} rows; give some of them a weight above 0")
    return rows, weights[rows]


def _units(groups: ArrayLike, n_rows: int) -> NDArray[Any]:
    """(N,) integers, equal for rows of one group."""
    from pandas import isna

    from dvme.study.design.splits import units_of

    names = np.asarray(groups, dtype=object)
    if names.shape != (n_rows,):
        raise DataError(f"groups have shape {names.shape} but X has {n_rows} rows; pass one group for each row")
    return units_of(np.array(["" if missing else str(name) for name, missing in zip(names, isna(names), strict=True)]))


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """An integer stands for itself, so that a fit is that of `dvme probe` with the same seed and rows."""
    if random_state is None or hasattr(random_state, "randint"):  # a RandomState, or numpy.random itself
        return int(check_random_state(random_state).randint(2**31 - 1))
    return checked_seed(random_state, "random_state")


def _block_sizes(blocks: Sequence[int] | None, n_columns: int) -> tuple[int, ...]:
    """Columns of each block.

    Raises:
        OptionError: if they are not the columns of X.
    """
    sizes = (n_columns,) if blocks is None else every("blocks", blocks, partial(whole, least=1))
    if sum(sizes) != n_columns:
        message = f"blocks {sizes} sum to {sum(sizes)} columns but X has {n_columns}; pass those of each backbone"
        raise OptionError(message)
    return sizes


def _split_columns(X: NDArray[Any], sizes: Sequence[int]) -> list[NDArray[Any]]:
    """(B, D_m) of each block. Torch warns about arrays that it could not write to, so they are copied."""
    return np.split(np.require(X, requirements="W"), np.cumsum(sizes)[:-1], axis=1)


def _check_finite(X: NDArray[Any]) -> None:
    n_bad = int((~finite_rows(X)).sum())
    if n_bad:
        what = "NaN, infinite values (inf) or values too large for float32"
        raise DataError(f"X has {what} in {n_bad} of {len(X)} rows; leave these rows out")
