"""The images of a page in the plane: where their embeddings come from, their maps, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.dense import is_dense
from dvme.data import MISSING
from dvme.data.findings import are_findings
from dvme.heads.fusion.network_head import FittedNetwork
from dvme.heads.saved_head import SavedHead
from dvme.maps.map_store import Kept, default_folder, key_of
from dvme.maps.maps import EmbeddingMap, Source, make_maps
from dvme.maps.quality import MapQuality
from dvme.report.finding_columns import NO_NUMBERS, check_finding, finding_columns
from dvme.report.html.explorer import METHOD_NAMES, Column, Measured, Points
from dvme.report.html.thumbnails import EDGES, token_thumbnails
from dvme.report.options import PageOptions
from dvme.report.points import names_of, points_of
from dvme.runtime import Progress, silent
from dvme.segmentation.colours import token_colours
from dvme.segmentation.maps import DenseMaps, means_of
from dvme.text import counted
from dvme_cache import EmbeddingCache

MOST_SHOWN = EDGES[-1][0]
MOST_TOKENS = EDGES[0][0]
TOKENS = (
    "Of dense features an image is the mean over all of its tokens. What hovers shows the tokens themselves: their "
    "first three principal components as red, green and blue, as the square that the backbone saw."
)
TAUGHT = (
    "The fused embedding was trained with the labels of the images that its head was fitted on: they lie apart by "
    "class because they were taught to. Numbers by label are of images new to every head, voted on by the others."
)


@dataclass(frozen=True)
class PageMaps:
    """N images and their maps."""

    points: Points
    maps: list[EmbeddingMap]
    """Embeddings within methods."""
    has_files: bool = True
    """Whether the path of any image is known; imported embeddings may be of names alone."""
    notes: tuple[str, ...] = ()
    """What is to be said above the maps."""

    @property
    def n_without_thumbnail(self) -> int:
        """All of them, where none is to be shown."""
        small = self.points.thumbnails
        return len(self.points.ids) if small is None else len(small.missing)

    def missing(self, options: PageOptions) -> str:
        """A line on images that are not shown though they may be seen; "" where there is none."""
        if not options.thumbnails or not self.n_without_thumbnail:
            return ""
        if not self.has_files:
            return "no thumbnails: the images of this cache are known by name only"
        small, n = self.points.thumbnails, self.n_without_thumbnail
        if small is None and n > MOST_SHOWN:
            return f"no thumbnails: a page holds those of {MOST_SHOWN:,} images at most, these are {n:,}"
        first = self.points.ids[0 if small is None else int(small.missing[0])]
        which = f"{counted(n, 'image')} of {len(self.points.ids):,} cannot be shown, the first is {first}"
        return f"{which}: the file is gone or was changed since it was embedded; put it back where it was"

    @property
    def approximate(self) -> list[str]:
        """Lines on images that were placed beside others, and on numbers of drawn images; [] where there are few."""
        large = [each for each in self.maps if each.quality.n_measured is not None]
        if not large:
            return []
        placed = list(dict.fromkeys(METHOD_NAMES[each.method] for each in large if each.quality.n_laid_out is not None))
        n_drawn, n = large[0].quality.n_measured, len(self.points.ids)
        laid_out = f"{n_drawn:,} of {n:,} images laid out, the others placed beside them"
        measured = f"numbers of maps are measured among {n_drawn:,} images drawn at random"
        return [*([f"{' and '.join(placed)}: {laid_out}"] if placed else []), measured]

    @property
    def qualities(self) -> dict[str, dict[str, MapQuality]]:
        """By method and embedding."""
        methods = dict.fromkeys(each.method for each in self.maps)
        return {of: {each.name: each.quality for each in self.maps if each.method == of} for of in methods}


def draw(
    store: EmbeddingCache,
    rows: NDArray[Any],
    sources: Sequence[Source],
    added: Mapping[str, Column],
    options: PageOptions,
    *,
    own: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    is_new: NDArray[Any] | None = None,
    progress: Progress = silent,
) -> PageMaps:
    """Map embeddings of some rows, and describe their images; of dense features their tokens, where they may be seen.

    Args:
        store: the cache.
        rows: (N,) its rows.
        sources: embeddings of these rows; the first is what all maps start from and are turned onto.
        added: further columns, see `points_of`.
        options: what is shown.
        own: (N,) each: labels and groups of a run, in place of those that the cache has now.
        is_new: (N,) bool, images that no head has learned from: then quality by label is of these, voted on by the
            others; None: of all images, by all.
        progress: told (stage, done, total).
    """
    kept = Kept(default_folder())
    columns = {name: values[rows] for name, values in store.columns(["label", "group"]).items()} | dict(own)
    check_finding(options.finding, columns["label"])
    several = are_findings(columns["label"])
    judged = np.full(len(rows), MISSING, dtype=object) if several else columns["label"]
    maps = [
        each
        for method in options.methods
        for each in make_maps(
            sources,
            method=method,
            labels=judged,
            groups=columns["group"],
            is_query=is_new,
            may_vote=None if is_new is None else ~is_new,
            seed=options.seed,
            kept=kept,
            progress=progress,
        )
    ]
    if options.anonymous:  # rows mostly lie in the order of their names
        order = np.argsort(names_of(store, rows, is_anonymous=True))
        rows, added = rows[order], {name: _taken(values, order) for name, values in added.items()}
        own = {name: values[order] for name, values in own.items()}
        maps = [replace(each, positions=each.positions[order]) for each in maps]
    has_files = bool((store.column("path")[rows] != MISSING).any())
    points = points_of(store, rows, added, options, own=own, kept=kept, progress=progress)
    notes = [NO_NUMBERS] if several else []
    dense = [each.name for each in sources if is_dense(each.name)]
    if dense and options.thumbnails:
        points, said = _with_tokens(points, store, rows, dense)
        notes.append(said)
    return PageMaps(points, maps, has_files, tuple(notes))


def _with_tokens(points: Points, store: EmbeddingCache, rows: NDArray[Any], dense: Sequence[str]) -> tuple[Points, str]:
    """The same with the tokens of dense backbones as colours, and a line on them."""
    if len(rows) > MOST_TOKENS:
        return points, f"no tokens as colours: a page holds those of {MOST_TOKENS:,} images at most"
    tokens = {}
    for name in dense:
        colours = token_colours(DenseMaps(store.embeddings(name)), rows, np.sort(rows))
        tokens[name] = token_thumbnails(colours)
    return replace(points, tokens=tokens), TOKENS


def _taken(values: Column, order: NDArray[Any]) -> Column:
    if isinstance(values, Measured):
        return Measured(values.values[order], [values.texts[place] for place in order])
    taken: NDArray[Any] = values[order]
    return taken


def colours(labels: NDArray[Any], finding: str | None) -> NDArray[Any]:
    """(N,) what the points of a figure are coloured by: labels, or whether images have a finding, see `PageOptions`."""
    if not are_findings(labels):
        return labels
    name, words = next(iter(finding_columns(labels, finding).items()))
    return np.array([f"{name}: {word}" if word != MISSING else MISSING for word in words], dtype=object)


def embedding_source(store: EmbeddingCache, name: str, rows: NDArray[Any]) -> Source:
    """A backbone's embeddings of some rows, to be mapped; of dense features the mean over all tokens of an image."""
    table, ids = store.embeddings(name), store.samples.ids[rows].tobytes().hex()
    if is_dense(name):
        digest = key_of("means", table.fingerprint.digest, ids)
        return Source(name, digest, lambda some: means_of(DenseMaps(table), rows[some]))
    return Source(name, key_of("embedding", table.fingerprint.digest, ids), lambda some: table.read(rows[some]))


def fused_source(saved: SavedHead, store: EmbeddingCache, rows: NDArray[Any]) -> Source:
    """The layer that a fusion's first fold reads the class from, of some rows.

    Every fold has a space of its own, so one of them is shown. Pages say TAUGHT beside it.
    """
    network = saved.folds[0].head
    assert isinstance(network, FittedNetwork)
    arrays = network.arrays()
    parts = [saved.name, *(each.digest for each in saved.fingerprints), store.samples.ids[rows].tobytes().hex()]
    digest = key_of("fused", *parts, *(key_of(name, arrays[name].tobytes().hex()) for name in sorted(arrays)))
    name = f"{saved.name}, first fold"
    return Source(name, digest, lambda some: network.hidden(store.read_aligned(saved.backbones, rows[some])))
