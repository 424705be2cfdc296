"""An export back into a cache: everything comes back as it was."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path

from dvme.data import MISSING
from dvme.data.columns import check_names
from dvme.data.order import CLASS_ORDER, order_text
from dvme.files import reading
from dvme.runtime import Progress
from dvme.upkeep.columns import check_order, fill_columns
from dvme.upkeep.formats import read_bundle
from dvme.upkeep.formats.bundle import Bundle
from dvme.upkeep.formats.checks import checked_blocks
from dvme.upkeep.imported import ImportReport, check_backbones, kept_remark, origin, store_embeddings
from dvme_cache import EmbeddingCache


def restore(
    path: Path,
    cache: str | Path,
    *,
    class_order: Sequence[str] | None,
    notes: Mapping[str, str] | None,
    replace: bool,
    progress: Progress,
) -> ImportReport:
    """Merge an export into a cache, or make a cache of it.

    Rows are found by content id. Rows that the cache has keep their columns; rows that have features keep them. The
    export's order of classes comes along where the cache has no label.

    Raises:
        DataError, FingerprintMismatchError: before the cache is touched.
    """
    bundle = read_bundle(path)
    _check(bundle, path, progress)
    imported = origin(path, notes)
    backbones = [changed(item, provenance=item.provenance | {"imported": imported}) for item in bundle.header.backbones]
    store = EmbeddingCache.open(cache) if EmbeddingCache.exists(cache) else None
    if store is not None and not replace:
        check_backbones(store, backbones, path)
    has_labels = store is not None and bool((store.column("label") != MISSING).any())
    is_its_own = class_order is None and bool(bundle.header.class_order) and not has_labels
    order = bundle.header.class_order if is_its_own else class_order
    check_order(store, bundle.columns, order, str(path) if is_its_own else CLASS_ORDER)
    with EmbeddingCache.writing(cache) as store:
        n_before = store.n_rows
        rows = store.samples.add([digest.tobytes() for digest in bundle.content_ids], bundle.paths.tolist())
        n_kept = fill_columns(store, rows, bundle.columns, n_before, order)
        outcomes = [
            store_embeddings(store, item, bundle.embeddings[item.name], rows, replace=replace, progress=progress)
            for item in backbones
        ]
        n_new = store.n_rows - n_before
        kept_order = store.class_order
    remarks = [kept_remark(n_kept)] if n_kept else []
    if bundle.header.class_order not in ((), kept_order):
        remarks.append(f"the file's order of classes ({order_text(bundle.header.class_order)}) is not the cache's")
    return ImportReport(os.fspath(cache), str(path), True, bundle.header.n_rows, n_new, outcomes, remarks)


def _check(bundle: Bundle, path: Path, progress: Progress) -> None:
    """Read the file to its end before anything is written."""
    check_names(bundle.header.columns, source=str(path))
    check_names([backbone.name for backbone in bundle.header.backbones], source=str(path), what="backbones")
    for backbone in bundle.header.backbones:
        with reading(path):
            done = 0
            for block in checked_blocks(bundle, backbone):
                done += len(block)
                progress(f"check {backbone.name}", done, bundle.header.n_rows)
