"""`dvme cache label`: change labels, splits and groups without touching an embedding."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data import MISSING, Columns, Task
from dvme.data.columns import chosen_column, kept_columns, read_labels
from dvme.data.findings import are_findings, from_separated
from dvme.data.manifest import columns_line, image_names, known_columns, unnamed_columns
from dvme.data.masks.cell import check_kinds, what_is_shown
from dvme.data.masks.reading import Told, joined_rows, mask_columns, read_masks, told_masks
from dvme.data.merging import Merged, merged_labels, rows_to_write
from dvme.data.order import checked_order
from dvme.data.samples import MASK, STANDARD
from dvme.data.sources import is_there
from dvme.data.spelling import check_spelling
from dvme.data.tables import check_table_name, read_table, table_file
from dvme.errors import DataError, OptionError, parameter
from dvme.places import check_cache_first, open_cache
from dvme.runtime import Progress, automatic
from dvme.shown.result import Shown
from dvme.text import CHOICES, counted, first_few
from dvme.upkeep.columns import canonical_splits
from dvme.upkeep.naming import check_distinct, rows_by_name
from dvme_cache import EmbeddingCache, check_unlocked


@dataclass(frozen=True, repr=False)
class LabelReport(Shown):
    """What a manifest changed; `to_frame()` has a row for each column, with `n_changed` of its values."""

    cache: str
    manifest: str | None
    """None where only the order of the classes was given."""
    n_rows: int
    """Rows that the manifest names; without one, that have a label which was read anew."""
    n_changed: dict[str, int]
    """Column to the number of rows whose value is another than before."""
    n_changed_findings: dict[str, int]
    """Finding to the number of rows of which something else is known now; findings without such a row are left out."""
    n_untouched: int
    """Rows that the manifest does not name; they keep what they have."""
    task: Task
    """What the labels define now."""
    class_order: tuple[str, ...]
    """The user's, which may have classes without an image, or the findings of the cache; () without either."""
    remarks: list[str] = field(default_factory=list)
    """Which columns were used, and what is odd about their values, a line each."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}

    def _lines(self) -> list[str]:
        rows = counted(self.n_rows, "row")
        changed = [f"{name}: {count:,} changed" for name, count in self.n_changed.items()]
        return [f"{rows} of {self.cache} labelled, {self.n_untouched:,} untouched", self.task.describe(), *changed]

    def _records(self) -> list[dict[str, Any]]:
        return [{"column": name, "n_changed": count} for name, count in self.n_changed.items()]


@public
def label(
    cache: str | Path,
    manifest: str | Path | None = None,
    *,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    class_order: Sequence[str] | None = None,
    progress: Progress = automatic,
) -> LabelReport:
    """Set label, split, group and further columns of the rows that a manifest names, and the order of the classes.

    No image needs to be there. A column that the manifest lacks is left alone, an empty cell makes a value
    missing, and rows that the manifest does not name keep what they have. Of findings that are no columns of the
    manifest every row keeps what it has; they are unknown where it has no label.

    Args:
        cache: the cache's location.
        manifest: a table with a row per image; None where only the order is to change, or where the
            classes that the cache has are findings with a separator between them: `Effusion|Mass`.
        columns: the manifest's columns, and which further ones to keep. Without a manifest only `label_separator` and
            `no_finding`.
        image_root: where relative paths start; the manifest's folder by default.
        class_order: all labels, the lowest first; () takes the cache's order away, None keeps it.
        progress: told (`masks`, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError: if the manifest cannot be used as it is, or the order lacks a label; the cache is unchanged.
        OptionError: if there is nothing to do.
        CacheNotFoundError, NotACacheError, CacheLockedError: if the cache cannot be written.

    Example:
        >>> report = dvme.cache.label("my.zarr", "labels.csv")
        >>> report.n_changed
        {'label': 0}
    """
    columns = columns or Columns()
    if manifest is None and class_order is None and columns.label_separator is None:
        message = f"nothing to change in {cache}; name a manifest of labels, or pass "
        raise OptionError(message + parameter("class_order") + " or " + parameter("label_separator", "|"))
    if columns.dicom or columns.frame:
        given = parameter("dicom", list(columns.dicom)) if columns.dicom else parameter("frame", columns.frame)
        raise OptionError("dvme cache label reads no images and no headers; leave out " + given)
    check_cache_first(cache, manifest)
    check_unlocked(cache)
    store = open_cache(cache)
    columns = columns.with_classes(store.class_order if class_order is None else class_order)
    if manifest is not None:
        told = _read(Path(manifest), columns)
    else:
        told = _Told() if columns.label_separator is None else _reread(store, columns)
    root = None if manifest is None else Path(image_root or table_file(Path(manifest))[0].parent)
    if told.masks is not None and root is not None:
        told = _with_masks(store, told, told.masks, root, progress)
    # Refused before the cache is locked, and once more under the lock: others may have written meanwhile.
    _checked(store, told, root, class_order)
    with EmbeddingCache.writing(cache) as store:
        told = _reread(store, columns) if told.is_reread else told  # others may have labelled meanwhile
        rows, values, merged = _checked(store, told, root, class_order)
        others = {name: np.delete(store.column(name), rows).tolist() for name in values if name in {"label", "group"}}
        remarks = [*told.remarks, *check_spelling(values, told.source, others)]
        n_changed = {name: int((store.column(name)[rows] != column).sum()) for name, column in values.items()}
        written: tuple[NDArray[Any], Mapping[str, NDArray[Any]]] = rows, values
        if merged is not None:
            remarks += merged.remarks
            class_order = merged.order if class_order is None else class_order
            written = rows_to_write(rows, values, {name: store.column(name) for name in values}, merged.labels)
        store.update_columns(*written, class_order=class_order)
        is_present = ~store.samples.is_pruned
        return LabelReport(
            cache=os.fspath(cache),
            manifest=None if manifest is None else os.fspath(manifest),
            n_rows=int((values["label"] != MISSING).sum()) if told.is_reread else len(rows),
            n_changed=n_changed,
            n_changed_findings={} if merged is None else dict(merged.n_changed),
            n_untouched=0 if told.is_reread else int(is_present.sum()) - len(rows),
            task=Task.from_labels(store.column("label")[is_present], store.class_order),
            class_order=store.class_order,
            remarks=remarks,
        )


@dataclass(frozen=True)
class _Told:
    """What a manifest says of N images."""

    source: str = ""
    names: list[str] = field(default_factory=list)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Column to (N,) values."""
    remarks: list[str] = field(default_factory=list)
    findings: tuple[str, ...] = ()
    """See `Samples`."""
    is_reread: bool = False
    """Whether these are the labels of a cache, row by row, read as findings."""
    masks: Told | None = None
    """Of the images, before any file is looked for."""


def _checked(
    store: EmbeddingCache, told: _Told, image_root: Path | None, class_order: Sequence[str] | None
) -> tuple[NDArray[Any], dict[str, NDArray[Any]], Merged | None]:
    """(R,) the rows that are named and column to (R,) values, where they fit what else the cache holds.

    Beside them the labels of all rows, where labels are told.
    """
    if told.is_reread:
        rows, values = np.arange(len(told.values["label"])), told.values
    else:
        rows = rows_by_name(store, told.names, source=told.source, image_root=image_root, are_distinct=False)
        rows, values = _merged(rows, told)
    labels, order, merged = store.column("label"), store.class_order, None
    if "label" in values:
        merged = merged_labels(labels, rows, values["label"], asked=told.findings, order=order)
        labels, order, values = merged.labels, merged.order, values | {"label": merged.labels[rows]}
    if MASK in values:
        others = np.delete(store.column(MASK), rows).tolist()
        check_kinds([*values[MASK].tolist(), *others], f"{told.source} beside {store.location}")
    if class_order is not None:
        checked_order(class_order, labels)
    elif not are_findings(labels):
        checked_order(order, labels, source=f"the class order of {store.location}")
    return rows, values, merged


def _merged(rows: NDArray[Any], told: _Told) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """The rows, each once, and what is said of each; of copies one cell is enough, and two must agree.

    Raises:
        DataError: naming the copies of which different things are said.
    """
    distinct, first, place = np.unique(rows, return_index=True, return_inverse=True)
    merged = {name: values[first] for name, values in told.values.items()}
    is_contradictory = np.zeros(len(distinct), dtype=bool)
    for entry in np.setdiff1d(np.arange(len(rows)), first).tolist():
        for name, values in told.values.items():
            known, said = merged[name][place[entry]], values[entry]
            is_contradictory[place[entry]] |= MISSING not in {known, said} and not _is_same(name, known, said)
            merged[name][place[entry]] = known or said
    differing = np.flatnonzero(is_contradictory[place]).tolist()
    step = "what they say differs, keep one entry for each image (copies are one image)"
    check_distinct(rows[differing].tolist(), [told.names[entry] for entry in differing], source=told.source, step=step)
    return distinct, merged


def _is_same(column: str, known: str, said: str) -> bool:
    return known == said or (column == MASK and what_is_shown(known) == what_is_shown(said))


def _with_masks(store: EmbeddingCache, told: _Told, masks: Told, root: Path, progress: Progress) -> _Told:
    """With the masks, which are found, and compared with images that are where the cache knows them."""
    rows = rows_by_name(store, told.names, source=told.source, image_root=root, are_distinct=False)
    places = [Path(path) if path and is_there(path) else None for path in store.column("path")[rows].tolist()]
    cells, remarks = read_masks(masks, told.names, places, root, progress)
    n_unseen = sum(bool(cell) and place is None for cell, place in zip(cells, places, strict=True))
    if n_unseen:
        remarks.append(f"{counted(n_unseen, 'image')} not there, and so not compared with the size of the mask")
    values = told.values | {MASK: np.array(cells, dtype=object)}
    return replace(told, values=values, remarks=[*told.remarks, *remarks])


def _read(manifest: Path, columns: Columns) -> _Told:
    """What a manifest says, everything checked."""
    check_table_name(manifest)
    table = read_table(manifest)
    image = chosen_column(table, columns.image or "image", "image")
    assert image is not None
    of_masks = mask_columns(table, columns)
    table = joined_rows(table, image, of_masks.values()) if of_masks else table
    names = image_names(table, image)
    labels = read_labels(table, columns)
    chosen = {name: chosen_column(table, getattr(columns, name), name) for name in STANDARD if name != "label"}
    sources = {name: source for name, source in chosen.items() if source is not None}
    sources |= kept_columns(table, columns)
    if not sources and labels is None and not of_masks:
        held = first_few(table.names, CHOICES)
        message = f"{manifest} has no column label, split or group (it has: {held}); name one with "
        raise DataError(message + parameter("label") + " or " + parameter("keep"))
    values, said = known_columns(table, sources, columns)
    remarks = [columns_line(table, {"image": image} | sources | of_masks, labels), *table.remarks]
    if labels is not None:
        values = {"label": labels.texts} | values
        remarks += labels.remarks
    every = [image, *sources.values(), *of_masks.values(), *(() if labels is None else labels.columns)]
    remarks += [*said, *unnamed_columns(table, chosen, every)]
    if "split" in values:
        values["split"] = canonical_splits(values["split"], source=str(manifest))
    arrays = {name: np.array(column, dtype=object) for name, column in values.items()}
    findings = () if labels is None else labels.findings
    return _Told(str(manifest), names, arrays, remarks, findings, masks=told_masks(table, columns))


def _reread(store: EmbeddingCache, columns: Columns) -> _Told:
    """The classes that a cache has, as findings that stand in one cell each.

    Raises:
        DataError: if it has no label, or they are findings already.
        OptionError: if columns of a manifest are named.
    """
    assert columns.label_separator is not None
    named = [name for name in STANDARD if getattr(columns, name) is not None]
    if named or columns.image is not None:
        raise OptionError(
            f"name a manifest after {store.location}: only a manifest has a column of the {[*named, 'image'][0]}"
        )
    if columns.mask:
        raise OptionError(f"name a manifest after {store.location}: only a manifest has a column of masks")
    if columns.keep:
        raise OptionError(
            f"only a manifest has columns to keep; name one after {store.location}, or leave out "
            + parameter("keep", list(columns.keep))
        )
    labels = store.column("label")
    if are_findings(labels):
        raise DataError(f"the labels of {store.location} are findings already; name a manifest to set others")
    if not (labels != MISSING).any():
        raise DataError(f"{store.location} has no label to read anew; name a manifest of labels")
    found = from_separated(labels.tolist(), columns.label_separator, columns.no_finding, store.location)
    several = int(sum(columns.label_separator in label for label in labels))
    remarks = [
        f"findings are the classes of before, parted at {columns.label_separator!r}: "
        f"{counted(several, 'image')} had several in one",
        *found.remarks,
    ]
    values = {"label": np.array(found.texts, dtype=object)}
    return _Told(store.location, [], values, remarks, is_reread=True)
