"""Rows of a cache as a data set of torch, for training of one's own on embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from dvme.data import MISSING
from dvme.data.samples import canonical_split
from dvme.data.targets import Targets
from dvme.dataset.features import Features
from dvme.dataset.rows import Rows
from dvme.defaults import SEED
from dvme.errors import DataError
from dvme.places import open_cache
from dvme.seeds import checked_seed
from dvme.study.design.views import TRAIN, views_asked

Item = Any
"""`(features, target)`, or features alone."""


class EmbeddingDataset(Dataset[Item]):
    """Embeddings of a cache and the classes of its images, read row by row as they are asked for.

    An item is `(features, target)`. The features are a tensor (D,) float32; of several backbones a dict of these by
    name. The target is the index of the class in `classes`, a tensor () int64; of images that may have several findings
    (L,) float32: 1 has it, 0 has it not, nan where that is not known or uncertain. The classes are those of the whole
    cache, so that parts of it agree on them.

    It can be given to workers of a `DataLoader`, however these are started.

    Example:
        >>> data = dvme.EmbeddingDataset("my.zarr", "dino")
        >>> features, target = data[0]
        >>> features.shape, data.classes[target]
        (torch.Size([8]), 'dark')

    Attributes:
        data: the images as of `dvme.open`, in the order of the items.
        backbones: names.
        classes: names of classes or findings, in the order of the targets; () without targets.
        n_views: of each image that are drawn from; 1: the plain one.
        n_left_out: images that lack an embedding, or a label where there are targets.
    """

    def __init__(
        self,
        cache: Rows | str | Path,
        backbones: str | Sequence[str],
        *,
        split: str | None = None,
        targets: bool = True,
        views: bool | str = False,
        seed: int = SEED,
    ) -> None:
        """Choose images.

        Args:
            cache: path or URL, or what `dvme.open` returned of it, of which `.at()` takes some images.
            backbones: a name, or several.
            split: `train`, `val` or `test`: the images of that part alone.
            targets: False: items are features alone, also those of images without a label.
            views: True: each time another view of an image, drawn from all that the cache has; the same one for all
                backbones. By a recipe such as `rotate+crop`, where it has views by several. `set_epoch` draws anew.
            seed: of the views.

        Raises:
            DataError, OptionError, CacheError: if there are no such images, backbones or views.
        """
        whole = cache if isinstance(cache, Rows) else Rows.of(open_cache(cache))
        self.backbones = whole.named(backbones)
        if not self.backbones:
            raise DataError(f"no backbone of {whole.location} is named; it has {', '.join(whole.backbones) or 'none'}")
        self._is_one = isinstance(backbones, str)
        self._inputs = [[name] for name in self.backbones]
        if views:
            recipe = f":{views.removeprefix(f'{TRAIN}:')}" if isinstance(views, str) else ""  # as studies take it too
            found, _ = views_asked(f"{TRAIN}{recipe}", whole.store, self.backbones)
            assert found is not None
            self._inputs = [[name, *found.names_of(name)] for name in self.backbones]
        self.n_views = len(self._inputs[0])
        part = whole if split is None else whole.at(whole.splits == canonical_split(split))
        data = part.complete([name for own in self._inputs for name in own])
        data = data.at(data.labels != MISSING) if targets else data
        if not len(data):
            what = "image with a label and" if targets else "image with"
            where = "" if split is None else f" in its {split} part"
            raise DataError(f"{whole.location} has no {what} an embedding of {', '.join(self.backbones)}{where}")
        self.data, self.n_left_out = data, len(part) - len(data)
        known = _targets(data) if targets else None
        self.classes = () if known is None else known.classes
        self._targets = None if known is None else torch.from_numpy(known.values)
        self.seed = checked_seed(seed)
        self._epoch = torch.zeros((), dtype=torch.int64)
        if self.n_views > 1:
            self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # so that workers which stay hear of the next
        self._drawn: tuple[int, NDArray[np.int64]] | None = None
        self._tables: list[list[Features]] | None = None
        self._opened()  # here, before there are workers

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> Item:
        """One item."""
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Item]:
        """Several items, read together: a `DataLoader` asks for its batches so."""
        chosen = np.arange(len(self))[np.asarray(places, dtype=np.int64)]
        views = self._views_of(chosen)
        blocks = [torch.from_numpy(_read(tables, chosen, views)) for tables in self._opened()]
        features: list[Any] = list(blocks[0])
        if not self._is_one:
            features = [dict(zip(self.backbones, rows, strict=True)) for rows in zip(*blocks, strict=True)]
        if self._targets is None:
            return features
        return list(zip(features, self._targets[torch.from_numpy(chosen)], strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open, which another process opens anew."""
        return vars(self) | {"_tables": None}

    def set_epoch(self, epoch: int) -> None:
        """Draw other views: those of this epoch, the same whenever it comes. Workers that stay draw them as well."""
        self._epoch.fill_(epoch)

    def _views_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) which view of each is shown in this epoch."""
        if self.n_views == 1:
            return np.zeros(len(places), dtype=np.int64)
        epoch = int(self._epoch)
        if self._drawn is None or self._drawn[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._drawn = epoch, rng.integers(self.n_views, size=len(self))
        drawn: NDArray[np.int64] = self._drawn[1][places]
        return drawn

    def _opened(self) -> list[list[Features]]:
        """Of each backbone the embeddings in every view."""
        if self._tables is None:
            self._tables = [[self.data[name] for name in own] for own in self._inputs]
        return self._tables


def _targets(data: Rows) -> Targets:
    """Of labelled images, with the classes of the whole cache."""
    labels = data.every["label"]
    known = np.flatnonzero(labels != MISSING)
    return Targets.of(labels[known], data.class_order).at(np.searchsorted(known, data.rows))


def _read(tables: Sequence[Features], places: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float32]:
    """(B, D) of B places, each in its view."""
    found = np.empty((len(places), tables[0].shape[1]), dtype=np.float32)
    for view in np.unique(views).tolist():
        is_it = views == view
        found[is_it] = tables[view][places[is_it]]
    return found
