"""`dvme cache verify` and `dvme cache repair`: is what lies in a cache what was put into it?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dvme.arguments import public
from dvme.backbones.description.variation import split_name
from dvme.backbones.loading.kept import kept_names
from dvme.defaults import IMAGES_COMPARED, SEED
from dvme.errors import OptionError, parameter
from dvme.places import open_cache
from dvme.runtime import Progress, Runtime, automatic
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import record_of
from dvme.text import counted
from dvme.upkeep.reextraction import Comparison, compare_with_images
from dvme_cache import EmbeddingCache, Finding, check_unlocked, repair_cache, verify_cache


@dataclass(frozen=True, repr=False)
class VerifyReport(Shown):
    """What was checked and found; `to_frame()` has a row for each finding, see `dvme_cache.Finding`."""

    cache: str
    is_sound: bool
    """Whether nothing has to be repaired and, where images were asked for, some were compared and all agree."""
    n_files: int
    n_bytes: int
    n_embeddings: int
    """Embeddings compared with their checksums."""
    n_pending: int
    """Embeddings that are not there: not extracted yet, or gone with all of their files."""
    findings: list[Finding]
    comparisons: list[Comparison] = field(default_factory=list)
    """Embeddings compared with what the backbone gives for the image now."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        n = f"{counted(self.n_files, 'file')} and {counted(self.n_embeddings, 'embedding')} checked"
        again = [f"{each.backbone}: {each.n_different} of {each.n_compared} differ now" for each in self.comparisons]
        verdict = "is sound" if self.is_sound else "is not sound"
        return [f"{self.cache} {verdict}; {n}", *some_lines(again), *some_lines([each.what for each in self.findings])]

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(each) for each in self.findings]


@dataclass(frozen=True, repr=False)
class RepairReport(Shown):
    """What was mended; `to_frame()` has a row for each finding, and whether it `is_mended`."""

    cache: str
    mended: list[Finding]
    left: list[Finding]
    """Damage that only a backup can mend."""
    n_rows_lost: dict[str, int]
    """Backbone to the rows that the next extraction computes again."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        lost = [f"{name}: {count:,} rows to extract again" for name, count in self.n_rows_lost.items() if count]
        return [f"{self.cache}: {len(self.mended):,} mended, {len(self.left):,} left", *some_lines(lost)]

    def _records(self) -> list[dict[str, Any]]:
        mended = [record_of(each) | {"is_mended": True} for each in self.mended]
        return [*mended, *(record_of(each) | {"is_mended": False} for each in self.left)]


@public
def verify(
    cache: str | Path,
    *,
    sample: int | None = None,
    images: bool = False,
    backbones: Sequence[str] | None = None,
    weights: Mapping[str, str | Path] | None = None,
    runtime: Runtime | None = None,
    seed: int = SEED,
    progress: Progress = automatic,
) -> VerifyReport:
    """Compare every file of a cache with what was committed and, if asked, embeddings with their images.

    Args:
        cache: path or URL.
        sample: embeddings of each backbone to check, at random; None: all, and 32 images where those are asked for.
        images: whether to run the backbones again over random images and compare.
        backbones: whose images to compare; None: all that can be loaded.
        weights: local checkpoints by backbone name.
        runtime: for the re-extraction.
        seed: of the samples.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        OptionError: if the sample is empty.
        CacheNotFoundError, NotACacheError, CorruptCacheError: if the cache cannot even be opened.
        CacheLockedError: if it is being written.

    Example:
        >>> report = dvme.cache.verify("my.zarr")
        >>> report.is_sound
        True
    """
    if sample is not None and sample < 1:
        raise OptionError(f"a sample of {sample} checks nothing; pass " + parameter("sample", 1) + " or more")
    if not images and (backbones is not None or weights):
        what = parameter("backbones") + " and " + parameter("weights")
        raise OptionError(what + " are for embedding images again; pass " + parameter("images", True) + " as well")
    store = open_cache(cache)
    compared_names = store.backbones if backbones is None else kept_names(store, backbones)
    stray = sorted(set(weights or {}) - {*compared_names, *(split_name(name)[0] for name in compared_names)})
    if stray:
        message = f" names {', '.join(stray)}, but these embeddings are not compared; leave it out"
        raise OptionError(parameter("weights") + message)
    found = verify_cache(store, sample=sample, seed=seed, tell=lambda done, total: progress("shards", done, total))
    comparisons = []
    if images:
        size = sample or IMAGES_COMPARED
        for name in compared_names:
            file = (weights or {}).get(name) or (weights or {}).get(split_name(name)[0])
            comparisons.append(compare_with_images(store, name, file, runtime or Runtime(), size, seed))
            progress("embed again", len(comparisons), len(compared_names))
    return VerifyReport(
        cache=os.fspath(cache),
        is_sound=found.is_sound
        and all(item.is_equal for item in comparisons)
        and any(item.n_compared for item in comparisons) == images,
        n_files=found.n_files,
        n_bytes=found.n_bytes,
        n_embeddings=found.n_rows_checked,
        n_pending=found.n_rows_pending,
        findings=found.findings,
        comparisons=comparisons,
    )


@public
def repair(cache: str | Path, *, progress: Progress = automatic) -> RepairReport:
    """Mend what can be mended. Rows whose bytes are lost become pending, for `dvme extract` to compute again.

    Args:
        cache: path or URL.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        CacheNotFoundError, NotACacheError, CorruptCacheError: if the cache cannot even be opened.
        CacheLockedError: if it is being written.

    Example:
        >>> report = dvme.cache.repair("my.zarr")
        >>> report.mended
        []
    """
    check_unlocked(cache)
    open_cache(cache)  # a place without a cache must not become one
    with EmbeddingCache.writing(cache) as store:
        done = repair_cache(store, tell=lambda done, total: progress("shards", done, total))
    return RepairReport(os.fspath(cache), done.mended, done.left, done.n_rows_lost)
