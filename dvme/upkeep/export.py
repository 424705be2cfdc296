"""`dvme cache export`: a cache as one file for other tools and other machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import public
from dvme.backbones.loading.kept import kept_names
from dvme.errors import DataError, OptionError
from dvme.files import check_destination
from dvme.places import check_cache_first, open_cache
from dvme.runtime import Progress, automatic
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import record_of
from dvme.text import bytes_text, counted
from dvme.upkeep.formats import files_of, format_of, write_bundle
from dvme.upkeep.formats.bundle import BackboneHeader, Bundle, EmbeddedRows, Header, row_slices, text_array
from dvme_cache import EmbeddingCache, Embeddings, RowState, count_states
from dvme_cache.files import is_url


@dataclass(frozen=True)
class ExportedBackbone:
    """The embeddings of one backbone in an export."""

    backbone: str
    dim: int
    dtype: str
    done: int
    failed: int
    pending: int


@dataclass(frozen=True, repr=False)
class ExportReport(Shown):
    """What an export holds; `to_frame()` has a row for each backbone."""

    cache: str
    out: str
    files: list[str]
    """What was written: `out`, and beside a CSV file its header."""
    format: str
    n_rows: int
    n_pruned: int
    """Rows that were left out because their image was pruned."""
    n_bytes: int
    """Size of the files."""
    backbones: list[ExportedBackbone]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        rows = counted(self.n_rows, "row")
        done = [f"{each.backbone}: {each.done:,} done, {each.failed:,} failed" for each in self.backbones]
        return [f"{self.out} has {rows} of {self.cache}, {bytes_text(self.n_bytes)}", *some_lines(done)]

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(each) for each in self.backbones]


@public
def export(
    cache: str | Path,
    out: str | Path,
    *,
    backbones: Sequence[str] | None = None,
    force: bool = False,
    progress: Progress = automatic,
) -> ExportReport:
    """Write a cache to one file, from which `import_embeddings` restores it exactly.

    Rows of pruned images are left out. Rows that failed or are pending keep their state and reason; their
    features are NaN.

    Args:
        cache: the cache's location.
        out: .h5, .hdf5, .npz, .parquet or .csv; the suffix is the format.
        backbones: which to export, in this order; all of them by default.
        force: replace a file that is there.
        progress: told (backbone, rows done, rows in all).

    Raises:
        DataError: if the format is unknown, or the cache has no rows.
        OptionError: if the file is there and may not be replaced, or its folder is not there.
        CacheNotFoundError, NotACacheError, MissingEmbeddingsError, CorruptCacheError: if it cannot be read.

    Example:
        >>> report = dvme.cache.export("my.zarr", "my.npz")
        >>> report.n_rows
        40
    """
    if is_url(out):
        raise DataError(f"{out} is a URL, an export is a file; name a local path and copy it there")
    check_cache_first(cache, out)
    path = Path(out)
    kind = format_of(path)
    for file in files_of(path):
        check_destination(file, (), force=force)
    store = open_cache(cache)
    names = store.backbones if backbones is None else kept_names(store, backbones)
    if len(set(names)) < len(names):
        raise OptionError(f"a backbone is named twice in {','.join(names)}; name each once")
    is_pruned = store.samples.is_pruned
    rows = np.flatnonzero(~is_pruned)
    if not len(rows):
        raise DataError(f"{store.location} holds no images; there is nothing to export")
    bundle = _bundle(store, names, rows, progress)
    write_bundle(path, bundle)
    return ExportReport(
        cache=os.fspath(cache),
        out=str(path),
        files=[str(file) for file in files_of(path)],
        format=kind,
        n_rows=len(rows),
        n_pruned=int(is_pruned.sum()),
        n_bytes=sum(file.stat().st_size for file in files_of(path)),
        backbones=[
            ExportedBackbone(item.name, item.dim, item.dtype, **count_states(bundle.embeddings[item.name].states))
            for item in bundle.header.backbones
        ],
    )


def _bundle(store: EmbeddingCache, names: Sequence[str], rows: NDArray[Any], progress: Progress) -> Bundle:
    """The cache's rows, and its features as they are asked for."""
    found = {name: store.embeddings(name) for name in names}
    columns = store.columns()
    headers = [
        BackboneHeader(name, item.dim, item.dtype, dict(item.fingerprint.fields), item.provenance)
        for name, item in found.items()
    ]
    header = Header(len(rows), tuple(columns), tuple(headers), store.class_order)
    longest = header.longest_row
    return Bundle(
        header=header,
        content_ids=store.samples.ids[rows],
        paths=text_array(store.samples.paths)[rows],
        columns={name: column[rows] for name, column in columns.items()},
        embeddings={name: _embedded(item, rows, longest, progress) for name, item in found.items()},
    )


def _embedded(embeddings: Embeddings, rows: NDArray[Any], longest: int, progress: Progress) -> EmbeddedRows:
    """In blocks as they suit the longest row of all backbones, so that all end with the same rows."""
    states = embeddings.states()[rows]
    is_failed, is_done = states == RowState.FAILED, states == RowState.DONE

    def blocks() -> Iterator[NDArray[Any]]:
        for window in row_slices(len(rows), longest):
            shape = (window.stop - window.start, embeddings.dim)
            block = np.full(shape, embeddings.features.blank, dtype=embeddings.dtype)
            if is_done[window].any():
                block[is_done[window]] = embeddings.read(rows[window][is_done[window]])
            yield block
            progress(embeddings.name, window.stop, len(rows))

    return EmbeddedRows(states, np.where(is_failed, embeddings.reasons()[rows], ""), blocks)
