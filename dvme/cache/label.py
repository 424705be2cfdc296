"""`dvme cache label`: change labels, splits and groups without touching an embedding."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dvme.cache.columns import canonical_splits, check_names
from dvme.cache.naming import rows_by_name
from dvme.data import MISSING, Columns, Task
from dvme.data.manifest import MANIFEST_SUFFIXES, chosen_column, read_table
from dvme.data.samples import STANDARD
from dvme.errors import DataError
from dvme.wording import CHOICES, counted, first_few
from dvme_cache import EmbeddingCache


@dataclass(frozen=True)
class LabelReport:
    """What a manifest changed."""

    cache: str
    manifest: str
    n_rows: int
    """Rows that the manifest names."""
    n_changed: dict[str, int]
    """Column to the number of rows whose value is another than before."""
    n_untouched: int
    """Rows that the manifest does not name; they keep what they have."""
    task: Task
    """What the labels define now."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}


def label(
    cache: str | Path,
    manifest: str | Path,
    *,
    columns: Columns | None = None,
    extra: Sequence[str] = (),
    image_root: str | Path | None = None,
) -> LabelReport:
    """Set label, split, group and further columns of the rows that a manifest names.

    No image needs to be there. A column that the manifest lacks is left alone, an empty cell makes a value
    missing, and rows that the manifest does not name keep what they have.

    Args:
        cache: the cache's location.
        manifest: .csv, .tsv or .parquet, with a row per image.
        columns: the manifest's columns.
        extra: further columns to keep, by their own names.
        image_root: where relative paths start; the manifest's folder by default.

    Raises:
        DataError: if the manifest cannot be used as it is; the cache is unchanged.
        CacheNotFoundError, NotACacheError, CacheLockedError: if the cache cannot be written.
    """
    path = Path(manifest)
    names, values = _read(path, columns or Columns(), extra)
    root = path.parent if image_root is None else Path(image_root)
    rows_by_name(EmbeddingCache.open(cache), names, source=str(path), image_root=root)  # refused before it is locked
    with EmbeddingCache.writing(cache) as store:
        rows = rows_by_name(store, names, source=str(path), image_root=root)
        n_changed = {name: int((store.column(name)[rows] != column).sum()) for name, column in values.items()}
        store.update_columns(rows, values)
        is_present = ~store.samples.is_pruned
        return LabelReport(
            cache=os.fspath(cache),
            manifest=str(path),
            n_rows=len(rows),
            n_changed=n_changed,
            n_untouched=int(is_present.sum()) - len(rows),
            task=Task.from_labels(store.column("label")[is_present]),
        )


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
