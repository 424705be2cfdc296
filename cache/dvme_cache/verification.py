"""`verify`: every file of a cache against what was committed. `repair`: what can be mended is mended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dvme_cache.cache import EmbeddingCache
from dvme_cache.deferred import zarr
from dvme_cache.embeddings import ARRAYS, Embeddings
from dvme_cache.errors import CorruptCacheError
from dvme_cache.files import PARTIAL_NAME
from dvme_cache.integrity import Finding, check_shard, salvage_shard
from dvme_cache.layout import COPIES, METADATA, ROWS_PER_SAMPLE_CHUNK, RowState, copy_of, encoded
from dvme_cache.parallel import each
from dvme_cache.sealing import is_sound

CHUNK = re.compile(r"c/(\d+)(?:/0)?")
GENERATION = re.compile(r"\d{8}/")

Tell = Callable[[int, int], None]
"""Called with (shards done, shards in all)."""


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what was found."""

    n_files: int
    n_bytes: int
    n_rows_checked: int
    """Embeddings compared with their checksums, over all backbones."""
    n_rows_pending: int
    """Embeddings that are not there, over all backbones: not extracted yet, or gone with all of their files."""
    findings: list[Finding]

    @property
    def is_sound(self) -> bool:
        """Whether nothing has to be repaired."""
        return not any(finding.is_damage for finding in self.findings)


@dataclass(frozen=True)
class Repair:
    """What was mended, and what it cost."""

    mended: list[Finding]
    """Damage that is no more."""
    left: list[Finding]
    """Damage that only a backup can mend."""
    n_rows_lost: dict[str, int]
    """Backbone to the rows that are to be extracted again."""


def verify_cache(
    cache: EmbeddingCache, *, sample: int | None = None, seed: int = 0, tell: Tell | None = None
) -> Verification:
    """Compare a cache with what was committed to it.

    Metadata, samples and tables are always checked whole, as is the presence and size of every file.

    Args:
        cache: open.
        sample: how many random embeddings of every backbone to check; None: all of them.
        seed: of the sample.
        tell: progress.
    """
    sizes = cache.store.files.sizes()
    findings = [*_check_small_files(cache), *_check_readable(cache)]
    n_checked = n_pending = 0
    tables = _readable_tables(cache, findings)
    n_shards, done = sum(table.n_shards for table in tables), 0
    for table in tables:
        at_once = table.n_checkers
        for start in range(0, table.n_shards, at_once):
            shards = range(start, min(start + at_once, table.n_shards))
            for shard, found in zip(
                shards, each(partial(check_shard, table, is_quick=sample is not None), shards, at_once), strict=True
            ):
                findings += [*found, *_check_size(table, shard, sizes)]
                done += 1
                if tell is not None:
                    tell(done, n_shards)
        try:
            states = table.states()
        except CorruptCacheError:  # among the findings of its shards already
            continue
        n_pending += int(((states == RowState.PENDING) & ~cache.samples.is_pruned).sum())
        n_checked += _check_sample(table, np.flatnonzero(states == RowState.DONE), sample, seed, findings)
    findings += _check_names(cache, sizes)
    return Verification(len(sizes), sum(sizes.values()), n_checked, n_pending, _once(findings))


def repair_cache(cache: EmbeddingCache, *, tell: Tell | None = None) -> Repair:
    """Mend what can be mended: copies stand in for each other, bad rows become pending, leftovers go."""
    before = verify_cache(cache, tell=tell)
    known = set(small_files(cache))
    for key in known & {finding.key.removeprefix(f"{COPIES}/") for finding in before.findings if finding.is_damage}:
        _mend_small_file(cache, key)
    _rewrite_lost_columns(cache)
    n_lost: dict[str, int] = {}
    for name in cache.backbones:
        shards = {int(match[1]) for finding in before.findings if (match := _shard_of(finding, name))}
        if not shards:
            continue
        with suppress(CorruptCacheError):  # metadata of which both copies are damaged: left, and said below
            table = cache.embeddings(name)
            table.grow()
            n_lost[name] = sum(salvage_shard(table, shard) for shard in sorted(shards))
    for finding in before.findings:
        if finding.kind == "leftover":
            cache.store.files.delete(finding.key)
    after = verify_cache(cache).findings
    mended = [finding for finding in before.findings if finding not in after]
    return Repair(mended, [finding for finding in after if finding.is_damage], n_lost)


def _check_small_files(cache: EmbeddingCache) -> Iterator[Finding]:
    """Metadata, samples and tables, in both of their places."""
    for key in small_files(cache):
        for place, other in ((key, copy_of(key)), (copy_of(key), key)):
            data, stand_in = cache.store.files.read(place), cache.store.files.read(other)
            is_healed = stand_in is not None and is_sound(key, stand_in)
            if data is not None and is_sound(key, data):
                if place == key and is_healed and data != stand_in:
                    yield Finding(key, "unfinished", f"{key} differs from its copy, as after an interrupted write")
                continue
            state = "is gone" if data is None else "is torn or flipped"
            then = "the other copy is served" if is_healed else "and so is its copy"
            yield Finding(place, "missing" if data is None else "damaged", f"{place} {state}; {then}")


def _check_readable(cache: EmbeddingCache) -> Iterator[Finding]:
    """Samples and columns, read as anyone would."""
    reads: dict[str, Callable[[], object]] = {
        "samples/content_id": lambda: cache.samples.ids,
        "samples/path": lambda: cache.samples.paths,
    }
    generation, columns = cache.tables.current()
    for name in columns:
        reads[f"tables/{generation}/{encoded(name)}"] = lambda name=name: cache.column(name)  # type: ignore[misc]
    for key, read in reads.items():
        try:
            read()
        except CorruptCacheError as error:
            yield Finding(key, "damaged", f"{key} cannot be read: {error}")


def small_files(cache: EmbeddingCache) -> list[str]:
    """Keys of everything that is kept twice, as far as the readable metadata says."""
    chunks = range(-(-cache.n_rows // ROWS_PER_SAMPLE_CHUNK))
    nodes = ["", "samples/", "samples/content_id/", "samples/path/", "tables/", "embeddings/"]
    keys = [f"samples/content_id/c/{chunk}/0" for chunk in chunks]
    keys += [f"samples/path/c/{chunk}" for chunk in chunks]
    generation, columns = cache.tables.current()
    if generation:
        nodes += [f"tables/{generation}/", *(f"tables/{generation}/{encoded(name)}/" for name in columns)]
    for name in columns:
        path = f"tables/{generation}/{encoded(name)}"
        with suppress(CorruptCacheError, FileNotFoundError):
            length = zarr.open_array(cache.store, path=path, mode="r").shape[0]
            keys += [f"{path}/c/{chunk}" for chunk in range(-(-length // ROWS_PER_SAMPLE_CHUNK))]
    for name in cache.backbones:
        path = f"embeddings/{encoded(name)}"
        nodes += [f"{path}/", *(f"{path}/{array}/" for array in ARRAYS)]
    return [f"{node}{METADATA}" for node in nodes] + keys


def _readable_tables(cache: EmbeddingCache, findings: Sequence[Finding]) -> list[Embeddings]:
    """The backbones whose metadata and samples can be read; what cannot is among the findings already."""
    try:
        cache.samples.ids  # noqa: B018 - every checksum is over an image's id
    except CorruptCacheError:
        return []
    tables = []
    for name in cache.backbones:
        try:
            tables.append(cache.embeddings(name))
        except CorruptCacheError:
            assert any(finding.key.startswith(f"embeddings/{encoded(name)}/") for finding in findings)
    return tables


def _check_size(table: Embeddings, shard: int, sizes: dict[str, int]) -> Iterator[Finding]:
    """A file that is there must have its full size, whether its rows are sampled or not."""
    for array in (table.features, table.checksum, table.state):
        key = array.key(shard)
        if sizes.get(key, array.file_bytes) != array.file_bytes:
            what = f"{key} is torn: {sizes[key]:,} of {array.file_bytes:,} bytes"
            yield Finding(key, "damaged", what, table.window(shard).stop - table.window(shard).start, table.name)


def _check_sample(
    table: Embeddings, done: NDArray[np.int64], sample: int | None, seed: int, findings: list[Finding]
) -> int:
    """How many embeddings were compared; those of a sample are compared here, row by row."""
    if sample is None:
        return len(done)
    chosen = np.sort(np.random.default_rng(seed).choice(done, min(sample, len(done)), replace=False))
    for shard in np.unique(chosen // table.shard_rows).tolist():
        try:
            table.read(chosen[chosen // table.shard_rows == shard])
        except CorruptCacheError:
            findings += check_shard(table, int(shard))
    return len(chosen)


def _check_names(cache: EmbeddingCache, sizes: dict[str, int]) -> Iterator[Finding]:
    """Files that do not belong to the cache, and what killed processes left behind."""
    known = set(small_files(cache))
    generation = cache.tables.current()[0]
    shards = {f"embeddings/{encoded(name)}": name for name in cache.backbones}
    for place in sizes:
        key = place.removeprefix(f"{COPIES}/")
        top, _, rest = key.partition("/")
        folder = "/".join(key.split("/")[:2])
        if key in known:
            continue
        if PARTIAL_NAME.fullmatch(key.rpartition("/")[2]):
            yield Finding(place, "leftover", f"{place} was left by a killed process")
        elif top == "tables" and GENERATION.match(rest) and not rest.startswith(generation or "-"):
            continue  # the generation before, kept for readers that are in the middle of it
        elif top == "samples" and CHUNK.fullmatch(rest.partition("/")[2]):
            continue  # an append that was killed before it counted
        elif folder in shards and _is_shard_file(key.removeprefix(f"{folder}/")):
            continue
        elif top == "embeddings" and folder not in shards and rest.count("/"):
            yield Finding(place, "leftover", f"{place} is of a backbone that was removed, or never finished")
        else:
            yield Finding(place, "foreign", f"{place} is no file of the cache")


def _is_shard_file(rest: str) -> bool:
    array, _, chunk = rest.partition("/")
    return array in ARRAYS and CHUNK.fullmatch(chunk) is not None


def _mend_small_file(cache: EmbeddingCache, key: str) -> None:
    """Where one of the two places is sound, write it to the other. Two sound ones that differ are left alone."""
    places = {place: cache.store.files.read(place) for place in (key, copy_of(key))}
    sound = [data for data in places.values() if data is not None and is_sound(key, data)]
    if len(sound) == 1:
        for place in reversed(places):
            cache.store.files.write(place, sound)


def _rewrite_lost_columns(cache: EmbeddingCache) -> None:
    """Write the columns anew where both places of one of their files are damaged.

    A column that cannot be read is dropped: it came from the user, who can give it again.
    """
    generation, names = cache.tables.current()
    if not any(finding.key.startswith(f"tables/{generation}/") for finding in _check_small_files(cache)):
        return
    columns = {}
    for name in names:
        with suppress(CorruptCacheError):
            columns[name] = cache.column(name)
    cache.tables.replace(columns, is_previous_kept=False)


def _shard_of(finding: Finding, backbone: str) -> re.Match[str] | None:
    if not (finding.is_damage or finding.kind == "unfinished") or finding.backbone != backbone:
        return None
    return CHUNK.fullmatch(finding.key.removeprefix(f"embeddings/{encoded(backbone)}/").partition("/")[2])


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """One finding per file, the first."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.key, finding)
    return list(first.values())
