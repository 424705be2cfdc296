"""One map for each of several embeddings of the same rows, to be seen side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.maps.alignment import aligned
from dvme.maps.map_store import Kept, key_of
from dvme.maps.projection import initial_positions, project, refuse_equal, settings
from dvme.maps.quality import ALL_POINTS, NEIGHBOURS, SAMPLE, SILHOUETTE_SAMPLE, MapQuality, measure
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
    load: Callable[[], NDArray[Any]]
    """Reads the (N, D) embeddings; called only if something has to be computed, and then once."""


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
    kept: Kept,
    progress: Progress = silent,
) -> list[EmbeddingMap]:
    """Map every embedding, all from the same start and aligned to the first, and measure every map.

    Args:
        sources: embeddings of the same N >= MIN_ROWS rows; the first is the reference.
        method: `tsne`, `umap` or `pca`.
        labels: (N,) str, "" for none.
        groups: (N,) str, such as the patient, "" for none.
        is_query: (N,) bool, see `quality.measure`; None: all.
        may_vote: (N,) bool, see `quality.measure`; None: all.
        seed: of the maps and of the samples that their quality is measured on.
        kept: maps of before.
        progress: told (stage, done, total).

    Raises:
        DataError: if all embeddings of a source are equal.
    """
    everyone = np.ones(len(labels), dtype=bool)
    asked = everyone if is_query is None else np.asarray(is_query, dtype=bool)
    known = everyone if may_vote is None else np.asarray(may_vote, dtype=bool)
    reference = _Embedding(sources[0])
    mapper = _Mapper(method, seed, kept, reference, labels, groups, asked, known)
    raw: list[tuple[NDArray[Any], MapQuality, bool]] = []
    for done, source in enumerate(sources):
        progress(f"{method} maps", done, len(sources))
        # Only the reference stays: any later map may have to start from it.
        raw.append(mapper.mapped(_Embedding(source) if done else reference))
    progress(f"{method} maps", len(sources), len(sources))
    return [
        EmbeddingMap(source.name, method, aligned(positions, raw[0][0]), quality, is_kept)
        for source, (positions, quality, is_kept) in zip(sources, raw, strict=True)
    ]


@dataclass
class _Embedding:
    """A source that is read when first needed."""

    source: Source

    @cached_property
    def unit(self) -> NDArray[Any]:
        """(N, D) float32, L2-normalised, so that Euclidean neighbours are cosine neighbours, as for kNN."""
        unit = unit_rows(self.source.load())
        refuse_equal(unit, self.source.name)
        return unit


@dataclass
class _Mapper:
    """Maps embeddings of the same rows by the same method."""

    method: str
    seed: int
    kept: Kept
    reference: _Embedding
    labels: NDArray[Any]
    groups: NDArray[Any]
    is_query: NDArray[Any]
    may_vote: NDArray[Any]

    @cached_property
    def initial(self) -> NDArray[Any] | None:
        """(N, 2) where every map starts; None of PCA."""
        return None if self.method == "pca" else initial_positions(self.reference.unit, self.seed)

    def mapped(self, embedding: _Embedding) -> tuple[NDArray[Any], MapQuality, bool]:
        """(N, 2) positions before alignment, their quality, and whether the positions had been kept."""
        start = None if self.method == "pca" else self.reference.source.digest
        key = key_of(
            "positions", REVISION, self.method, embedding.source.digest, start, self.seed, settings(self.method)
        )
        found = self.kept.read(key)
        if found is None:
            positions = project(embedding.unit, self.method, initial=self.initial, seed=self.seed)
            self.kept.write(key, positions=positions)
        else:
            positions = found["positions"]
        return positions, self._quality(embedding, positions, key), found is not None

    def _quality(self, embedding: _Embedding, positions: NDArray[Any], position_key: str) -> MapQuality:
        known = key_of(*(own.tolist() for own in (self.labels, self.groups, self.is_query, self.may_vote)))
        key = key_of("quality", position_key, known, NEIGHBOURS, ALL_POINTS, SAMPLE, SILHOUETTE_SAMPLE)
        found = self.kept.read(key)
        if found is not None:
            return MapQuality(**{name: value.item() for name, value in found.items()})
        quality = measure(
            embedding.unit,
            positions,
            self.labels,
            self.groups,
            is_query=self.is_query,
            may_vote=self.may_vote,
            seed=self.seed,
        )
        self.kept.write(key, **{name: np.asarray(value) for name, value in asdict(quality).items()})
        return quality
