"""What a manifest and a cache have to agree on: images, labels, sides, and the order of the classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dvme.data.findings import joined
from dvme.data.order import class_order, order_text
from dvme.data.targets import Targets
from dvme.data.uncertainty import Uncertainty
from dvme.errors import DataError, parameter
from dvme.study.design.drawing import POLICY
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.splits import check_sides
from dvme.text import counted, first_few


def matched(snapshot: Snapshot, manifest: SubsetManifest, path: str) -> tuple[SubsetManifest, Snapshot, list[str]]:
    """A manifest, the snapshot of its images in its order, and lines on what differs without harm.

    The manifest's order of classes is what a run goes by. Where the cache has the same, it is known from now on that
    the order means something.

    Args:
        snapshot: of a cache.
        manifest: of this or another lab.
        path: of the manifest, for messages.

    Raises:
        DataError: if images are missing, have other labels, or share a patient across its sides.
    """
    snapshot = snapshot.at(_positions(snapshot, manifest, path))
    if manifest.targets.is_segmentation != snapshot.is_segmentation:
        one, other = ("masks", "labels") if manifest.targets.is_segmentation else ("labels", "masks")
        step = "; draw subsets of this cache, with or without " + parameter("masks", True)
        raise DataError(f"{path} is of {one}, and this study is of {other}" + step)
    if snapshot.is_segmentation:
        return manifest, snapshot, _same_masks(snapshot, manifest, path)
    labels, separator = snapshot.labels, manifest.policy.get("separator")
    if separator is not None:  # as the subsets of an older dvme say, whose caches had labels as they were
        split = ([part.strip() for part in label.split(separator) if part.strip()] for label in labels.tolist())
        labels = np.array([joined(list(dict.fromkeys(parts))) for parts in split], dtype=object)
    policy = {name: manifest.policy[name] for name in POLICY if name in manifest.policy}
    own = Targets.of(labels, manifest.classes if manifest.targets.is_multilabel else (), Uncertainty(**policy))
    differing = manifest.targets.differing(own)
    if len(differing):
        raise DataError(
            f"{counted(len(differing), 'image')} of {path} have another label in {snapshot.location} "
            f"({first_few(snapshot.paths[differing])}); label the cache as the study did, or draw new subsets"
        )
    for draw in manifest.draws:
        check_sides(snapshot.groups, {"test": manifest.test, "train": draw.train, "val": draw.validation})
    given = snapshot.class_order
    order = tuple(sorted(manifest.classes, key=class_order(manifest.classes, given)))
    if order == manifest.classes:
        is_given = manifest.targets.is_order_given or set(order) <= set(given)
        return replace(manifest, targets=replace(manifest.targets, is_order_given=is_given)), snapshot, []
    theirs = f"{path} has its classes in the order {order_text(manifest.classes)}, {snapshot.location} has"
    line = f"{theirs} {order_text(order)}: this run goes by the former; draw new subsets for the latter"
    return manifest, snapshot, [line]


def _same_masks(snapshot: Snapshot, manifest: SubsetManifest, path: str) -> list[str]:
    """Nothing to say where the masks are those of the manifest.

    Raises:
        DataError: if some are others.
    """
    assert manifest.targets.masks is not None
    differing = np.flatnonzero((manifest.targets.masks != snapshot.masks.ids).any(axis=1))
    if len(differing):
        raise DataError(
            f"{counted(len(differing), 'image')} of {path} have another mask in {snapshot.location} "
            f"({first_few(snapshot.paths[differing])}); label the cache as the study did, or draw new subsets"
        )
    for draw in manifest.draws:
        check_sides(snapshot.groups, {"test": manifest.test, "train": draw.train, "val": draw.validation})
    return []


def _positions(snapshot: Snapshot, manifest: SubsetManifest, path: str) -> NDArray[np.int64]:
    """(N,) of the manifest's images in a snapshot."""
    known = {identity.tobytes(): position for position, identity in enumerate(snapshot.ids)}
    found = [known.get(identity.tobytes()) for identity in manifest.images]
    n_missing = sum(position is None for position in found)
    if n_missing:
        raise DataError(
            f"{n_missing} of the {len(found):,} images of {path} are not in {snapshot.location} with a label and every "
            "embedding; extract them first, or draw subsets of this cache"
        )
    return np.array(found, dtype=np.int64)
