"""One shard under the magnifying glass: what is wrong with it, and what of it can be kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvme_cache.embeddings import Embeddings
from dvme_cache.layout import RowState
from dvme_cache.parallel import each
from dvme_cache.reading import Shards
from dvme_cache.shards import ShardFiles, TornShardError, finite_rows

Kind = Literal["damaged", "missing", "mismatched", "unfinished", "foreign", "leftover"]
"""What is wrong with a file: not the bytes that were written; gone; not what belongs there; of a write that was
interrupted; not ours; not needed."""


@dataclass(frozen=True)
class Finding:
    """Something about one file that is not as it should be."""

    key: str
    """Its place in the cache."""
    kind: Kind
    """What is wrong with it."""
    what: str
    """One line for the user."""
    n_rows: int = 0
    """Rows that cannot be read because of it."""
    backbone: str = ""
    """Whose rows."""

    @property
    def is_damage(self) -> bool:
        """Whether something that counted cannot be read, or only from its copy; the rest harms nobody."""
        return self.kind in {"damaged", "missing", "mismatched"}


def check_shard(embeddings: Embeddings, shard: int, *, is_quick: bool = False) -> list[Finding]:
    """What is wrong with one shard, compared with what was committed.

    A quick check only looks whether the features' file is there and whole.
    """
    try:
        states = embeddings.state.read(shard)
    except TornShardError as error:
        rows = embeddings.window(shard)
        return [_finding(embeddings, embeddings.state, shard, "damaged", str(error), rows.stop - rows.start)]
    if states is None:
        return _check_unfinished(embeddings, shard)
    window = embeddings.window(shard)
    is_known = np.arange(len(states)) < window.stop - window.start  # not what was added since the cache was opened
    states = np.where(is_known, states, RowState.PENDING)
    if not states.any():
        return []
    findings = _check_reasons(embeddings, shard, states)
    if (states == RowState.DONE).any():
        findings += _check_rows(embeddings, shard, states == RowState.DONE, is_quick=is_quick)
    return findings


def _check_rows(embeddings: Embeddings, shard: int, is_done: NDArray[np.bool_], *, is_quick: bool) -> list[Finding]:
    """The committed rows of a shard, against their checksums."""
    findings, n_done = [], int(is_done.sum())
    stored: dict[str, NDArray[Any]] = {}
    for array in (embeddings.checksum,) if is_quick else (embeddings.checksum, embeddings.features):
        try:
            rows = array.read(shard)
        except TornShardError as error:
            n_lost = remains_of(embeddings, shard).n_lost
            findings.append(_finding(embeddings, array, shard, "damaged", str(error), n_lost))
            continue
        if rows is None:
            findings.append(_finding(embeddings, array, shard, "missing", f"{array.key(shard)} is gone", n_done))
        else:
            stored[array.name] = rows
    if is_quick:
        try:
            embeddings.features.check_whole(shard)
        except TornShardError as error:
            kind: Kind = "missing" if error.is_gone else "damaged"
            findings.append(_finding(embeddings, embeddings.features, shard, kind, str(error), n_done))
    if len(stored) == 2:
        n_bad = int((is_done & ~is_proven(embeddings, shard, stored["features"], stored["checksum"])).sum())
        if n_bad:
            what = f"{embeddings.features.key(shard)}: {n_bad} rows are not what was committed for them"
            findings.append(_finding(embeddings, embeddings.features, shard, "mismatched", what, n_bad))
    return findings


def is_proven(embeddings: Embeddings, shard: int, features: NDArray[Any], checksums: NDArray[Any]) -> NDArray[np.bool_]:
    """(shard rows,) whether each row is finite and carries its checksum. Rows beyond the last image are not."""
    window = embeddings.window(shard)
    n_rows = window.stop - window.start
    proven = np.zeros(embeddings.shard_rows, dtype=bool)
    expected = embeddings.checksums_of(features[:n_rows], window)
    proven[:n_rows] = (expected == checksums[:n_rows]) & finite_rows(features[:n_rows])
    return proven


@dataclass(frozen=True)
class Remains:
    """What of a shard can be kept."""

    states: NDArray[np.uint8]
    """(shard rows,) RowState; pending where a row is not proven."""
    features: NDArray[Any]
    """(shard rows, D), blank where a row is not done: NaN, or 0 of bytes."""
    checksums: NDArray[np.uint32]
    """(shard rows,), 0 where a row is not done."""
    is_lost: NDArray[np.bool_]
    """(shard rows,) whether a row counted, as far as that can be known, and is to be extracted again."""

    @property
    def n_lost(self) -> int:
        """How many rows are to be extracted again."""
        return int(self.is_lost.sum())


def remains_of(embeddings: Embeddings, shard: int) -> Remains:
    """Every row that proves itself: a flipped bit costs one row, a torn file those behind the tear.

    The rows themselves say which of them were done where the states are gone or flipped.
    """
    window = embeddings.window(shard)
    features = embeddings.features.remains(shard, embeddings.features.blank)
    checksums = embeddings.checksum.remains(shard, 0)
    is_kept = is_proven(embeddings, shard, features, checksums)
    is_failed = np.zeros_like(is_kept)
    counted = np.arange(embeddings.shard_rows) < window.stop - window.start
    try:
        before = embeddings.state.read(shard)
    except TornShardError:
        before = None
    if before is not None:
        is_kept &= before == RowState.DONE
        is_failed = (before == RowState.FAILED) & embeddings.has_reasons(shard)
        counted = before != RowState.PENDING
    states = np.where(is_kept, RowState.DONE, np.where(is_failed, RowState.FAILED, RowState.PENDING))
    features[~is_kept], checksums[~is_kept] = embeddings.features.blank, 0
    return Remains(states.astype(np.uint8), features, checksums, counted & ~is_kept & ~is_failed)


def salvage_shard(embeddings: Embeddings, shard: int) -> int:
    """Keep the rows of a damaged shard that are proven, and make the others pending again.

    The states go first: a kill in between leaves rows pending that are still good, never a bad row that counts.
    Returns how many rows are to be extracted again.
    """
    kept = remains_of(embeddings, shard)
    _rewrite(embeddings, shard, kept)
    return kept.n_lost


def salvage_damaged(embeddings: Embeddings, shards: Shards = None) -> int:
    """Check some shards, or all, and salvage those that are not sound; rows that count are read and proven.

    Reading the embeddings takes a fraction of the time in which a run hashes the images they are of. Returns how many
    rows are to be extracted again.
    """
    embeddings.stored.load_ids()
    shards = range(embeddings.n_shards) if shards is None else shards
    findings = each(partial(check_shard, embeddings), shards, embeddings.n_checkers)
    return sum(salvage_shard(embeddings, shard) for shard, found in zip(shards, findings, strict=True) if found)


def erase_rows(embeddings: Embeddings, rows: NDArray[Any]) -> None:
    """Make rows (B,), ascending, pending and overwrite what was stored of them, shard by shard."""
    shards = rows // embeddings.shard_rows
    for shard in np.unique(shards).tolist():
        kept, places = remains_of(embeddings, shard), rows[shards == shard] % embeddings.shard_rows
        blank = embeddings.features.blank
        kept.states[places], kept.features[places], kept.checksums[places] = RowState.PENDING, blank, 0
        _rewrite(embeddings, shard, kept)


def _rewrite(embeddings: Embeddings, shard: int, kept: Remains) -> None:
    """Write what is kept of a shard, the states first; a chunk of reasons that cannot be read goes before them."""
    has_reasons = bool(embeddings.has_reasons(shard).any())
    if not has_reasons:
        embeddings.clear_reasons(shard, kept.states != RowState.FAILED)
    embeddings.state.write(shard, kept.states)
    if has_reasons:
        embeddings.clear_reasons(shard, kept.states != RowState.FAILED)
    if (kept.states == RowState.DONE).any():
        embeddings.features.write(shard, kept.features)
        embeddings.checksum.write(shard, kept.checksums)
    else:
        embeddings.features.delete(shard)
        embeddings.checksum.delete(shard)
    embeddings.forget(shard)


def _check_unfinished(embeddings: Embeddings, shard: int) -> list[Finding]:
    """A shard without states has no rows that count; what lies there may prove itself all the same."""
    try:
        checksums = embeddings.checksum.read(shard)
    except TornShardError:
        checksums = None
    n_rows = 0 if checksums is None else int((checksums != 0).sum())
    if not n_rows:
        return []
    what = (
        f"{embeddings.state.key(shard)} is not there, though its rows are: an interrupted commit, or the file is gone"
    )
    return [_finding(embeddings, embeddings.state, shard, "unfinished", what, n_rows)]


def _check_reasons(embeddings: Embeddings, shard: int, states: NDArray[Any]) -> list[Finding]:
    is_failed = states == RowState.FAILED
    lost = int((is_failed & ~embeddings.has_reasons(shard)).sum()) if is_failed.any() else 0
    if not lost:
        return []
    key = f"{embeddings.path}/reason/c/{shard}"
    return [Finding(key, "damaged", f"{key}: the reasons of {lost} failed rows are lost", lost, embeddings.name)]


def _finding(embeddings: Embeddings, array: ShardFiles, shard: int, kind: Kind, what: str, n_rows: int) -> Finding:
    return Finding(array.key(shard), kind, what, n_rows, embeddings.name)
