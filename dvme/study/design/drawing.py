"""Subsets drawn from labels, splits and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.targets import Targets
from dvme.defaults import NEAR_DUPLICATES, SIZES
from dvme.errors import DataError, parameter
from dvme.notices import Aside
from dvme.seeds import SEEDS
from dvme.study.design.manifest import FoldDraw, SubsetManifest
from dvme.study.design.multilabel import iterative_split, nested_label_order
from dvme.study.design.options import SubsetOptions
from dvme.study.design.orders import nested_order
from dvme.study.design.sizes import FULL, Size, parse_sizes
from dvme.study.design.splits import Fold, make_plan, split_notes, units_of, user_sides
from dvme.text import counted, first_few

POLICY = ("uncertain", "blank")
"""Options that matter for findings alone."""
LEAST_PER_CLASS = 2
"""Validation images per class that even the smallest subset has, where there are as many."""


class Drawing:
    """One drawing: from the targets, splits and groups of N images to a manifest."""

    def __init__(self, options: SubsetOptions, targets: Targets, splits: NDArray[Any], groups: NDArray[Any]) -> None:
        self.options, self.targets, self.splits, self.groups = options, targets, splits, groups
        self.sizes: list[Size] = parse_sizes(options.sizes)
        self.notices: list[str] = []
        self.n_train = 0  # of the smallest fold

    def manifest(self, ids: NDArray[np.uint8], twins: NDArray[Any]) -> SubsetManifest:
        """The whole."""
        test, plan, repeats = self._folds(twins)
        self.n_train = min(len(fold.train) for folds in repeats for fold in folds)
        if tuple(self.options.sizes) == SIZES:  # nobody asked for the larger ones by name
            self.sizes = self._fitting()
        self.sizes = _distinct(self.sizes, self.n_train)
        draws = [
            self.draw(repeat, number, fold)
            for repeat, folds in enumerate(repeats, start=1)
            for number, fold in enumerate(folds, start=1)
        ]
        policy = asdict(self.options) | {"plan": plan, "sizes": list(self.options.sizes)}
        if not self.targets.is_multilabel:  # the policy, and so the hash, is what it was before there were findings
            policy = {key: value for key, value in policy.items() if key not in POLICY} | {"separator": None}
        if policy["near_duplicates"] == NEAR_DUPLICATES:  # likewise, before there was a choice
            del policy["near_duplicates"]
        names = tuple(size.label for size in self.sizes)
        return SubsetManifest(ids, self.targets, names, np.sort(test), tuple(draws), policy)

    def _fitting(self) -> list[Size]:
        """The sizes that a fold has images for; a notice names the others."""
        large = [size for size in self.sizes if size.text.isdigit() and int(size.text) > self.n_train]
        if large:
            which = ", ".join(size.text for size in large)
            has = f"a fold has {self.n_train:,} training images"
            self.notices.append(Aside(f"sizes left out of the usual ones: {which}; {has}"))
        return [size for size in self.sizes if size not in large]

    def counts(self, n_train: int, n_validation: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Training and validation images by size, of those that a fold has."""
        trained = tuple(n_train if size.text == FULL else min(size.of(self.n_train), n_train) for size in self.sizes)
        if self.options.validation == "full":
            return trained, (n_validation,) * len(trained)
        least = LEAST_PER_CLASS * len(self.targets.classes)
        matched = (max(least, -(-n * n_validation // n_train)) for n in trained)
        return trained, tuple(min(n, n_validation) for n in matched)

    def draw(self, repeat: int, number: int, fold: Fold) -> FoldDraw:
        """The orders of one fold's rows.

        Raises:
            DataError: if the fold has no row to train on, or none to choose on.
        """
        if not len(fold.train) or not len(fold.validation):
            raise DataError(
                f"fold {number} has {counted(len(fold.train), 'training image')} and "
                f"{counted(len(fold.validation), 'validation image')}; pass a smaller "
                + parameter("n_folds")
                + ", or keep near-duplicates"
            )
        n_train, n_validation = self.counts(len(fold.train), len(fold.validation))
        parts = []
        for side, (part, sizes) in enumerate(((fold.train, n_train), (fold.validation, n_validation))):
            rng = np.random.default_rng([self.options.seed, repeat, number, side])
            own = self.targets.values[part]
            if self.targets.is_multilabel and self.options.balance != "natural":
                order = nested_label_order(own == 1.0, sizes, rng)
            else:
                order = nested_order(own, self.options.balance, rng)
            parts.append(part[order])
        return FoldDraw(repeat, number, parts[0], parts[1], n_train, n_validation)

    def _folds(self, twins: NDArray[Any]) -> tuple[NDArray[Any], str, list[list[Fold]]]:
        """The test rows, a line about where the split is from, and the folds of every repeat."""
        options = self.options
        if self.targets.is_multilabel:
            return self._multilabel_folds(twins)
        plan = make_plan(
            self.targets.values,
            self.splits,
            self.groups,
            twins=twins,
            classes=self.targets.classes,
            n_folds=options.n_folds,
            test_fraction=options.test_fraction,
            seed=options.seed,
        )
        seeds = [(options.seed + 1000 * repeat) % SEEDS for repeat in range(1, options.n_repeats)]
        repeats = [plan.folds, *(plan.folded_again(seed) for seed in seeds)]
        if len(plan.folds) == 1:
            repeats = [self._drawn_from(folds[0]) for folds in repeats]
        return plan.test, plan.description, repeats

    def _drawn_from(self, fold: Fold) -> list[Fold]:
        """The draws of one validation set: they differ in who trains, not in who is chosen on."""
        n_draws = self.options.n_folds
        notice = Aside(
            f"your val part is the one validation set: {counted(n_draws, 'draw')} of training images, which coincide "
            "at the full size but for the heads' seeds"
        )
        self.notices += [] if notice in self.notices else [notice]
        return [fold] * n_draws

    def _multilabel_folds(self, twins: NDArray[Any]) -> tuple[NDArray[Any], str, list[list[Fold]]]:
        """The same, stratified by all findings at once."""
        options, has_label = self.options, self.targets.values == 1.0
        units = units_of(self.groups, twins)
        rng = np.random.default_rng([options.seed, 0])
        what = ("class of pixels", "classes of pixels") if self.targets.is_segmentation else ("finding", "findings")
        stratified = f"stratified by {counted(len(self.targets.classes), *what)}"
        if (self.splits != MISSING).any():
            train, validation, test = user_sides(self.splits, self.groups)
            notice, rest = split_notes(self.splits)
            if len(validation):
                where = f"your split: train {len(train):,}, val {len(validation):,}, test {len(test):,}{rest}"
                return test, where, [self._drawn_from(Fold(train, validation))] * options.n_repeats
            where = f"your split: test {len(test):,}{notice}, {options.n_folds} folds of train {len(train):,}"
            pool, where = train, f"{where}: {stratified}{rest}"
        else:
            _check_units(units, options.n_folds + 1, f"{options.n_folds} folds and a part for testing")
            shares = [1.0 - options.test_fraction, options.test_fraction]
            part = iterative_split(has_label, units, shares, rng)
            pool, test = np.flatnonzero(part == 0), np.flatnonzero(part == 1)
            grouped = ", grouped" if (self.groups != MISSING).any() else ""
            where = f"held out {len(test):,} of {len(units):,} for testing"
            where = f"{where}, {options.n_folds} folds of the other {len(pool):,}: {stratified}{grouped}"
        _check_units(units[pool], options.n_folds, f"{options.n_folds} folds")
        repeats = []
        for repeat in range(options.n_repeats):
            rng = np.random.default_rng([options.seed, 1 + repeat])
            shares = [1.0 / options.n_folds] * options.n_folds
            part = iterative_split(has_label[pool], units[pool], shares, rng)
            repeats.append([Fold(pool[part != fold], pool[part == fold]) for fold in range(options.n_folds)])
        return test, f"{where}, seed {options.seed}", repeats


def _check_units(units: NDArray[Any], needed: int, what: str) -> None:
    """Refuse fewer images, or groups of them, than there are sides."""
    n_units = len(np.unique(units))
    if n_units < needed:
        groups = f" of {counted(n_units, 'group')}" if n_units < len(units) else ""
        few = f"{counted(len(units), 'image')}{groups}, too few for {what}, which need {needed}"
        raise DataError(f"{few}; pass a smaller " + parameter("n_folds") + ", or label more images")


def lacking_notices(manifest: SubsetManifest) -> list[str]:
    """Lines about sizes that cannot be balanced, or that lack a class. `full` is all there are, balanced or not."""
    uneven, lacking = [], []
    classes, is_multilabel = manifest.classes, manifest.targets.is_multilabel
    is_balanced = manifest.policy.get("balance") == "balanced" and not is_multilabel
    for size, name in enumerate(manifest.sizes):
        counts = [manifest.targets.counts(manifest.train(draw, size)) for draw in manifest.draws]
        # Of the draw in which the classes are the least alike.
        least, most, rare = max(
            ((int(own.min()), int(own.max()), int(own.argmin())) for own in counts),
            key=lambda found: (found[0] == 0, found[1] - found[0]),
        )
        if least == 0:
            lacking.append(f"{name} ({classes[rare]!r})")
        elif most - least > 1 and is_balanced and all(draw.n_train[size] < len(draw.train) for draw in manifest.draws):
            uneven.append(f"{name} (from {least} of {classes[rare]!r} to {most})")
    lines = list[str]()
    if uneven:
        which = ", ".join(uneven)
        what = f"not all classes have enough images for a balanced subset of {which}"
        lines.append(Aside(f"{what}: all that there are were taken"))
    if lacking:
        is_finding = is_multilabel and not manifest.targets.is_segmentation
        what = "finding" if is_finding else "class"
        lines.append(f"a {what} is missing in some draw of size {first_few(lacking)}")
    return lines


def _distinct(sizes: Sequence[Size], n_train: int) -> list[Size]:
    """Ascending, each number of images once; `full` wins, for it is more in a larger fold, then a paper's name."""
    by_count: dict[int, Size] = {}
    for size in sorted(sizes, key=lambda size: (size.text != FULL, not size.subtask)):
        by_count.setdefault(size.of(n_train), size)
    return [by_count[count] for count in sorted(by_count)]
