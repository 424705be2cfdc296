"""One map for each of several embeddings of the same rows, to be seen side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.maps.alignment import aligned
from dvme.maps.components import blocks_of, components_of
from dvme.maps.map_store import Kept, key_of
from dvme.maps.placing import LAID_OUT, place
from dvme.maps.projection import COMPONENTS, initial_positions, project, refuse_equal, settings
from dvme.maps.quality import ALL_POINTS, NEIGHBOURS, SAMPLE, SILHOUETTE_SAMPLE, MapQuality, measure, measured_rows
from dvme.maps.sampling import CELLS, proportional_sample
from dvme.runtime import Progress, silent
from dvme.vectors import unit_rows

MIN_ROWS = 5
"""Fewest that a map is made of."""
REVISION = 1
"""To be raised whenever the same key would stand for other positions or another quality."""


@dataclass(frozen=True)
class Source:
    """An embedding to be mapped."""

    name: str
    """Shown to the user, such as the backbone."""
    digest: str
    """Of everything that determines the values for these rows."""
    read: Callable[[NDArray[Any]], NDArray[Any]]
    """Reads the (B, D) embeddings of (B,) of the N rows; called only if something has to be computed. All rows are read
    at once, or of more than are laid out in blocks, twice."""


@dataclass(frozen=True)
class EmbeddingMap:
    """One embedding in the plane."""

    name: str
    """Of its source."""
    method: str
    """One of `projection.METHODS`."""
    positions: NDArray[Any]
    """(N, 2) float32, aligned to the first map; root-mean-square radius 1."""
    quality: MapQuality
    """How far to trust it."""
    is_kept: bool
    """Whether the positions had been computed before."""


def make_maps(  # noqa: PLR0913 - what is known of the rows, and what a map depends on
    sources: Sequence[Source],
    *,
    method: str,
    labels: NDArray[Any],
    groups: NDArray[Any],
    is_query: NDArray[Any] | None = None,
    may_vote: NDArray[Any] | None = None,
    seed: int = 0,
    most: int = LAID_OUT,
    kept: Kept,
    progress: Progress = silent,
) -> list[EmbeddingMap]:
    """Map every embedding, all from the same start and aligned to the first, and measure every map.

    Of more than `most` rows, t-SNE and UMAP lay out a sample, the same of every embedding, and place the others beside
    it. PCA takes all rows. Embeddings are then read in blocks, and all numbers are of rows that are drawn.

    Args:
        sources: embeddings of the same N >= MIN_ROWS rows; the first is the reference.
        method: `tsne`, `umap` or `pca`.
        labels: (N,) str, "" for none.
        groups: (N,) str, such as the patient, "" for none.
        is_query: (N,) bool, see `quality.measure`; None: all.
        may_vote: (N,) bool, see `quality.measure`; None: all.
        seed: of the maps and of the samples that they are made of and measured on.
        most: rows up to which t-SNE and UMAP lay out all, at least MIN_ROWS.
        kept: maps of before.
        progress: told (stage, done, total).

    Raises:
        DataError: if all embeddings of a source are equal.
    """
    everyone = np.ones(len(labels), dtype=bool)
    asked = everyone if is_query is None else np.asarray(is_query, dtype=bool)
    known = everyone if may_vote is None else np.asarray(may_vote, dtype=bool)
    reference = _Embedding(sources[0], len(labels))
    mapper = _Mapper(method, seed, most, kept, reference, labels, groups, asked, known, progress)
    raw: list[tuple[NDArray[Any], MapQuality, bool]] = []
    for done, source in enumerate(sources):
        progress(f"{method} maps", done, len(sources))
        # Only the reference stays: any later map may have to start from it.
        raw.append(mapper.mapped(_Embedding(source, len(labels)) if done else reference))
    progress(f"{method} maps", len(sources), len(sources))
    return [
        EmbeddingMap(source.name, method, aligned(positions, raw[0][0]), quality, is_kept)
        for source, (positions, quality, is_kept) in zip(sources, raw, strict=True)
    ]


@dataclass
class _Embedding:
    """A source that is read when first needed."""

    source: Source
    n_rows: int

    @cached_property
    def unit(self) -> NDArray[Any]:
        """(N, D) float32, L2-normalised, so that Euclidean neighbours are cosine neighbours, as for kNN."""
        unit = self.unit_of(np.arange(self.n_rows))
        refuse_equal(unit, self.source.name, self.n_rows)
        return unit

    def unit_of(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(B, D) of some rows."""
        return unit_rows(self.source.read(rows))

    def unit_of_many(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(B, D) of some rows, read in blocks: copies on the way are of a block."""
        return np.concatenate(list(blocks_of(lambda places: self.unit_of(rows[places]), len(rows))))

    @cached_property
    def reduced(self) -> NDArray[np.float32]:
        """(N, K) principal components of all rows, which are never held together."""
        components = components_of(blocks_of(self.unit_of, self.n_rows), COMPONENTS)
        refuse_equal(components.extremes, self.source.name, self.n_rows)
        return np.concatenate([components.scores(block) for block in blocks_of(self.unit_of, self.n_rows)])


@dataclass
class _Mapper:
    """Maps embeddings of the same rows by the same method."""

    method: str
    seed: int
    most: int
    kept: Kept
    reference: _Embedding
    labels: NDArray[Any]
    groups: NDArray[Any]
    is_query: NDArray[Any]
    may_vote: NDArray[Any]
    progress: Progress

    @property
    def is_large(self) -> bool:
        """Whether there are more rows than are laid out."""
        return len(self.labels) > self.most

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """(n,) rows that are laid out, in proportion to where the reference has all rows."""
        return proportional_sample(self.reference.reduced, self.most, self.seed)

    @cached_property
    def initial(self) -> NDArray[Any] | None:
        """(N, 2) where every map starts, or of a sample (n, 2); None of PCA."""
        if self.method == "pca":
            return None
        if self.is_large:
            return self.reference.reduced[self.sample, :2].astype(np.float64)
        return initial_positions(self.reference.unit, self.seed)

    def mapped(self, embedding: _Embedding) -> tuple[NDArray[Any], MapQuality, bool]:
        """(N, 2) positions before alignment, their quality, and whether the positions had been kept."""
        start = None if self.method == "pca" else self.reference.source.digest
        large = [{"laid_out": self.most, "regions": CELLS}] if self.is_large else []
        key = key_of(
            "positions", REVISION, self.method, embedding.source.digest, start, self.seed, settings(self.method), *large
        )
        found = self.kept.read(key)
        if found is None:
            positions = self._positions(embedding)
            self.kept.write(key, positions=positions)
        else:
            positions = found["positions"]
        return positions, self._quality(embedding, positions, key), found is not None

    def _positions(self, embedding: _Embedding) -> NDArray[Any]:
        if not self.is_large:
            return project(embedding.unit, self.method, initial=self.initial, seed=self.seed)
        if self.method == "pca":
            return embedding.reduced[:, :2].copy()
        assert self.initial is not None
        reduced, told = embedding.reduced, self.progress
        return place(reduced, self.sample, self.method, initial=self.initial, seed=self.seed, progress=told)

    def _quality(self, embedding: _Embedding, positions: NDArray[Any], position_key: str) -> MapQuality:
        known = key_of(*(own.tolist() for own in (self.labels, self.groups, self.is_query, self.may_vote)))
        key = key_of("quality", position_key, known, NEIGHBOURS, ALL_POINTS, SAMPLE, SILHOUETTE_SAMPLE)
        found = self.kept.read(key)
        if found is None:
            quality = self._measured(embedding, positions)
            known_values = {name: value for name, value in asdict(quality).items() if value is not None}
            self.kept.write(key, **{name: np.asarray(value) for name, value in known_values.items()})
        else:
            quality = MapQuality(**{name: value.item() for name, value in found.items()})
        if not self.is_large:
            return quality
        return replace(quality, n_laid_out=None if self.method == "pca" else self.most, n_measured=self.most)

    def _measured(self, embedding: _Embedding, positions: NDArray[Any]) -> MapQuality:
        if not self.is_large:
            return measure(
                embedding.unit,
                positions,
                self.labels,
                self.groups,
                is_query=self.is_query,
                may_vote=self.may_vote,
                seed=self.seed,
            )
        drawn = measured_rows(self.labels, self.is_query, self.may_vote, self.most, self.seed)
        return measure(
            embedding.unit_of_many(drawn.rows),
            positions[drawn.rows],
            self.labels[drawn.rows],
            self.groups[drawn.rows],
            is_query=drawn.is_query,
            may_vote=drawn.may_vote,
            is_among=drawn.is_among,
            seed=self.seed,
        )
