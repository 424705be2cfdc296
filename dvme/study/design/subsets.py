"""`dvme subsets`: draw the subsets of a study from a cache, and write them down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dvme.arguments import public
from dvme.data.names import names_of_rows
from dvme.destination import check_destination
from dvme.places import open_cache
from dvme.runtime import Progress, automatic, silent
from dvme.study.design.drawing import Drawing, lacking_notices
from dvme.study.design.duplicates import across_splits, describe, listed, without_duplicates
from dvme.study.design.inspection import Inspection, Similar
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.options import SubsetOptions
from dvme.study.methods import alike_rows, group_notices, named_backbones, usable_rows
from dvme_cache import EmbeddingCache


@dataclass(frozen=True)
class SubsetReport:
    """The outcome of `dvme subsets`."""

    manifest: SubsetManifest
    path: str | None
    """Where it was written."""
    n_left_out: dict[str, int]
    """Rows that take no part, by reason."""
    notices: list[str] = field(default_factory=list)
    """The manifest's, and what is of this cache alone."""
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    """Near-duplicates on two sides, as they are before any is dropped."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        manifest = self.manifest
        return {
            "path": self.path,
            "hash": manifest.hash,
            "policy": dict(manifest.policy),
            "classes": list(manifest.classes),
            "n_images": len(manifest.images),
            "n_test": len(manifest.test),
            "sizes": [
                {"size": name, "n_train": draw.n_train[index], "n_validation": draw.n_validation[index]}
                for draw in manifest.draws[:1]
                for index, name in enumerate(manifest.sizes)
            ],
            "n_draws": len(manifest.draws),
            "notices": self.notices,
            "n_left_out": self.n_left_out,
            "duplicates": self.duplicates,
        }


@public
def subsets(
    cache: str | Path,
    out: str | Path | None = None,
    *,
    options: SubsetOptions | None = None,
    backbones: Sequence[str] | None = None,
    force: bool = False,
    progress: Progress = automatic,
) -> SubsetReport:
    """Draw nested training subsets, their validation images and one test set, and look for near-duplicates.

    Args:
        cache: path of a cache.
        out: file to write, or None.
        options: how to draw.
        backbones: images that lack an embedding of one of these take no part; None: all of the cache.
        force: whether a file that is there is replaced.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, CacheError: each says what is wrong and what to do.
    """
    if out is not None:
        check_destination(out, (), force=force)
    store = open_cache(cache)
    names = named_backbones(store, backbones)
    rows, left_out = usable_rows(store, names)
    manifest, duplicates = draw_subsets(store, names, rows, options or SubsetOptions(), progress)
    if out is not None:
        manifest.save(out)
    left = {reason: count for reason, count in left_out.items() if count}
    notices = [*manifest.notices, *group_notices(store.column("group")[rows])]
    return SubsetReport(manifest, None if out is None else os.fspath(out), left, notices, duplicates)


def draw_subsets(
    store: EmbeddingCache,
    names: Sequence[str],
    rows: NDArray[Any],
    options: SubsetOptions,
    progress: Progress = silent,
) -> tuple[SubsetManifest, list[dict[str, Any]]]:
    """A manifest over some rows of a cache, and the near-duplicates that it had on two sides."""
    columns = store.columns(["label", "split", "group"])
    labels, splits, groups = (columns[name][rows] for name in ("label", "split", "group"))
    drawing = Drawing(options, labels, splits, groups, store.class_order)
    twins, constant = alike_rows(store, names, rows)
    manifest = drawing.manifest(store.samples.ids[rows], twins)
    similar = find_similar(store, names, rows, progress)
    found = across_splits(manifest, similar)
    paths = names_of_rows(store, rows)
    lines = describe(found, paths, [name for name in similar.blind if name not in constant])
    if options.drop_duplicates and found:
        manifest = without_duplicates(manifest, similar, drawing.draw)
        lines = [line.replace("; --drop-duplicates leaves them out", ": left out of training") for line in lines]
    manifest = _noted(manifest, [*drawing.notices, *lacking_notices(manifest), *constant.values(), *lines])
    return manifest, listed(found, paths)


def find_similar(
    store: EmbeddingCache, names: Sequence[str], rows: NDArray[Any], progress: Progress = silent
) -> Similar:
    """Pairs of rows that all but coincide in any backbone."""
    inspection = Inspection()
    for done, name in enumerate(names):
        progress("compare images", done, len(names))
        inspection.add(name, store.embeddings(name).read(rows))
    progress("compare images", len(names), len(names))
    return inspection.found().similar


def _noted(manifest: SubsetManifest, notices: Sequence[str]) -> SubsetManifest:
    return SubsetManifest(**(vars(manifest) | {"notices": tuple(notices)}))
