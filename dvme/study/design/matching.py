"""What a manifest and a cache have to agree on: images, labels, sides, and the order of the classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Task
from dvme.data.names import names_of_rows
from dvme.data.order import class_order, order_text
from dvme.errors import DataError, OptionError
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.splits import check_sides
from dvme.text import counted, first_few
from dvme_cache import EmbeddingCache


def rows_of(store: EmbeddingCache, manifest: SubsetManifest, usable: NDArray[Any], path: str) -> NDArray[Any]:
    """The cache's rows of a manifest's images, in its order.

    Args:
        store: the cache.
        manifest: of this or another lab.
        usable: rows with a label and all embeddings.
        path: of the manifest, for messages.

    Raises:
        DataError: if images are missing, have other labels, or share a patient across its sides.
    """
    row_of = {bytes(content): row for row, content in zip(usable.tolist(), store.samples.ids[usable], strict=True)}
    found = [row_of.get(bytes(content)) for content in manifest.images]
    n_missing = sum(row is None for row in found)
    if n_missing:
        raise DataError(
            f"{n_missing} of the {len(found):,} images of {path} are not in {store.location} with a label and every "
            "embedding; extract them first, or draw subsets of this cache"
        )
    rows = np.array(found, dtype=np.int64)
    columns = store.columns(["label", "group"])
    own = columns["label"][rows]
    expected = [{manifest.classes[index] for index in indices} for indices in manifest.labels]
    separator = manifest.policy.get("separator")
    actual = [{part.strip() for part in str(text).split(separator)} if separator else {str(text)} for text in own]
    differing = [i for i, (one, other) in enumerate(zip(expected, actual, strict=True)) if one != other - {MISSING}]
    if differing:
        raise DataError(
            f"{counted(len(differing), 'image')} of {path} have another label in {store.location} "
            f"({first_few(names_of_rows(store, rows[differing]))}); label the cache as the study did, or draw new "
            "subsets"
        )
    for draw in manifest.draws:
        sides = {"test": manifest.test, "train": draw.train, "val": draw.validation}
        check_sides(columns["group"][rows], sides)
    return rows


def ordered(store: EmbeddingCache, manifest: SubsetManifest, path: str) -> tuple[SubsetManifest, list[str]]:
    """The manifest, whose order of classes is what a run goes by; a line where this cache has another one.

    Where the cache has the same, it is known from now on that the order means something.
    """
    own = tuple(sorted(manifest.classes, key=class_order(manifest.classes, store.class_order)))
    if own == manifest.classes:
        return replace(manifest, is_order_given=manifest.is_order_given or set(own) <= set(store.class_order)), []
    theirs = f"{path} has its classes in the order {order_text(manifest.classes)}, {store.location} has"
    return manifest, [f"{theirs} {order_text(own)}: this run goes by the former; draw new subsets for the latter"]


def check_ordered(store: EmbeddingCache, usable: NDArray[Any], subsets: str | Path | None) -> None:
    """Refuse verdicts by kappa where the order of the classes was assumed, before anything takes long."""
    if subsets is None:
        Task.from_labels(store.column("label")[usable], store.class_order).check_ordered(store.location)
        return
    manifest, another = ordered(store, SubsetManifest.load(subsets), str(subsets))
    if manifest.is_multilabel or manifest.task.is_ordered:
        return
    if another and store.class_order:
        raise OptionError(f"quadratic kappa depends on the order of the classes: {another[0]}")
    manifest.task.check_ordered(store.location)
