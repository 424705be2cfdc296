"""What both ways of importing share: the report, the checks, and how one backbone's embeddings are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.loading.kept import is_imported
from dvme.errors import DataError, parameter
from dvme.files import file_digest
from dvme.runtime import Progress
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import record_of
from dvme.text import counted
from dvme.upkeep.committing import commit_blocks
from dvme.upkeep.formats.bundle import BackboneHeader, EmbeddedRows
from dvme_cache import (
    EmbeddingCache,
    Fingerprint,
    FingerprintMismatchError,
    RowState,
    count_states,
    salvage_damaged,
)


@dataclass(frozen=True)
class ImportedBackbone:
    """What an import did for one backbone, counted over the rows of the file."""

    backbone: str
    dim: int
    dtype: str
    imported: int
    """Rows that have features since this import."""
    reused: int
    """Rows that had features in the cache already."""
    failed: int
    pending: int


@dataclass(frozen=True, repr=False)
class ImportReport(Shown):
    """What an import found and did; `to_frame()` has a row for each backbone, see `ImportedBackbone`."""

    cache: str
    file: str
    is_export: bool
    """Whether the file was exported by dvme, rather than made elsewhere."""
    n_rows: int
    """Rows of the file."""
    n_new: int
    """Rows that the cache did not have before."""
    backbones: list[ImportedBackbone]
    remarks: list[str] = field(default_factory=list)
    """What is worth knowing, a line each."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        rows = counted(self.n_rows, "row")
        done = [f"{each.backbone}: {each.imported:,} imported, {each.reused:,} reused" for each in self.backbones]
        return [f"{rows} of {self.file}, {self.n_new:,} new to {self.cache}", *some_lines(done)]

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(each) for each in self.backbones]


def kept_remark(n_kept: int) -> str:
    """Says that the cache's columns were not overwritten."""
    keep = "keeps" if n_kept == 1 else "keep"
    return f"{counted(n_kept, 'row')} {keep} columns that differ from the file's; dvme cache label changes them"


def origin(path: Path, notes: Mapping[str, str] | None, **more: str) -> dict[str, Any]:
    """Where imported embeddings come from, for their provenance."""
    return {
        "file": path.name,
        "digest": file_digest(path),
        "bytes": path.stat().st_size,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
        "notes": dict(notes or {}),
    }


def check_backbones(store: EmbeddingCache, backbones: Sequence[BackboneHeader], path: Path) -> None:
    """Refuse embeddings that the cache holds under the same name and that were made differently.

    Raises:
        DataError: if their dims or dtype differ.
        FingerprintMismatchError: if anything else does.
    """
    for backbone in backbones:
        if backbone.name not in store.backbones:
            continue
        held = store.embeddings(backbone.name)
        differs = f"{store.location} holds {backbone.name} embeddings of"
        step = "import them under another name or into another cache, or pass " + parameter("replace", True)
        step += " to delete these and start over"
        if held.dim != backbone.dim:
            raise DataError(f"{differs} {held.dim} dims, {path} has {backbone.dim}; " + step)
        different = held.fingerprint.differences(Fingerprint(backbone.fingerprint))
        if different:
            fields = "; ".join(f"{name}: cached {old!r}, asked {new!r}" for name, old, new in different)
            words = parameter("made_by") + ", or with " + parameter("like")
            by_word = "with the same " + words + ", where one extractor made them; "
            same = by_word if is_imported(held.fingerprint.fields) else ""
            message = f"{store.location} holds {backbone.name} embeddings made differently ({fields})"
            raise FingerprintMismatchError(f"{message}; " + same + step)
        if held.dtype != backbone.dtype:
            raise DataError(f"{differs} dtype {held.dtype}, {path} has {backbone.dtype}; " + step)


def store_embeddings(
    store: EmbeddingCache,
    backbone: BackboneHeader,
    embedded: EmbeddedRows,
    rows: NDArray[np.int64],
    *,
    replace: bool,
    progress: Progress,
) -> ImportedBackbone:
    """Commit what the cache lacks of one backbone's embeddings, whose rows in it are (N,).

    What it holds under this name goes first if it is to be replaced. Progress is told (backbone, rows committed, rows
    to commit).
    """
    if replace:
        store.remove_embeddings(backbone.name)
    embeddings = store.ensure_embeddings(
        backbone.name,
        Fingerprint(backbone.fingerprint),
        dim=backbone.dim,
        dtype=backbone.dtype,
        provenance=backbone.provenance,
    )
    salvage_damaged(embeddings)  # so that what is damaged counts as missing, and is imported again
    before = embeddings.states()[rows]
    is_failed = (embedded.states == RowState.FAILED) & (before == RowState.PENDING)
    is_wanted = is_failed | ((embedded.states == RowState.DONE) & (before != RowState.DONE))
    reasons = dict(zip(rows[is_failed].tolist(), embedded.reasons[is_failed].tolist(), strict=True))
    n_wanted = int(is_wanted.sum())
    for done in commit_blocks(embeddings, rows, embedded.blocks, is_wanted=is_wanted, reasons=reasons):
        progress(backbone.name, done, n_wanted)
    counts = count_states(embeddings.states()[rows])
    reused = int((before == RowState.DONE).sum())
    return ImportedBackbone(
        backbone=backbone.name,
        dim=backbone.dim,
        dtype=backbone.dtype,
        imported=counts["done"] - reused,
        reused=reused,
        failed=counts["failed"],
        pending=counts["pending"],
    )
