"""The images of a cache beside their embeddings, a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.arguments import names as several_names
from dvme.backbones.description.variation import seen_in
from dvme.backbones.description.view import PLAIN
from dvme.backbones.loading.kept import kept_names
from dvme.data import MISSING, Task
from dvme.data.names import named_images
from dvme.data.samples import STANDARD
from dvme.dataset.features import Features
from dvme.errors import ArgumentError
from dvme.shown.result import Shown, some_lines
from dvme.study.design.named import kept_column
from dvme.study.design.views import is_view
from dvme.text import counted, some_of
from dvme_cache import EmbeddingCache, RowState, count_states

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Rows(Shown):
    """The images of a cache, in the order of its rows, without those that were pruned.

    `len()` counts them, `["dino"]` are the embeddings of a backbone, see `Features`; row i of all is of the same image.
    Columns are as they were when the cache was opened.
    """

    store: EmbeddingCache
    rows: NDArray[np.int64]
    """(N,) of the cache."""
    every: Mapping[str, NDArray[Any]]
    """Each column, of all rows of the cache, pruned ones among them; "" is missing."""
    first_seen: Sequence[str]
    """The same of the names under which images were first seen."""
    class_order: tuple[str, ...]
    """Of the labels, where the user gave one."""

    @classmethod
    def of(cls, store: EmbeddingCache) -> Self:
        """All that is there now."""
        columns, order = store.columns_and_order([*dict.fromkeys((*STANDARD, "path", *store.tables.columns))])
        return cls(store, np.flatnonzero(~store.samples.is_pruned), columns, store.samples.paths, order)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, backbone: str) -> Features:
        """The embeddings of a backbone, by its name.

        Raises:
            MissingEmbeddingsError: if the cache has none, naming those that it has.
        """
        if not isinstance(backbone, str):
            step = 'name a backbone, such as ["dino"]; .at() takes places of images'
            raise ArgumentError(f"{backbone!r} is no backbone of {self.location}; {step}")
        (name,) = kept_names(self.store, [backbone])
        return Features(self.store.embeddings(name), self.rows, self.images)

    def __contains__(self, backbone: object) -> bool:
        return backbone in self.store.backbones

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open, which another process opens anew."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return own | {"store": self.location}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"store": EmbeddingCache.open(state["store"])})

    @property
    def location(self) -> str:
        """Path or URL."""
        return self.store.location

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the backbones that have embeddings, but for further views of images."""
        return tuple(name for name in self.store.backbones if not is_view(name))

    @property
    def views(self) -> dict[str, tuple[str, ...]]:
        """Backbone to what its further views of the images are called; of those that have some."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.store.backbones:
            if is_view(name):
                plain = seen_in(name, PLAIN)
                found[plain] = (*found.get(plain, ()), name)
        return found

    @property
    def labels(self) -> NDArray[Any]:
        """(N,) classes, or findings as `|Effusion|Mass|`; "" is none."""
        return self._column("label")

    @property
    def splits(self) -> NDArray[Any]:
        """(N,) `train`, `val`, `test`, or ""."""
        return self._column("split")

    @property
    def groups(self) -> NDArray[Any]:
        """(N,) patients, or what else stays on one side of a split; "" is none."""
        return self._column("group")

    @property
    def images(self) -> NDArray[Any]:
        """(N,) what images were called when they were first seen."""
        return self._named[0]

    @property
    def paths(self) -> NDArray[Any]:
        """(N,) where they are now, as far as that is known."""
        return self._named[1]

    @property
    def task(self) -> Task:
        """What the labels define."""
        return Task.from_labels(self.labels, self.class_order)

    def column(self, name: str) -> NDArray[Any]:
        """(N,) texts of a further column; "" is missing.

        Raises:
            DataError: if there is none, naming those that there are.
        """
        return self._column(name if name in self.every else kept_column(self.store, name))

    def at(self, places: Any) -> Self:
        """Some of the images: by places, a slice, or a mask such as `data.splits == "train"`."""
        return replace(self, rows=np.atleast_1d(self.rows[places]))

    def complete(self, backbones: str | Sequence[str] | None = None) -> Self:
        """The images that have an embedding of each of these backbones; None: of all of `backbones`."""
        is_there = np.ones(len(self), dtype=bool)
        for name in self.named(backbones):
            is_there &= self[name].is_there
        return self.at(is_there)

    def named(self, backbones: str | Sequence[str] | None) -> tuple[str, ...]:
        """Backbones as the cache names them, of one name or several; None: all of `backbones`.

        Raises:
            ArgumentError: if it is none of these.
            MissingEmbeddingsError: if the cache has no such backbone, naming those that it has.
        """
        if backbones is None:
            return self.backbones
        return tuple(kept_names(self.store, several_names(backbones, "backbones")))

    def to_frame(self) -> pd.DataFrame:
        """A row for each image.

        Returns:
            `image`, `path`, `label`, `split`, `group` and the further columns of the cache, texts or None; and for each
            backbone `state(BACKBONE)`, which is done, failed or pending.
        """
        import pandas as pd

        known = self.of_images.items()
        texts = {name: pd.Series(values, dtype=object).where(values != MISSING, None) for name, values in known}
        return pd.DataFrame(texts | {f"state({name})": self._states(name) for name in self.backbones})

    @property
    def of_images(self) -> dict[str, NDArray[Any]]:
        """(N,) texts: the images, their files, and each column."""
        return {"image": self.images, "path": self.paths, **self.columns}

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """(N,) texts of each column, but for `path`; "" is missing."""
        return {name: self._column(name) for name in self.every if name != "path"}

    @cached_property
    def _named(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return named_images(self.first_seen, self.every["path"], self.rows)

    def _column(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = self.every[name][self.rows]
        return values

    def _states(self, name: str) -> list[str]:
        return [RowState(state).name.lower() for state in self[name].states.tolist()]

    def _lines(self) -> list[str]:
        further = [name for name in self.columns if name not in STANDARD]
        columns = [f"further columns: {some_of(further)}"] if further else []
        views = [f"{counted(len(own), 'further view')} of {name}" for name, own in self.views.items()]
        first = f"{counted(len(self), 'image')} of {self.location}; {self.task.describe()}"
        return [first, *some_lines([repr(self[name]) for name in self.backbones]), *some_lines(views), *columns]

    def _records(self) -> list[dict[str, Any]]:
        every = {name: self[name] for name in self.backbones}
        return [
            {"backbone": name, "dim": own.shape[1], "dtype": str(own.dtype), **count_states(own.states)}
            for name, own in every.items()
        ]
