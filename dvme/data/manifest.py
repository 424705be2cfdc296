"""A manifest: a CSV, TSV or Parquet file with a row per image."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dvme.data.samples import MISSING, STANDARD, Samples, canonical_split
from dvme.errors import DataError
from dvme.wording import counted
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = deferred("pandas")

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet")
LARGEST_EXACT_INTEGER = 2.0**53
SEPARATORS = (",", ";", "\t")
QUOTED = re.compile(r'"[^"]*"')
LISTED_AT_MOST, NAME_SHOWN = 3, 200


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of a manifest's columns. None means: the default name, if there is such a column."""

    image: str | None = None
    """Paths, absolute or relative to the manifest's folder; default `image`."""
    label: str | None = None
    """Class names; default `label`."""
    split: str | None = None
    """train, val or test; default `split`."""
    group: str | None = None
    """Patients; default `group`."""


def manifest_samples(manifest: Path, columns: Columns, image_root: Path | None = None) -> Samples:
    """Read a manifest and check that every image it names exists.

    Args:
        manifest: .csv, .tsv or .parquet.
        columns: which column holds what.
        image_root: where relative image paths start; the manifest's folder by default.

    Raises:
        DataError: if the file cannot be read, a column is missing, or an image file is missing.
    """
    table = read_table(manifest)
    image = chosen_column(table, columns.image, "image", manifest)
    if image is None:
        raise DataError(_missing_column(table, "image", "--image-col", manifest))
    if not len(table):
        raise DataError(f"{manifest} has no rows; list one image per row")
    root = manifest.parent if image_root is None else image_root
    ids = [value.strip() for value in table[image]]
    unnamed = ids.count(MISSING)
    if unnamed:
        rows = counted(unnamed, "row")
        raise DataError(f"{manifest} has {rows} without an image, the first in row {ids.index('') + 1}; name it there")

    chosen = {name: chosen_column(table, getattr(columns, name), name, manifest) for name in STANDARD}

    def values(name: str) -> list[str]:
        column = chosen[name]
        return [MISSING] * len(table) if column is None else [value.strip() for value in table[column]]

    splits = [canonical_split(name) if name else MISSING for name in values("split")]
    paths = [root / identity for identity in ids]
    _check_exist(paths, manifest)
    given = frozenset(name for name, column in chosen.items() if column is not None)
    return Samples(paths, ids, values("label"), splits, values("group"), given)


def _check_exist(paths: list[Path], manifest: Path) -> None:
    missing = [path for path in paths if not _is_file(path)]
    if missing:
        shown = ", ".join(str(path)[:NAME_SHOWN] for path in missing[:LISTED_AT_MOST])
        more = ", ..." if len(missing) > LISTED_AT_MOST else ""
        message = (
            f"{manifest} names {counted(len(missing), 'file')} that {'does' if len(missing) == 1 else 'do'} not exist: "
            f"{shown}{more}; "
            "mend the paths or pass --image-root"
        )
        raise DataError(message)


def _is_file(path: Path) -> bool:
    """Whether the file is there; a name too long to be one is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_table(manifest: Path) -> pd.DataFrame:
    """Every column as text; an empty cell is ""."""
    try:
        if manifest.suffix.lower() == ".parquet":
            return _as_text(pd.read_parquet(manifest))
        separator = _separator(manifest)
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            return pd.read_csv(
                manifest,
                sep=separator,
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                encoding="utf-8-sig",
                index_col=False,
            )
    except pd.errors.ParserWarning as error:
        message = f"cannot read the manifest {manifest}: its rows have more fields than its header; name every column"
        raise DataError(message) from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot read the manifest {manifest}: {reason}") from error


def _separator(manifest: Path) -> str:
    """What stands between the cells: of comma, semicolon (spreadsheets in many languages) and tab, the header's own."""
    usual = "\t" if manifest.suffix.lower() == ".tsv" else ","
    with manifest.open(encoding="utf-8-sig") as file:
        header = QUOTED.sub("", file.readline())
    return max(sorted(SEPARATORS, key=lambda separator: separator != usual), key=header.count)


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Integers stay without a decimal point, even where a missing value made the column floating."""
    text = {}
    for name in table.columns:
        column = table[name]
        is_whole = pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all()
        if is_whole and (column.dropna().abs() < LARGEST_EXACT_INTEGER).all():
            column = column.astype("Int64")
        text[str(name)] = column.astype("string").fillna(MISSING).astype(object)
    return pd.DataFrame(text)


def chosen_column(table: pd.DataFrame, given: str | None, default: str, manifest: Path) -> str | None:
    """The column to use: the one asked for, which must exist, else the default, if it exists."""
    if given is not None and given not in table.columns:
        raise DataError(_missing_column(table, given, f"--{default}-col", manifest))
    name = default if given is None else given
    return name if name in table.columns else None


def _missing_column(table: pd.DataFrame, name: str, option: str, manifest: Path) -> str:
    columns = ", ".join(str(column) for column in table.columns)
    return f"{manifest} has no column {name!r}; it has: {columns}; choose one with {option}"
