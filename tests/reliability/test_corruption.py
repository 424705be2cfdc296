"""Random damage to every kind of file of a cache: nothing wrong is ever served, and it is found and mended."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dvme_cache.samples
import dvme_cache.tables
import dvme_cache.verification
from dvme_cache import CacheError, EmbeddingCache, Fingerprint, RowState, content_id, repair_cache, verify_cache
from dvme_cache.layout import COPIES, METADATA, ROWS_PER_SAMPLE_CHUNK

N, D, SHARD_ROWS, FAILED = 40, 6, 16, 23
SMALL_CHUNK = 32
REASON = "it is no image"
DTYPES = {"whole": "float32", "half": "float16"}
HARMS = ("flip", "replace", "zero", "truncate", "delete", "append")
IDS = [content_id(f"image {row}".encode()) for row in range(N)]
PATHS = [f"folder/{row}.png" for row in range(N)]
COLUMNS = {"label": [f"class {row % 3}" for row in range(N)], "group": [f"patient {row // 4}" for row in range(N)]}
FEATURES = {
    name: np.random.default_rng(seed).standard_normal((N, D)).astype(dtype)
    for seed, (name, dtype) in enumerate(DTYPES.items())
}
DONE = np.array([row for row in range(N) if row != FAILED])

Campaign = Callable[[int, int], int]


@dataclass
class Observation:
    """What a caller who asks for everything gets. Anything wrong is an AssertionError."""

    errors: list[str] = field(default_factory=list)
    """Of reads that refused."""
    pending: set[tuple[str, int]] = field(default_factory=set)
    """(backbone, row) that read as never extracted."""

    def ask(self, what: str, read: Callable[[], Any], is_right: Callable[[Any], Any]) -> Any:
        """The answer, or None where the cache refuses to give one."""
        try:
            answer = read()
        except CacheError as error:
            self.errors.append(f"{what}: {error}")
            return None
        assert np.all(is_right(answer)), f"{what} is wrong: {answer}"
        return answer


@pytest.fixture(params=[SMALL_CHUNK, ROWS_PER_SAMPLE_CHUNK], ids=["small chunks", "real chunks"])
def chunk_rows(request: pytest.FixtureRequest) -> int:
    """Rows per chunk of samples and columns; real chunks take five times as long to read."""
    return int(request.param)


@pytest.fixture
def sound_cache(chunk_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two backbones of three shards each, a failed row, two columns; samples and columns in two chunks or in one."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # damage is done to what is written, whatever the disk has of it
    for module in (dvme_cache.samples, dvme_cache.tables, dvme_cache.verification):
        monkeypatch.setattr(module, "ROWS_PER_SAMPLE_CHUNK", chunk_rows)
    path = tmp_path / "sound.zarr"
    with EmbeddingCache.writing(path) as cache:
        rows = cache.samples.add(IDS, PATHS)
        cache.update_columns(rows, {"label": [""] * N, "group": PATHS})
        cache.update_columns(rows, COLUMNS)
        for name, dtype in DTYPES.items():
            cache.ensure_embeddings(name, _made_by(name), dim=D, dtype=dtype, provenance={}, rows_per_shard=SHARD_ROWS)
        _commit_pending(cache)
    assert _observe(path) == Observation()
    assert verify_cache(EmbeddingCache.open(path)).findings == []
    return path


def test_reading__a_damaged_file_is_never_believed(
    sound_cache: Path, chunk_rows: int, campaign: Campaign, tmp_path: Path
) -> None:
    """What is read is right or refused, found, and mended; the short form harms one file of every kind.

    Six kinds of harm take turns, and meet every kind of file in the full form.
    """
    kinds, seed = _kinds(sound_cache), 1
    n_harmed = campaign(len(kinds), 540) if chunk_rows == SMALL_CHUNK else campaign(2, 60)
    rng = random.Random(seed)
    order, harms = rng.sample(sorted(kinds), len(kinds)), rng.sample(HARMS, len(HARMS))
    if chunk_rows != SMALL_CHUNK:  # where only these files are others
        order.sort(key=lambda kind: kind not in {"samples chunks", "tables 00000002 chunks"})
    outcomes: Counter[str] = Counter()
    for number in range(n_harmed):
        path = tmp_path / "harmed.zarr"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(sound_cache, path)
        key = rng.choice(kinds[order[number % len(order)]])
        before = (path / key).read_bytes()
        harm = _harm(path / key, rng, harms[(number + number // len(order)) % len(harms)])
        what = f"seed {seed}, number {number}: {harm} of {key}"
        try:
            outcomes[_check_one(path, key, before)] += 1
        except Exception as error:
            error.add_note(what)
            raise
    print(
        f"\ncorruption, {n_harmed} damaged files of {len(kinds)} kinds: {dict(outcomes.most_common())}; "
        "0 wrong values read, 0 not found by verify, 0 not mended by repair"
    )
    assert not all(outcome.startswith("harmless") for outcome in outcomes)


def test_reading__a_file_and_its_copy_damaged(
    sound_cache: Path, chunk_rows: int, campaign: Campaign, tmp_path: Path
) -> None:
    """Not to be mended always, but never believed, and named."""
    n_harmed, seed = (campaign(8, 160) if chunk_rows == SMALL_CHUNK else campaign(1, 20)), 2
    rng = random.Random(seed)
    files = [key for key in _files(sound_cache) if (sound_cache / COPIES / key).exists()]
    outcomes: Counter[str] = Counter()
    for number in range(n_harmed):
        path = tmp_path / "harmed.zarr"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(sound_cache, path)
        key = rng.choice(files)
        harms = [_harm(path / place, rng, rng.choice(HARMS)) for place in (key, f"{COPIES}/{key}")]
        what = f"seed {seed}, number {number}: {' and '.join(harms)} of {key}"
        try:
            outcomes[_check_both(path, key, (sound_cache / key).read_bytes())] += 1
        except Exception as error:
            error.add_note(what)
            raise
    print(f"\ncorruption, {n_harmed} files damaged together with their copies: {dict(outcomes)}; 0 wrong values read")


def _check_one(path: Path, key: str, before: bytes) -> str:
    """What came of one damaged file, once it is certain that nothing wrong came of it."""
    hit = _rows_hit(path, key, before)
    seen = _observe(path)
    after = (path / key).read_bytes() if (path / key).exists() else None
    findings = verify_cache(EmbeddingCache.open(path)).findings
    is_named = key in {finding.key for finding in findings}
    is_used = not _is_of_previous_generation(path, key)
    is_same = after is not None and key.endswith(METADATA) and _is_same_document(before, after)
    assert is_named or is_same or not is_used, f"verify does not name it: {findings}"
    with EmbeddingCache.writing(path) as cache:
        repair = repair_cache(cache)
        assert repair.left == []
        pending = {(name, int(row)) for name in DTYPES for shard in _pending(cache, name) for row in shard}
        assert pending <= hit, f"more rows are pending than were hit: {sorted(pending - hit)}"
        assert sum(repair.n_rows_lost.values()) == len(pending)
        _commit_pending(cache)
    assert _observe(path) == Observation()
    assert verify_cache(EmbeddingCache.open(path)).findings == []
    if is_same:
        return "harmless: the same JSON"
    if not is_used:
        return "harmless: columns that were replaced since"
    if key.startswith(f"{COPIES}/"):
        return "harmless: the copy of a sound file"
    if seen.errors:
        return "refused by the read"
    if seen.pending:
        return "read as pending"
    return "harmless: no row is in these bytes" if key.startswith("embeddings/") and "/c/" in key else "healed"


def _check_both(path: Path, key: str, before: bytes) -> str:
    """What came of a file that was damaged in both of its places. Only columns may be given up; users have them."""
    seen = _observe(path)
    is_used = not _is_of_previous_generation(path, key)
    left = [(path / place).read_bytes() for place in (key, f"{COPIES}/{key}") if (path / place).exists()]
    is_same = any(key.endswith(METADATA) and _is_same_document(before, data) for data in left)
    try:
        findings = verify_cache(EmbeddingCache.open(path)).findings
        with EmbeddingCache.writing(path) as cache:
            repair = repair_cache(cache)
    except CacheError:
        assert seen.errors
        return "refused as a whole"
    named = {finding.key.removeprefix(f"{COPIES}/") for finding in findings}
    assert key in named or is_same or not is_used, f"verify does not name it: {findings}"
    if not seen.errors:
        return "harmless"
    is_column = key.startswith("tables/")
    assert is_column == (not repair.left), f"repair leaves {repair.left}"
    return "refused by the read" + (", then given up" if is_column else "")


def _observe(path: Path) -> Observation:
    """Ask for everything there is."""
    seen = Observation()
    cache = seen.ask("open", lambda: EmbeddingCache.open(path), lambda _: True)
    if cache is None:
        return seen
    seen.ask("n_rows", lambda: cache.n_rows, lambda answer: answer == N)
    seen.ask("content ids", lambda: cache.samples.content_ids, lambda answer: answer == IDS)
    seen.ask("paths", lambda: cache.samples.paths, lambda answer: answer == PATHS)
    for name, values in COLUMNS.items():
        seen.ask(name, lambda name=name: cache.column(name).tolist(), lambda answer, values=values: answer == values)
    seen.ask("columns", lambda: cache.tables.columns, lambda answer: answer == list(COLUMNS))
    seen.ask("backbones", lambda: cache.backbones, lambda answer: answer == sorted(DTYPES))
    for name in DTYPES:
        _observe_backbone(cache, name, seen)
    ready = np.array([row for row in DONE.tolist() if not {(name, row) for name in DTYPES} & seen.pending])
    both = list(DTYPES)
    seen.ask(
        "read_aligned",
        lambda: cache.read_aligned(both, ready),
        lambda answer: [np.array_equal(part, FEATURES[name][ready]) for part, name in zip(answer, both, strict=True)],
    )
    seen.ask("scan", lambda: list(cache.scan(both)), lambda answer: _is_scan_right(answer, ready))
    return seen


def _is_scan_right(parts: Iterable[tuple[NDArray[Any], list[NDArray[Any]]]], ready: NDArray[Any]) -> bool:
    rows, *features = (np.concatenate(column) for column in zip(*((rows, *both) for rows, both in parts), strict=True))
    is_right = [np.array_equal(part, FEATURES[name][ready]) for part, name in zip(features, DTYPES, strict=True)]
    return np.array_equal(rows, ready) and all(is_right)


def _observe_backbone(cache: EmbeddingCache, name: str, seen: Observation) -> None:
    """States, reasons, and every row: one by one, and all together in a random order, some of them twice."""
    expected = np.where(np.arange(N) == FAILED, RowState.FAILED, RowState.DONE)
    embeddings = seen.ask(
        name,
        lambda: cache.embeddings(name),
        lambda answer: (answer.dim, answer.dtype, answer.fingerprint) == (D, DTYPES[name], _made_by(name)),
    )
    if embeddings is None:
        return
    states = seen.ask("states", embeddings.states, lambda answer: (answer == expected) | (answer == RowState.PENDING))
    if states is None:
        states = expected
    seen.pending |= {(name, int(row)) for row in np.flatnonzero(states == RowState.PENDING)}
    reasons = ["" if row != FAILED or states[row] == RowState.PENDING else REASON for row in range(N)]
    seen.ask("reasons", embeddings.reasons, lambda answer: answer.tolist() in (reasons, _reasons()))
    done = np.flatnonzero(states == RowState.DONE)
    for row in done:
        seen.ask(
            "row",
            lambda row=row: embeddings.read(np.array([row]))[0],
            lambda answer, row=row: answer == FEATURES[name][row],
        )
    mixed = np.random.default_rng(0).choice(done, len(done))
    seen.ask("rows", lambda: embeddings.read(mixed), lambda answer: np.array_equal(answer, FEATURES[name][mixed]))


def _reasons() -> list[str]:
    return ["" if row != FAILED else REASON for row in range(N)]


def _made_by(name: str) -> Fingerprint:
    return Fingerprint({"weights": name, "size": 224})


def _pending(cache: EmbeddingCache, name: str) -> list[NDArray[Any]]:
    return list(cache.embeddings(name).pending_shards())


def _commit_pending(cache: EmbeddingCache) -> None:
    for name in DTYPES:
        embeddings = cache.embeddings(name)
        for rows in embeddings.pending_shards():
            embeddings.commit(rows, FEATURES[name][rows], {FAILED: REASON} if FAILED in rows else {})


def _files(path: Path) -> list[str]:
    return sorted(place.relative_to(path).as_posix() for place in path.rglob("*") if place.is_file())


def _kinds(path: Path) -> dict[str, list[str]]:
    """Keys by what kind of file they are, so that a cache's one root is harmed as often as its many shards."""
    kinds = defaultdict(list)
    for key in _files(path):
        copy, _, rest = key.rpartition(f"{COPIES}/")
        parts = rest.split("/")
        top = parts[0] if len(parts) > 1 else "root"
        array = next((part for part in ("features", "checksum", "state", "reason") if part in parts), "")
        content = "metadata" if parts[-1] == METADATA else f"{array} chunks".strip()
        generation = f" {parts[1]}" if top == "tables" and len(parts) > 2 else ""
        kinds[f"{'copy of ' if key.startswith(COPIES) else copy}{top}{generation} {content}"].append(key)
    return dict(kinds)


def _harm(place: Path, rng: random.Random, how: str) -> str:
    """Damage a file so that it is not what it was; returns how. What is zero already is flipped instead."""
    before = place.read_bytes()
    how = "flip" if how == "zero" and not any(before) else how
    while True:
        data = bytearray(before)
        at = rng.randrange(len(data))
        if how == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif how == "replace":
            data[at] = rng.randrange(256)
        elif how == "zero":
            end = rng.randint(at + 1, len(data))
            data[at:end] = bytes(end - at)
        elif how == "truncate":
            del data[at:]
        elif how == "append":
            data += rng.randbytes(rng.randint(1, 64))
        else:
            place.unlink()
            return how
        if data != before:
            place.write_bytes(data)
            return f"{how} at byte {len(before) if how == 'append' else at} (before: {before[at]:#04x})"


def _rows_hit(path: Path, key: str, before: bytes) -> set[tuple[str, int]]:
    """(backbone, row) of which damaged bytes are the only ones."""
    parts = key.split("/")
    if parts[0] != "embeddings" or "c" not in parts:
        return set()
    name, array, shard = parts[1], parts[2], int(parts[4])
    rows = range(shard * SHARD_ROWS, min(N, (shard + 1) * SHARD_ROWS))
    if array in {"state", "reason"}:  # the rows that are done prove themselves, a failed one cannot
        return {(name, row) for row in rows if row == FAILED}
    size = {"features": D * np.dtype(DTYPES[name]).itemsize, "checksum": 4}[array]
    after = (path / key).read_bytes() if (path / key).exists() else b""
    is_hit = [before[at : at + size] != after[at : at + size] for at in range(0, size * len(rows), size)]
    return {(name, row) for row, hit in zip(rows, is_hit, strict=True) if hit and row != FAILED}


def _is_same_document(before: bytes, after: bytes) -> bool:
    """Whether a reader of JSON cannot tell the two apart: spaces, or the case of an escape."""
    try:
        return bool(json.loads(before) == json.loads(after))
    except ValueError:
        return False


def _is_of_previous_generation(path: Path, key: str) -> bool:
    """Whether it is of columns that were replaced, kept only for readers that are in the middle of them."""
    parts = key.removeprefix(f"{COPIES}/").split("/")
    if parts[0] != "tables" or len(parts) < 3:
        return False
    try:
        return parts[1] != EmbeddingCache.open(path).tables.current()[0]
    except CacheError:
        return False
