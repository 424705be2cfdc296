"""`dvme info`: what a cache holds, at a glance."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.dense import grids_of, maps_text
from dvme.backbones.description.variation import seen_in
from dvme.backbones.description.view import PLAIN
from dvme.backbones.own.trained_on import PROVENANCE, kept_trained_on
from dvme.data import MISSING, Task
from dvme.data.masks import Masks
from dvme.data.samples import MASK
from dvme.errors import DataError
from dvme.extraction.beside import beside
from dvme.places import open_cache
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import record_of
from dvme.text import bytes_text, counted, some_of
from dvme_cache import FORMAT_VERSION, EmbeddingCache, count_states
from dvme_cache.embeddings import Embeddings
from dvme_cache.fingerprint import BY_KIND


@dataclass(frozen=True)
class BackboneSummary:
    """The embeddings of one backbone."""

    backbone: str
    dim: int
    dtype: str
    done: int
    failed: int
    pending: int
    n_bytes: int
    """On disk."""
    fingerprint: dict[str, Any] = field(repr=False)
    digest: str
    """Of the fingerprint."""
    provenance: dict[str, Any] = field(repr=False)
    maps: str = ""
    """The grids of dense features, such as `4 of 14 x 14 x 384`; "" of one vector an image."""
    row_bytes: int = 0
    """Of the features of an image."""

    @property
    def stored_as(self) -> str:
        """The type that was asked for: `int8` of dense features lies in the cache as bytes."""
        return str(self.fingerprint.get("dtype", self.dtype))


@dataclass(frozen=True)
class MaskSummary:
    """The segmentation masks of a cache."""

    n_images: int
    """That have one."""
    classes: dict[str, int]
    """Class to how many images have a pixel of it."""
    is_exclusive: bool
    """Whether a pixel has one class at most."""


@dataclass(frozen=True, repr=False)
class CacheSummary(Shown):
    """A cache in numbers; `to_frame()` has a row for each backbone, see `BackboneSummary`."""

    cache: str
    n_rows: int
    """Images in the cache."""
    n_pruned: int
    """Rows whose image was taken out."""
    n_bytes: int
    """On disk, everything together."""
    format_version: int
    task: Task
    class_order: tuple[str, ...]
    """The user's, which may have classes without an image; () without one."""
    columns: dict[str, int]
    """Column to the number of rows that have a value."""
    backbones: list[BackboneSummary]
    predicted: dict[str, int] = field(default_factory=dict)
    """The cache beside it of images that were only predicted, and how many those are; {} without one."""
    masks: MaskSummary | None = None
    """None without any."""

    @property
    def decodings(self) -> dict[str, list[str]]:
        """How images were made pixels, in words, to the backbones whose embeddings come from that."""
        found: dict[str, list[str]] = {}
        for item in self.backbones:
            if policy := item.fingerprint.get("decoding"):
                found.setdefault(str(policy), []).append(item.backbone)
        return found

    @property
    def decodings_by_kind(self) -> dict[str, str]:
        """How files of further kinds were made pixels, in words, by the name of the fingerprints' field."""
        fields = (item.fingerprint.items() for item in self.backbones)
        return {name: str(policy) for each in fields for name, policy in each if name.startswith(BY_KIND)}

    @property
    def views(self) -> dict[str, int]:
        """Backbone to how many views of the images it has, the plain one among them; of those that have several."""
        plain = [seen_in(item.backbone, PLAIN) for item in self.backbones]
        return {name: plain.count(name) for name in dict.fromkeys(plain) if plain.count(name) > 1}

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"task": self.task.to_json()}

    def _lines(self) -> list[str]:
        first = f"{self.cache} has {counted(self.n_rows, 'image')}, {bytes_text(self.n_bytes)} on disk"
        known = [f"{name} ({count:,})" for name, count in self.columns.items() if count]
        backbones = [
            f"{each.backbone}: {each.maps or each.dim} in {each.stored_as}; {each.done:,} done, "
            f"{each.failed:,} failed, {each.pending:,} pending"
            for each in self.backbones
        ]
        return [first, self.task.describe(), f"columns: {some_of(known) or 'none'}", *some_lines(backbones)]

    def _records(self) -> list[dict[str, Any]]:
        return [record_of(each) for each in self.backbones]


def info(cache: str | Path) -> CacheSummary:
    """Summarise a cache without reading its features.

    Raises:
        CacheNotFoundError, NotACacheError: if there is no cache at this path.

    Example:
        >>> summary = dvme.info("my.zarr")
        >>> summary.n_rows
        40
    """
    store = open_cache(cache)
    is_present = ~store.samples.is_pruned
    columns = store.columns()
    nothing = np.full(store.n_rows, MISSING, dtype=object)
    labels = columns.get("label", nothing)
    return CacheSummary(
        cache=os.fspath(cache),
        n_rows=int(is_present.sum()),
        n_pruned=int((~is_present).sum()),
        n_bytes=sum(store.store.files.sizes().values()),
        format_version=FORMAT_VERSION,
        task=Task.from_labels(labels[is_present], store.class_order),
        class_order=store.class_order,
        columns={name: int((column != MISSING).sum()) for name, column in columns.items() if name != "path"},
        backbones=[_summary(store, name) for name in store.backbones],
        predicted={other.location: int((~other.samples.is_pruned).sum()) for other in beside(cache)},
        masks=_mask_summary(columns.get(MASK, nothing)[is_present]),
    )


def _mask_summary(cells: NDArray[Any]) -> MaskSummary | None:
    """What masks there are; None where the column is of something else, as another dvme may have kept it."""
    try:
        masks = Masks.of(cells[cells != MISSING])
    except DataError:
        return None
    counts = np.nansum(masks.presence, axis=0).astype(int).tolist()
    return (
        MaskSummary(len(masks), dict(zip(masks.names, counts, strict=True)), masks.is_exclusive) if len(masks) else None
    )


def _summary(store: EmbeddingCache, name: str) -> BackboneSummary:
    embeddings = store.embeddings(name)
    grids = grids_of(embeddings.fingerprint.fields)
    return BackboneSummary(
        backbone=name,
        dim=sum(grid.n_values for grid in grids) or embeddings.dim,
        dtype=embeddings.dtype,
        n_bytes=store.n_bytes(name),
        fingerprint=dict(embeddings.fingerprint.fields),
        digest=embeddings.fingerprint.digest,
        provenance=_in_numbers(embeddings),
        maps=maps_text(grids),
        row_bytes=embeddings.features.row_bytes,
        **count_states(embeddings.states()[~store.samples.is_pruned]),
    )


def _in_numbers(embeddings: Embeddings) -> dict[str, Any]:
    """The provenance, with the number of the images that a backbone was trained on in place of their list."""
    provenance = embeddings.provenance
    try:
        kept = kept_trained_on(embeddings.name, provenance)
    except DataError as error:
        return provenance | {PROVENANCE: str(error)}
    if kept is None:
        return provenance
    counts = {"n_images": len(kept.keys), "n_with_labels": len(kept.with_labels)}
    return provenance | {PROVENANCE: counts | {"is_transductive": kept.is_transductive}}
