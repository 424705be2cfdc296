"""`dvme subsets`: draw the subsets of a study from a cache, and write them down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dvme.arguments import public
from dvme.data import MISSING
from dvme.data.findings import parsed
from dvme.data.targets import Targets
from dvme.data.uncertainty import Uncertainty
from dvme.defaults import UNCERTAIN
from dvme.errors import OptionError, parameter
from dvme.files import check_destination
from dvme.places import open_cache
from dvme.runtime import Progress, automatic, silent
from dvme.shown.result import Shown
from dvme.study.design.drawing import Drawing, lacking_notices
from dvme.study.design.duplicates import across_splits, describe, listed, without_duplicates
from dvme.study.design.inspection import Inspection, Seen
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.matching import matched
from dvme.study.design.named import dense_backbones, named_backbones
from dvme.study.design.options import SubsetOptions
from dvme.study.design.snapshot import Snapshot


@dataclass(frozen=True, repr=False)
class SubsetReport(Shown):
    """The outcome of `dvme subsets`; `to_frame()` has a row for each draw and size."""

    manifest: SubsetManifest
    path: str | None
    """Where it was written."""
    n_left_out: dict[str, int]
    """Rows that take no part, by reason."""
    notices: list[str] = field(default_factory=list)
    """The manifest's, and what is of this cache alone."""
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    """Near-duplicates on two sides, as they are before any is dropped."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        manifest = self.manifest
        return {
            "path": self.path,
            "hash": manifest.hash,
            "policy": dict(manifest.policy),
            "classes": list(manifest.classes),
            "n_images": len(manifest.images),
            "n_test": len(manifest.test),
            "sizes": [
                {"size": name, "n_train": draw.n_train[index], "n_validation": draw.n_validation[index]}
                for draw in manifest.draws[:1]
                for index, name in enumerate(manifest.sizes)
            ],
            "n_draws": len(manifest.draws),
            "notices": self.notices,
            "n_left_out": self.n_left_out,
            "duplicates": self.duplicates,
        }

    def _lines(self) -> list[str]:
        written = [] if self.path is None else [f"written to {self.path}"]
        return [self.manifest.summary, *written]

    def _records(self) -> list[dict[str, Any]]:
        return self.manifest.counts


@public
def subsets(
    cache: str | Path,
    out: str | Path | None = None,
    *,
    options: SubsetOptions | None = None,
    backbones: Sequence[str] | None = None,
    masks: bool = False,
    force: bool = False,
    progress: Progress = automatic,
) -> SubsetReport:
    """Draw nested training subsets, their validation images and one test set, and look for near-duplicates.

    Args:
        cache: path of a cache.
        out: file to write, or None.
        options: how to draw.
        backbones: images that lack an embedding of one of these take no part; None: all of the cache.
        masks: draw of the images that have a mask and dense features, for a segmentation.
        force: whether a file that is there is replaced.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, CacheError: each says what is wrong and what to do.

    Example:
        >>> drawn = dvme.subsets("my.zarr", "subsets.json", options={"sizes": "8,full", "n_folds": 2})
        >>> drawn.manifest.sizes
        ('8', 'full')
    """
    if out is not None:
        check_destination(out, (), force=force)
    store = open_cache(cache)
    names = (dense_backbones if masks else named_backbones)(store, backbones)
    snapshot = Snapshot.take(store, names, is_segmentation=masks)
    design = draw_design(snapshot, options or SubsetOptions(), progress)
    if out is not None:
        design.subsets.save(out)
    snapshot, path = design.snapshot, None if out is None else os.fspath(out)
    notices = [*design.notices, *snapshot.notices]
    return SubsetReport(design.subsets, path, dict(snapshot.left_out), notices, design.duplicates)


@dataclass(frozen=True)
class Design:
    """Who takes part in a study, trains, chooses and tests."""

    snapshot: Snapshot
    """In the order of the manifest's images."""
    subsets: SubsetManifest
    notices: list[str]
    """The manifest's, and what is of this cache alone."""
    duplicates: list[dict[str, Any]]
    """Near-duplicates on two sides, as they are before any is dropped."""
    seen: Seen
    """What the embeddings say of the images."""

    def keep(self, path: Path) -> None:
        """Leave a file for `inspect`, so that the same embeddings are not compared again.

        Not of a backbone that tells nothing apart: its embeddings are to be made anew, by the same fingerprint.
        """
        if not self.seen.constant:
            self.seen.save(path, self.snapshot.key)


def draw_design(
    snapshot: Snapshot,
    options: SubsetOptions,
    progress: Progress = silent,
    *,
    needs_order: bool = False,
    kept: Path | None = None,
) -> Design:
    """Draw subsets of a snapshot.

    Args:
        snapshot: who takes part.
        options: how to draw.
        progress: told (stage, done, total).
        needs_order: whether the study judges by the order of the classes.
        kept: see `inspect`.

    Raises:
        DataError: if its labels, splits and groups do not allow it.
        OptionError: if an order is needed, and nobody gave one.
    """
    targets = snapshot.targets(options.uncertainty)
    if needs_order and not targets.is_multilabel:
        targets.task.check_ordered(snapshot.location)
    lines = policy_lines(snapshot, targets, options.uncertainty)
    drawing = Drawing(options, targets, snapshot.splits, snapshot.groups)
    seen = inspect(snapshot, kept, progress, exact=options.near_duplicates == "exact")
    manifest = drawing.manifest(snapshot.ids, seen.twins)
    found = across_splits(manifest, seen.similar)
    are_dropped = options.drop_duplicates
    lines += describe(found, snapshot.paths, seen.blind, are_dropped=are_dropped, approximate=seen.similar.notices)
    if options.drop_duplicates and (found or seen.similar.approximate):
        manifest = without_duplicates(manifest, seen.similar, drawing.draw)
    notices = [*drawing.notices, *lacking_notices(manifest), *_copies(snapshot, seen), *seen.constant.values(), *lines]
    manifest = replace(manifest, notices=tuple(notices))
    return Design(snapshot, manifest, notices, listed(found, snapshot.paths), seen)


def load_design(
    snapshot: Snapshot,
    path: str | Path,
    progress: Progress = silent,
    *,
    needs_order: bool = False,
    kept: Path | None = None,
) -> Design:
    """Find the images of a subset file in a snapshot.

    Args:
        snapshot: of everybody who may take part.
        path: of the file.
        progress: told (stage, done, total).
        needs_order: whether the study judges by the order of the classes.
        kept: see `inspect`.

    Raises:
        DataError: if the file is no manifest, or images are missing, have other labels, or share a patient across
            its sides.
        OptionError: if an order is needed, and nobody gave one.
    """
    manifest, snapshot, lines = matched(snapshot, SubsetManifest.load(path), str(path))
    if needs_order and not manifest.targets.is_multilabel and not manifest.targets.task.is_ordered:
        if lines and snapshot.class_order:
            raise OptionError(f"quadratic kappa depends on the order of the classes: {lines[0]}")
        manifest.targets.task.check_ordered(snapshot.location)
    seen = inspect(snapshot, kept, progress, exact=manifest.policy.get("near_duplicates") == "exact")
    found = across_splits(manifest, seen.similar)
    lines += [*seen.constant.values(), *describe(found, snapshot.paths, seen.blind, approximate=seen.similar.notices)]
    notices = list(dict.fromkeys([*manifest.notices, *lines]))
    return Design(snapshot, manifest, notices, listed(found, snapshot.paths), seen)


def inspect(snapshot: Snapshot, kept: Path | None = None, progress: Progress = silent, *, exact: bool = False) -> Seen:
    """Look at every embedding of a snapshot, or at what was kept of that.

    Args:
        snapshot: N images.
        kept: a file that an earlier look may have left, see `Design.keep`.
        progress: told (stage, done, total).
        exact: whether all near-duplicates are looked for, however many images there are.
    """
    seen = None if kept is None else Seen.load(kept, snapshot.key)
    if seen is not None and not (exact and seen.similar.approximate):
        return seen
    inspection, names = Inspection(exact=exact), list(snapshot.backbones)
    for done, name in enumerate(names):
        progress("compare images", done, len(names))
        inspection.add(name, snapshot.read(name))
    progress("compare images", len(names), len(names))
    return inspection.found()


def policy_lines(snapshot: Snapshot, targets: Targets, policy: Uncertainty) -> list[str]:
    """What is made of findings that are uncertain or unknown.

    Raises:
        OptionError: if a policy is given for images that have one class each.
    """
    if snapshot.is_segmentation:
        return []
    if targets.is_multilabel:
        return policy.said_of(parsed(snapshot.labels, targets.classes))
    if policy != Uncertainty():
        option = parameter("uncertain") if policy.uncertain != UNCERTAIN else parameter("blank")
        raise OptionError(
            f"the images of {snapshot.location} have one class each, and none of them is uncertain; leave out " + option
        )
    return []


def _copies(snapshot: Snapshot, seen: Seen) -> list[str]:
    """A line where images show the same picture; across a user's split they are near-duplicates, called a leak."""
    n_copies = len(seen.twins) - len(set(seen.twins.tolist()))
    if not n_copies or (snapshot.splits != MISSING).any():
        return []
    show = "image shows" if n_copies == 1 else "images show"
    return [f"{n_copies:,} {show} the same picture as another file (kept on one side)"]
