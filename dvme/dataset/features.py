"""The embeddings of one backbone as an array that is read where it is looked at."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.dense import grids_of, maps_text
from dvme.backbones.model.quantised import STORED, maps_of
from dvme.text import counted, some_of
from dvme_cache import Embeddings, RowState

SOME_FAILED = 3
"""That are named in a line."""


class Features:
    """(N, D) embeddings of one backbone, a row for each image of `dvme.open`.

    It takes what an array of NumPy takes between brackets, reads those rows and proves each by its checksum.
    `numpy.asarray` reads all of them. The row of an image without an embedding is nan; `is_there` says which have one,
    and `failed` why others have none. Dense features are map after map, see `grids`; those in int8 are decoded.
    """

    ndim = 2

    def __init__(self, embeddings: Embeddings, rows: NDArray[np.int64], images: NDArray[Any]) -> None:
        """Of some rows of a cache.

        Args:
            embeddings: of the backbone.
            rows: (N,) of the cache.
            images: (N,) what they are called.
        """
        self.name = embeddings.name
        self.grids = grids_of(embeddings.fingerprint.fields)
        """Rows, columns and channels of each map of dense features; () of one vector an image."""
        self._embeddings, self._rows, self._images = embeddings, rows, images
        self._is_coded = bool(self.grids) and embeddings.dtype == STORED
        dim = sum(grid.n_values for grid in self.grids) if self._is_coded else embeddings.dim
        self.shape = (len(rows), dim)
        self.dtype = np.dtype(np.float32 if self._is_coded else embeddings.dtype)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def states(self) -> NDArray[Any]:
        """(N,) of `dvme_cache.RowState`, as they were when they were first asked for."""
        found: NDArray[Any] = self._embeddings.states()[self._rows]
        return found

    @property
    def is_there(self) -> NDArray[np.bool_]:
        """(N,) which images have an embedding."""
        there: NDArray[np.bool_] = self.states == RowState.DONE
        return there

    @cached_property
    def failed(self) -> dict[str, str]:
        """Image to the reason why it has no embedding, of those that were tried."""
        places = np.flatnonzero(self.states == RowState.FAILED)
        if not len(places):
            return {}
        reasons = self._embeddings.reasons()[self._rows[places]]
        return dict(zip(self._images[places].tolist(), reasons.tolist(), strict=True))

    def __getitem__(self, places: Any) -> NDArray[Any]:
        """The rows at some places, (D,) of one, else (..., D); of a tuple what NumPy has there."""
        if isinstance(places, tuple):
            return self._within(places)
        chosen = np.arange(len(self))[places]
        return self._read(chosen.reshape(-1)).reshape(*chosen.shape, self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows, as `numpy.asarray` asks for them."""
        if copy is False:
            raise ValueError(f"the embeddings of {self.name} are read from the cache, which is a copy")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __repr__(self) -> str:
        n_failed = len(self.failed)
        n_pending = len(self) - int(self.is_there.sum()) - n_failed
        what = f" ({maps_text(self.grids)})" if self.grids else ""
        line = f"{self.name}: {counted(len(self), 'image')} x {self.shape[1]:,}{what}, {self.dtype}"
        why = some_of([f"{image} ({reason})" for image, reason in self.failed.items()], SOME_FAILED)
        line += f"; {n_failed:,} failed: {why}" if n_failed else ""
        return line + (f"; {n_pending:,} not extracted yet" if n_pending else "")

    def _within(self, places: tuple[Any, ...]) -> NDArray[Any]:
        """The elements at places of rows and of values within them, each row that has some read once."""
        row_of, place_of = np.arange(len(self))[:, None], np.arange(self.shape[1])
        rows, within = (np.broadcast_to(each, self.shape)[places] for each in (row_of, place_of))
        needed, found_at = np.unique(rows, return_inverse=True)
        found: NDArray[Any] = self._read(needed)[found_at.reshape(rows.shape), within]
        return found

    def _read(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """(B, D) of B places, which may repeat."""
        there = self.is_there[places]
        if there.all():
            return self._decoded(self._embeddings.read(self._rows[places]))
        found = np.full((len(places), self.shape[1]), np.nan, dtype=self.dtype)
        if there.any():
            found[there] = self._decoded(self._embeddings.read(self._rows[places[there]]))
        return found

    def _decoded(self, stored: NDArray[Any]) -> NDArray[Any]:
        if not self._is_coded:
            return stored
        return np.concatenate([each.reshape(len(stored), -1) for each in maps_of(stored, self.grids)], axis=1)
