"""Who trains, who chooses, who tests: by the user's split, or seeded, stratified and grouped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.spelling import is_clear, number_twins
from dvme.defaults import N_FOLDS, SEED, TEST_FRACTION
from dvme.errors import DataError, Text, parameter
from dvme.study.design.holdout import held_out
from dvme.study.design.stratified import stratified_folds
from dvme.text import counted, some_of

FOLDS = parameter("n_folds")
MET = 0.15
"""A part this far from the fraction, in units of it, is what was asked for."""


@dataclass(frozen=True)
class Fold:
    """Rows to train on and rows to choose on."""

    train: NDArray[Any]
    validation: NDArray[Any]


@dataclass(frozen=True)
class _Rows:
    """What is split."""

    labels: NDArray[Any]
    """(N,) class indices."""
    apart: NDArray[Any]
    """(N,) groups by number, as they would be if no two rows were twins."""
    units: NDArray[Any]
    """(N,) integers, equal for rows that stay together."""
    classes: tuple[str, ...]

    def at(self, rows: NDArray[Any]) -> _Rows:
        """Some of them."""
        return _Rows(self.labels[rows], self.apart[rows], self.units[rows], self.classes)


@dataclass(frozen=True)
class Plan:
    """One test set, never looked at before the end, and the folds of everything else."""

    test: NDArray[Any]
    folds: list[Fold]
    description: str
    """One line that says where the split comes from."""
    rows: _Rows
    """What was split."""

    def folded_again(self, seed: int) -> list[Fold]:
        """Other folds of the training pool, by another seed; its one validation set, if it has that, stays.

        Raises:
            DataError: if a class is too small.
        """
        if len(self.folds) == 1:
            return self.folds
        pool = np.sort(np.concatenate([self.folds[0].train, self.folds[0].validation]))
        return _folds(pool, self.rows, len(self.folds), seed)


def make_plan(
    labels: NDArray[Any],
    splits: NDArray[Any],
    groups: NDArray[Any],
    *,
    twins: NDArray[Any] | None = None,
    classes: tuple[str, ...],
    n_folds: int = N_FOLDS,
    test_fraction: float = TEST_FRACTION,
    seed: int = SEED,
) -> Plan:
    """Split labelled rows.

    With a user split, `test` is the test set (`val`, where there is no `test`), and `train` is folded,
    unless `val` besides `test` serves as the one validation set. Without, a stratified part is held out
    for testing and the rest is folded. Rows of one group never are on two sides.

    Args:
        labels: (N,) class indices, none missing.
        splits: (N,) `train`, `val`, `test`, or "" everywhere.
        groups: (N,) group names, "" where a row is a group of its own.
        twins: (N,) integers, equal for images that are the same picture; never on two sides of a seeded split,
            nor of the folds that are made of the user's training rows.
        classes: names, for messages.
        n_folds: folds of the training pool.
        test_fraction: part held out, as nearly as whole groups allow.
        seed: of the shuffling.

    Returns:
        A plan over positions 0..N-1.

    Raises:
        DataError: if a class is too small, or a group is on both sides of the user's split.
    """
    every = _Rows(labels, units_of(groups), units_of(groups, twins), classes)
    units = every.units
    if (splits != MISSING).any():
        return _user_plan(every, splits, user_sides(splits, groups), n_folds, seed)
    _check_counts(every, n_folds + 1, f"{n_folds} folds and a part for testing")
    test = held_out(labels, units, test_fraction, n_folds=n_folds, seed=seed)
    pool = np.setdiff1d(np.arange(len(labels)), test)
    folds = _folds(pool, every, n_folds, seed, FOLDS + " or " + parameter("test_fraction"))
    parts = {"test": test}
    for number, fold in enumerate(folds, start=1):
        parts |= {f"fold {number}'s training": fold.train, f"fold {number}'s validation": fold.validation}
    step = "try another " + parameter("seed") + ", fewer " + FOLDS + " or a larger " + parameter("test_fraction")
    _check_classes(parts, every, step)
    grouped = ", grouped" if (groups != MISSING).any() else ""
    held = f"held out {len(test):,} of {len(labels):,} for testing{_why_another(every, len(test), test_fraction)}"
    described = f"{held}, {n_folds} folds of the other {len(pool):,}: stratified{grouped}, seed {seed}"
    return Plan(test, folds, described, every)


def user_sides(splits: NDArray[Any], groups: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows to train on, to choose on, which may be none, and to test on: `val`, where there is no `test`.

    Raises:
        DataError: if rows to train or to test on are missing, or a group is on two sides.
    """
    sides = {name: np.flatnonzero(splits == name) for name in ("train", "val", "test")}
    check_sides(groups, sides)
    train, validation, test = sides.values()
    if not len(test):
        test, validation = validation, validation[:0]
    if not len(train) or not len(test):
        found = ", ".join(f"{name} {count}" for name, count in sorted(Counter(splits.tolist()).items()) if name)
        raise DataError(f"the split has {found or 'no rows'}; it needs labelled train rows, and test or val rows")
    return train, validation, test


def split_notes(splits: NDArray[Any]) -> tuple[str, str]:
    """What to say of a user's split that has no test part, and of rows that are on none of its sides."""
    notice = "" if (splits == "test").any() else " (the split has no test part: its val part is the test set)"
    left_out = int((splits == MISSING).sum())
    return notice, f"; {left_out} rows without a split left out" if left_out else ""


def check_sides(groups: NDArray[Any], sides: dict[str, NDArray[Any]]) -> None:
    """Refuse a group that is on two sides.

    Args:
        groups: (N,) names, "" where a row is a group of its own.
        sides: rows by the name of the side.

    Raises:
        DataError: naming the sides.
    """
    units = units_of(groups)
    for first, second in combinations(sides, 2):
        shared = np.intersect1d(units[sides[first]], units[sides[second]])
        if len(shared):
            raise DataError(
                f"{len(shared)} groups are in both {first} and {second}: a leak; mend the split or the group column"
            )


def units_of(groups: NDArray[Any], twins: NDArray[Any] | None = None) -> NDArray[Any]:
    """What must be on one side of a split: a group, a row without one, and whatever is one picture with either.

    A whole number that is written in two ways, such as 12 and 12.0, is one group.

    Args:
        groups: (N,) names, "" where a row is a group of its own.
        twins: (N,) integers, equal for images that are the same picture.

    Returns:
        (N,) integers.
    """
    one_of = {other: one for one, other in number_twins(groups.tolist()) if is_clear(one, other)}
    names = [one_of.get(name, name) or f"\0{row}" for row, name in enumerate(groups.tolist())]
    units: NDArray[Any] = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1]
    return units if twins is None else _merged(units, twins)


def groups_to_resample(groups: NDArray[Any]) -> NDArray[Any] | None:
    """(N,) units that are drawn whole; None where no row has a group, and rows are drawn."""
    return units_of(groups) if (groups != MISSING).any() else None


def _why_another(rows: _Rows, n_test: int, test_fraction: float) -> str:
    """Why the test part is not as large as it was asked to be; "" where it is."""
    n = len(rows.labels)
    if abs(n_test / n / test_fraction - 1.0) <= MET or abs(n_test - test_fraction * n) < 1.0:
        return ""
    largest = int(np.unique(rows.units, return_counts=True)[1].max())
    whole = f" and groups of up to {largest:,} images stay whole" if largest > 1 else ""
    return f", not a part of {test_fraction:g}, as every class is to be on both sides{whole}"


def _user_plan(
    rows: _Rows, splits: NDArray[Any], sides: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], n_folds: int, seed: int
) -> Plan:
    train, validation, test = sides
    notice, rest = split_notes(splits)
    parts = {"train": train, "test": test, **({"val": validation} if len(validation) else {})}
    _check_classes(parts, rows, "add some, or leave the class out")
    if len(validation):
        folds = [Fold(train, validation)]
        described = f"your split: train {len(train):,}, val {len(validation):,}, test {len(test):,}{rest}"
    else:
        folds = _folds(train, rows, n_folds, seed)
        described = f"your split: test {len(test):,}{notice}, {n_folds} stratified folds of train {len(train):,}{rest}"
    return Plan(test, folds, described, rows)


def _folds(pool: NDArray[Any], rows: _Rows, n_folds: int, seed: int, options: Text = FOLDS) -> list[Fold]:
    """Of some rows: stratified, and of whole units where rows share one."""
    own = rows.at(pool)
    _check_counts(own, n_folds, f"{n_folds} folds, once the test set is held out,", options)
    if len(np.unique(own.units)) == len(pool):
        held = stratified_folds(own.labels, n_folds, seed)
        return [Fold(pool[held != fold], pool[held == fold]) for fold in range(n_folds)]
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    return [Fold(pool[rest], pool[part]) for rest, part in splitter.split(pool, own.labels, own.units)]


def _merged(units: NDArray[Any], twins: NDArray[Any]) -> NDArray[Any]:
    """(N,) integers: equal for rows that a chain of shared units and twins connects."""
    if len(np.unique(twins)) == len(twins):
        return units
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_units = int(units.max()) + 1
    size = n_units + int(twins.max()) + 1
    links = coo_array((np.ones(len(units)), (units, n_units + twins)), shape=(size, size))
    component = connected_components(links, directed=False)[1]
    merged: NDArray[Any] = component[units]
    return merged


def _check_classes(parts: dict[str, NDArray[Any]], rows: _Rows, step: str) -> None:
    """Refuse a part without some class: neither its scores nor a ranking by them would mean anything."""
    for part, own in parts.items():
        lacking = [name for index, name in enumerate(rows.classes) if index not in rows.labels[own]]
        if lacking:
            raise DataError(
                f"the {part} part has no image of class {some_of([repr(name) for name in lacking])}; " + step
            )


def _check_counts(rows: _Rows, needed: int, what: str, options: Text = FOLDS) -> None:
    for index, name in enumerate(rows.classes):
        own = rows.at(np.flatnonzero(rows.labels == index))
        n, n_apart, n_units = len(own.labels), len(np.unique(own.apart)), len(np.unique(own.units))
        if n_units >= needed:
            continue
        groups = f" of {counted(n_apart, 'group')}" if n_apart < n else ""
        few = f"class {name!r} has {counted(n, 'image')}{groups}"
        if n_apart >= needed:  # it is not the user's groups that are too few
            raise DataError(
                f"{few}, but embeddings that are identical in every backbone count as one picture, which leaves "
                f"{n_units}: too few for {what} which need {needed}; dvme cache verify looks for damage, dvme extract "
                "--replace makes them anew"
            )
        raise DataError(
            f"{few}, too few for {what} which need {needed}; pass a smaller " + options + ", or leave the class out"
        )
