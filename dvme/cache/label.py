"""`dvme cache label`: change labels, splits and groups without touching an embedding."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.cache.columns import canonical_splits, check_names
from dvme.cache.naming import rows_by_name
from dvme.data import MISSING, Columns, Task
from dvme.data.manifest import MANIFEST_SUFFIXES, chosen_column, read_table
from dvme.data.order import checked_order
from dvme.data.samples import STANDARD
from dvme.errors import DataError, OptionError
from dvme.wording import CHOICES, counted, first_few
from dvme_cache import EmbeddingCache


@dataclass(frozen=True)
class LabelReport:
    """What a manifest changed."""

    cache: str
    manifest: str | None
    """None where only the order of the classes was given."""
    n_rows: int
    """Rows that the manifest names."""
    n_changed: dict[str, int]
    """Column to the number of rows whose value is another than before."""
    n_untouched: int
    """Rows that the manifest does not name; they keep what they have."""
    task: Task
    """What the labels define now."""
    class_order: tuple[str, ...]
    """The user's, which may have classes without an image; () without one."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}


@public
def label(
    cache: str | Path,
    manifest: str | Path | None = None,
    *,
    columns: Columns | None = None,
    extra: Sequence[str] = (),
    image_root: str | Path | None = None,
    class_order: Sequence[str] | None = None,
) -> LabelReport:
    """Set label, split, group and further columns of the rows that a manifest names, and the order of the classes.

    No image needs to be there. A column that the manifest lacks is left alone, an empty cell makes a value
    missing, and rows that the manifest does not name keep what they have.

    Args:
        cache: the cache's location.
        manifest: .csv, .tsv or .parquet, with a row per image; None where only the order is to change.
        columns: the manifest's columns.
        extra: further columns to keep, by their own names.
        image_root: where relative paths start; the manifest's folder by default.
        class_order: all labels, the lowest first; () takes the cache's order away, None keeps it.

    Raises:
        DataError: if the manifest cannot be used as it is, or the order lacks a label; the cache is unchanged.
        OptionError: if there is nothing to do.
        CacheNotFoundError, NotACacheError, CacheLockedError: if the cache cannot be written.
    """
    if manifest is None and class_order is None:
        raise OptionError(f"nothing to change in {cache}; name a manifest of labels, or pass --class-order")
    names, values = ([], {}) if manifest is None else _read(Path(manifest), columns or Columns(), extra)
    source, root = f"{manifest}", None if manifest is None else Path(image_root or Path(manifest).parent)
    # Refused before the cache is locked, and once more under the lock: others may have written meanwhile.
    _checked(EmbeddingCache.open(cache), names, values, source, root, class_order)
    with EmbeddingCache.writing(cache) as store:
        rows = _checked(store, names, values, source, root, class_order)
        n_changed = {name: int((store.column(name)[rows] != column).sum()) for name, column in values.items()}
        store.update_columns(rows, values, class_order=class_order)
        is_present = ~store.samples.is_pruned
        return LabelReport(
            cache=os.fspath(cache),
            manifest=None if manifest is None else os.fspath(manifest),
            n_rows=len(rows),
            n_changed=n_changed,
            n_untouched=int(is_present.sum()) - len(rows),
            task=Task.from_labels(store.column("label")[is_present], store.class_order),
            class_order=store.class_order,
        )


def _checked(
    store: EmbeddingCache,
    names: Sequence[str],
    values: Mapping[str, NDArray[Any]],
    source: str,
    image_root: Path | None,
    class_order: Sequence[str] | None,
) -> NDArray[Any]:
    """The rows that are named, where the labels that the cache would hold are all in its order."""
    rows = rows_by_name(store, names, source=source, image_root=image_root)
    labels = store.column("label")
    labels[rows] = values.get("label", labels[rows])
    if class_order is None:
        checked_order(store.class_order, labels, source=f"the class order of {store.location}")
    else:
        checked_order(class_order, labels)
    return rows


def _read(manifest: Path, columns: Columns, extra: Sequence[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """(N names of images, column to (N,) values), everything checked."""
    if manifest.suffix.lower() not in MANIFEST_SUFFIXES:
        raise DataError(f"{manifest} is not a manifest; give a file of {', '.join(MANIFEST_SUFFIXES)}")
    table = read_table(manifest)
    image = chosen_column(table, columns.image or "image", "image", manifest)
    assert image is not None
    names = [value.strip() for value in table[image]]
    if not names:
        raise DataError(f"{manifest} has no rows; list one image per row")
    if MISSING in names:
        count, first = names.count(MISSING), names.index(MISSING) + 1
        rows = counted(count, "row")
        raise DataError(f"{manifest} has {rows} without an image, the first in row {first}; name it there")
    chosen = {name: chosen_column(table, getattr(columns, name), name, manifest) for name in STANDARD}
    sources = {name: source for name, source in chosen.items() if source is not None} | _extra(table, extra, manifest)
    if not sources:
        held = first_few(table.columns, CHOICES)
        message = (
            f"{manifest} has no column label, split or group (it has: {held}); name one with --label-col or --extra"
        )
        raise DataError(message)
    values = {name: [value.strip() for value in table[source]] for name, source in sources.items()}
    if "split" in values:
        values["split"] = canonical_splits(values["split"], source=str(manifest))
    return names, {name: np.array(column, dtype=object) for name, column in values.items()}


def _extra(table: pd.DataFrame, extra: Sequence[str], manifest: Path) -> dict[str, str]:
    """Each further column under its own name."""
    reserved = [name for name in extra if name in {*STANDARD, "path"}]
    if reserved:
        meaning = "path is where dvme extract found the image" if "path" in reserved else "it has an option of its own"
        message = f"--extra {reserved[0]} is not possible ({meaning}); "
        raise DataError(message + "leave it out, or rename the column in the manifest")
    missing = [name for name in extra if name not in table.columns]
    if missing:
        message = (
            f"{manifest} has no column {first_few(map(repr, missing))}; it has: {first_few(table.columns, CHOICES)}"
        )
        raise DataError(f"{message}; choose one with --extra")
    check_names(extra, source="--extra")
    return {name: name for name in extra}
