"""What a study is about, taken once from one moment of a cache: who takes part, and the embeddings of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.masks import Masks
from dvme.data.names import named_images
from dvme.data.samples import MASK
from dvme.data.targets import Targets
from dvme.data.uncertainty import Uncertainty
from dvme.errors import DataError, parameter
from dvme.heads.fitting.row_blocks import RowArray, RowsOf
from dvme.notices import Aside
from dvme.segmentation.maps import DenseMaps, means_of
from dvme.study.design.cached_rows import CachedRows
from dvme.study.design.inspection import seen_key
from dvme.study.design.learned import Learned, learned_of
from dvme.study.design.named import kept_column
from dvme.study.design.origin import origin_kept
from dvme.study.design.splits import groups_to_resample
from dvme.study.design.views import Views
from dvme.text import NO_GROUPS, first_few
from dvme_cache import EmbeddingCache, RowState
from dvme_cache.embeddings import Embeddings
from dvme_cache.reading import read_states

NO_LABEL = "without a label"
"""Why an image takes no part."""
NO_MASK = "without a mask"
LACKS_VIEW = "without all of the views"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """N images of a cache, each with a label and an embedding of every backbone, as they were at one moment."""

    location: str
    """Of the cache."""
    rows: NDArray[np.int64]
    """(N,) of the cache."""
    ids: NDArray[np.uint8]
    """(N, 16) content ids."""
    labels: NDArray[Any]
    """(N,) as the cache has them."""
    splits: NDArray[Any]
    """(N,) `train`, `val`, `test`, or ""."""
    groups: NDArray[Any]
    """(N,) names, "" for an image that is a group of its own."""
    images: NDArray[Any]
    """(N,) what their source called them."""
    paths: NDArray[Any]
    """(N,) where they are, as far as the cache knows."""
    class_order: tuple[str, ...]
    """Of the labels, where the user gave one."""
    backbones: Mapping[str, Embeddings]
    """Open, by name."""
    left_out: Mapping[str, int]
    """Images that take no part, by reason; only reasons that there are."""
    views: Mapping[str, tuple[Embeddings, ...]] = field(default_factory=dict)
    """Of the further views that heads learn from, as many of each backbone; none of a study of plain images."""
    averages_views: bool = False
    """Whether predictions are means over the views as well."""
    kept: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns that were asked for, by the name that they were asked by, to (N,) texts."""
    learned: Mapping[str, Learned] = field(default_factory=dict)
    """What those of the backbones know of these images whose weights were trained on some."""
    is_segmentation: bool = False
    """Whether `labels` are masks, and the backbones have dense features."""
    _held: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    _most_held: int = 0

    @classmethod
    def take(
        cls,
        store: EmbeddingCache,
        names: Sequence[str],
        further: Sequence[str] = (),
        views: Views | None = None,
        *,
        is_segmentation: bool = False,
    ) -> Snapshot:
        """Everybody with a label and an embedding of each of these backbones in all of the views, and further columns.

        Of a segmentation everybody with a mask.

        Raises:
            DataError: if there is nobody, or no such column.
        """
        sources = {name: kept_column(store, name) for name in further}
        wanted = MASK if is_segmentation else "label"
        columns, order = store.columns_and_order([wanted, "split", "group", "path", *sources.values()])
        backbones, seen = _opened(store, names, views)
        every = read_states([table.stored for own in (backbones.values(), *seen.values()) for table in own])
        n_rows = min(*map(len, every), len(columns[wanted]))  # a writer may add images between the reads
        states, in_views = np.split(np.stack([each[:n_rows] for each in every]), [len(backbones)])
        has_label = columns[wanted][:n_rows] != MISSING
        is_failed = (states == RowState.FAILED).any(axis=0)
        is_pending = (states == RowState.PENDING).any(axis=0) & ~is_failed
        is_plain = has_label & ~is_failed & ~is_pending
        lacks_view = (in_views != RowState.DONE).any(axis=0)
        rows = np.flatnonzero(is_plain & ~lacks_view)
        is_pruned = store.samples.is_pruned[:n_rows]
        counts = {
            "without an embedding": int((has_label & is_failed).sum()),
            "not extracted yet": int((has_label & is_pending).sum()),
            LACKS_VIEW: int((is_plain & lacks_view).sum()),
            NO_MASK if is_segmentation else NO_LABEL: int((~has_label & ~is_pruned).sum()),
        }
        left_out = {reason: count for reason, count in counts.items() if count}
        if not len(rows):
            why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
            kind = "row with a mask and" if is_segmentation else "labelled row with"
            which = f"{store.location} has no {kind} an embedding of {', '.join(names)} ({why or 'empty'})"
            if set(left_out) in ({NO_MASK}, {NO_LABEL}):
                raise DataError(which + _how_to_tell(store, is_segmentation=is_segmentation))
            if LACKS_VIEW in left_out and views is not None:
                raise DataError(f"{which}; run {views.command(store.location, names)}")
            bare = [name for name, own in zip(names, states, strict=True) if not (own == RowState.DONE).any()]
            if not 0 < len(bare) < len(names):
                raise DataError(which)
            raise DataError(
                f"{which}; no image has one of {first_few(bare)}: leave it out of " + parameter("backbones")
            )
        images, paths = named_images(store.samples.paths, columns["path"], rows)
        label, split, group = (columns[name][rows] for name in (wanted, "split", "group"))
        ids = store.samples.ids[rows]
        kept = {name: columns[source][rows] for name, source in sources.items()}
        own = cls(store.location, rows, ids, label, split, group, images, paths, order, backbones, left_out)
        learned = learned_of(backbones.values(), store.samples.ids[:n_rows], columns["group"][:n_rows], rows)
        is_averaged = views is not None and views.is_averaged
        own = replace(own, kept=kept, views=seen, averages_views=is_averaged, learned=learned)
        return replace(own, is_segmentation=is_segmentation)

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, positions: NDArray[Any]) -> Snapshot:
        """Some of the images, in this order."""
        per_image = ("rows", "ids", "labels", "splits", "groups", "images", "paths")
        kept = {name: values[positions] for name, values in self.kept.items()}
        learned = {name: own.at(positions) for name, own in self.learned.items()}
        of_each = {name: getattr(self, name)[positions] for name in per_image}
        return replace(self, _held={}, kept=kept, learned=learned, **of_each)

    def targets(self, uncertainty: Uncertainty | None = None) -> Targets:
        """What the images are to be recognised as; see `Targets.of`.

        Raises:
            DataError: if there is nothing to tell apart, or two labels are the same number.
        """
        if self.is_segmentation:
            found = Targets.of_masks(self.masks)
        else:
            found = Targets.of(self.labels, self.class_order, uncertainty)
        found.task.check_trainable()
        return found

    @cached_property
    def masks(self) -> Masks:
        """Of a segmentation."""
        return Masks.of(self.labels)

    @cached_property
    def key(self) -> str:
        """Of what the embeddings of these images say, see `seen_key`."""
        return seen_key({name: table.fingerprint for name, table in self.backbones.items()}, self.ids)

    @property
    def n_bytes(self) -> int:
        """Of all embeddings."""
        return sum(self.size_of(name) for name in self.backbones)

    def size_of(self, name: str) -> int:
        """Bytes of a backbone's embeddings."""
        table = self.backbones[name]
        return len(self) * table.dim * np.dtype(table.dtype).itemsize

    def holding(self, n_bytes: int) -> Snapshot:
        """The same, which keeps what it reads where all of it takes at most so many bytes, so that it is read once."""
        return replace(self, _held={}, _most_held=n_bytes)

    def read(self, name: str) -> NDArray[Any]:
        """(N, D) embeddings of a backbone as they are stored, each proven to be what was committed.

        Of dense features the mean over all tokens of an image, in float32.

        Raises:
            MissingEmbeddingsError, CorruptCacheError: if they are gone, or are not what was committed.
        """
        if name in self._held:
            return self._held[name]
        if self.is_segmentation:
            return means_of(DenseMaps(self.backbones[name]), self.rows)
        values = self.backbones[name].read(self.rows)
        if self.n_bytes <= self._most_held:
            self._held[name] = values
        return values

    def unread(self, name: str) -> RowArray:
        """(N, D) embeddings of a backbone as `read` gives them, but only when rows are asked for."""
        return RowsOf(CachedRows(self.backbones[name]), self.rows)

    @property
    def origins(self) -> dict[str, str]:
        """Of the backbones that were adapted: what from, by their names."""
        specs = {name: table.provenance.get("spec") or {} for name, table in self.backbones.items()}
        return {name: str(spec["adapted_from"]) for name, spec in specs.items() if spec.get("adapted_from")}

    @property
    def n_views(self) -> int:
        """K, the views of each image that heads learn from, the plain one among them."""
        return 1 + len(next(iter(self.views.values()), ()))

    def read_views(self, name: str) -> NDArray[Any]:
        """(K N, D) embeddings of a backbone in every view: those of all images, then their second view, and so on.

        Raises:
            MissingEmbeddingsError, CorruptCacheError: as `read`.
        """
        plain = self.read(name)
        if self.n_views == 1:
            return plain
        found = np.empty((self.n_views, *plain.shape), dtype=plain.dtype)
        found[0] = plain
        for view, table in enumerate(self.views[name], start=1):
            found[view] = table.read(self.rows)
        return found.reshape(-1, plain.shape[1])

    def forget(self, names: Sequence[str]) -> None:
        """Let go of what is held of other backbones than these."""
        for name in set(self._held) - set(names):
            del self._held[name]

    @property
    def notices(self) -> list[str]:
        """Who takes no part, and why; a line where no image has a group, which would keep a patient's together.

        That images have no label is for most studies as it should be.
        """
        lines = {reason: f"left out: {count:,} {reason}" for reason, count in self.left_out.items()}
        left_out = [Aside(line) if reason in {NO_LABEL, NO_MASK} else line for reason, line in lines.items()]
        return left_out if (self.groups != MISSING).any() else [*left_out, NO_GROUPS]

    def numbered_groups(self, positions: NDArray[Any]) -> list[int] | None:
        """Which of some images share a group, without its name; None where there are no groups."""
        units = groups_to_resample(self.groups[positions])
        return None if units is None else units.tolist()


def _how_to_tell(store: EmbeddingCache, *, is_segmentation: bool) -> str:
    """What to do where no image of a cache has a mask, or none has a label."""
    if is_segmentation:
        return f"; dvme cache label {store.location} MANIFEST with " + parameter("mask", "COLUMN") + " adds masks"
    if MASK in store.tables.columns and (store.column(MASK) != MISSING).any():
        return "; its images have masks: name a head of these, such as " + parameter("heads", ["segment-linear"])
    return f"; dvme cache label {store.location} MANIFEST with " + parameter("label", "COLUMN") + " adds labels"


def _opened(
    store: EmbeddingCache, names: Sequence[str], views: Views | None
) -> tuple[dict[str, Embeddings], dict[str, tuple[Embeddings, ...]]]:
    """The embeddings of backbones by name, and of their further views; in an object store opened together."""
    views_of = {} if views is None else {name: views.names_of(name) for name in names}
    every = [*names, *(own for some in views_of.values() for own in some)]
    table_of = dict(zip(every, store.all_embeddings(every), strict=True))
    seen = {name: tuple(table_of[own] for own in some) for name, some in views_of.items()}
    return {name: table_of[name] for name in names}, seen


def backbones_described(snapshot: Snapshot) -> dict[str, Any]:
    """The backbones as a run keeps them, with where they come from, and what they were adapted from."""
    backbones = [
        {
            "name": name,
            "dim": table.dim,
            "digest": table.fingerprint.digest,
            "fingerprint": dict(table.fingerprint.fields),
            **({"provenance": kept} if (kept := origin_kept(table.provenance)) else {}),
        }
        for name, table in snapshot.backbones.items()
    ]
    return {"backbones": backbones} | ({"origins": snapshot.origins} if snapshot.origins else {})


def views_described(snapshot: Snapshot, use: str) -> dict[str, Any] | None:
    """What a run says of the views that it uses, as it was asked; None of a study of plain images."""
    if not snapshot.views:
        return None
    digests = {table.name: table.fingerprint.digest for own in snapshot.views.values() for table in own}
    return {"use": use, "n": snapshot.n_views, "digests": digests}
