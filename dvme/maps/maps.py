"""One map for each of several embeddings of the same rows, to be seen side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.maps.alignment import aligned
from dvme.maps.map_store import Kept, default_folder, key_of
from dvme.maps.projection import check_method, initial_positions, project, refuse_equal, settings
from dvme.maps.quality import ALL_POINTS, NEIGHBOURS, SAMPLE, SILHOUETTE_SAMPLE, MapQuality, measure
from dvme.runtime import Progress, silent
from dvme.seeds import checked_seed
from dvme.vectors import unit_rows

MIN_ROWS = 5
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
    kept: Kept | None = None,
    progress: Progress = silent,
) -> list[EmbeddingMap]:
    """Map every embedding, all from the same start and aligned to the first, and measure every map.

    Args:
        sources: embeddings of the same N rows; the first is the reference.
        method: `tsne`, `umap` or `pca`.
        labels: (N,) str, "" for none.
        groups: (N,) str, such as the patient, "" for none.
        is_query: (N,) bool, see `quality.measure`; None: all.
        may_vote: (N,) bool, see `quality.measure`; None: all.
        seed: of the maps and of the samples that their quality is measured on.
        kept: maps of before; None: those in the user's cache folder. `Kept(None)` neither reads nor writes any.
        progress: told (stage, done, total).

    Raises:
        OptionError: if the method is unknown, or the seed is none.
        DataError: if there are too few rows, or all embeddings of a source are equal.
    """
    check_method(method)
    seed = checked_seed(seed)
    if len(labels) < MIN_ROWS:
        raise DataError(f"{len(labels)} rows cannot be mapped, a map needs {MIN_ROWS}; add images")
    everyone = np.ones(len(labels), dtype=bool)
    asked = everyone if is_query is None else np.asarray(is_query, dtype=bool)
    known = everyone if may_vote is None else np.asarray(may_vote, dtype=bool)
    annotated = _Annotated(labels, groups, asked, known)
    mapper = _Mapper(method, seed, Kept(default_folder()) if kept is None else kept, annotated)
    embeddings = [_Embedding(source, len(labels)) for source in sources]
    raw: list[tuple[NDArray[Any], MapQuality, bool]] = []
    for done, embedding in enumerate(embeddings):
        progress(f"{method} maps", done, len(embeddings))
        raw.append(mapper.mapped(embedding, embeddings[0]))
        if done:
            embedding.forget()  # the reference stays: any later map may have to start from it
    progress(f"{method} maps", len(embeddings), len(embeddings))
    return [
        EmbeddingMap(source.name, method, aligned(positions, raw[0][0]), quality, is_kept)
        for source, (positions, quality, is_kept) in zip(sources, raw, strict=True)
    ]


@dataclass(frozen=True)
class _Annotated:
    """What is known of the rows; see `quality.measure`."""

    labels: NDArray[Any]
    groups: NDArray[Any]
    is_query: NDArray[Any]
    may_vote: NDArray[Any]

    def key(self) -> str:
        """Of all of it."""
        return key_of(*(values.tolist() for values in (self.labels, self.groups, self.is_query, self.may_vote)))


@dataclass
class _Embedding:
    """A source that is read when first needed."""

    source: Source
    n_rows: int
    """N that it must have."""
    _unit: NDArray[Any] | None = field(default=None, init=False)

    def unit(self) -> NDArray[Any]:
        """(N, D) float32, L2-normalised, so that Euclidean neighbours are cosine neighbours, as for kNN."""
        if self._unit is None:
            unit = unit_rows(self.source.load())
            if len(unit) != self.n_rows:
                message = f"{self.source.name} has {len(unit)} embeddings for {self.n_rows} labels; pass the same rows"
                raise DataError(message)
            refuse_equal(unit, self.source.name)
            self._unit = unit
        return self._unit

    def forget(self) -> None:
        """Give the memory back."""
        self._unit = None


@dataclass
class _Mapper:
    """Maps embeddings of the same rows by the same method."""

    method: str
    seed: int
    kept: Kept
    annotated: _Annotated
    _initial: NDArray[Any] | None = field(default=None, init=False)

    def mapped(self, embedding: _Embedding, reference: _Embedding) -> tuple[NDArray[Any], MapQuality, bool]:
        """(N, 2) positions before alignment, their quality, and whether the positions had been kept."""
        start = None if self.method == "pca" else reference.source.digest
        key = key_of(
            "positions", REVISION, self.method, embedding.source.digest, start, self.seed, settings(self.method)
        )
        found = self.kept.read(key)
        if found is None:
            positions = project(embedding.unit(), self.method, initial=self._start(reference), seed=self.seed)
            self.kept.write(key, positions=positions)
        else:
            positions = found["positions"]
        return positions, self._quality(embedding, positions, key), found is not None

    def _start(self, reference: _Embedding) -> NDArray[Any] | None:
        if self.method != "pca" and self._initial is None:
            self._initial = initial_positions(reference.unit(), self.seed)
        return self._initial

    def _quality(self, embedding: _Embedding, positions: NDArray[Any], position_key: str) -> MapQuality:
        key = key_of("quality", position_key, self.annotated.key(), NEIGHBOURS, ALL_POINTS, SAMPLE, SILHOUETTE_SAMPLE)
        found = self.kept.read(key)
        if found is not None:
            return MapQuality(**{name: value.item() for name, value in found.items()})
        quality = measure(
            embedding.unit(),
            positions,
            self.annotated.labels,
            self.annotated.groups,
            is_query=self.annotated.is_query,
            may_vote=self.annotated.may_vote,
            seed=self.seed,
        )
        self.kept.write(key, **{name: np.asarray(value) for name, value in asdict(quality).items()})
        return quality
