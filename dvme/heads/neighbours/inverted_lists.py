"""A bank of rows in inverted lists: rows near each other lie side by side, and a query looks into a few lists only.

Each row is in the list of its most similar centroid. A search takes list by list: those queries that probe it meet its
rows in one matrix product. The rows are in a file without a name, which the system removes with the last reader, in the
precision that they were given in. So memory holds a list at a time, and a similarity is that of an exact search.

Source: Sivic and Zisserman 2003; Jegou, Douze and Schmid 2011, section 4, whose lists hold codes in place of the rows.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.files import free_bytes
from dvme.heads.fitting.row_blocks import RowArray, row_blocks
from dvme.heads.neighbours.brute_force import faiss_module, nearest
from dvme.vectors import spans, unit_rows

TRAINED_ON, ROUNDS = 64, 10
"""Rows for each centroid that k-means learns from, and its rounds."""
AT_ONCE = SIMILARITIES = 1 << 24
"""Values of rows that are read together, and similarities that are looked at together."""
MAPPED = 1 << 28
"""Bytes of the file that may stay in memory before they are given back."""


@dataclass(frozen=True)
class InvertedLists:
    """The rows of a bank by lists, and how many of these a query probes. It is indexed as the bank is."""

    rows: NDArray[Any]
    """(n, D) float16 or float32 as they were given, list by list, and within a list in the order of the bank."""
    places: NDArray[np.int64]
    """(n,) which row of the bank each is."""
    starts: NDArray[np.int64]
    """(L + 1,) where the lists begin, and n; none is empty."""
    centroids: NDArray[np.float32]
    """(L, D) of length 1."""
    n_probes: int
    """Lists that each query looks into, 1 to L. A query whose lists have fewer than k rows looks into more."""
    mapping: mmap.mmap | None = field(default=None, repr=False, compare=False)
    """Of the file with the rows; None: they are in memory."""

    @classmethod
    def of(cls, values: RowArray, bank: NDArray[Any], *, seed: int, n_lists: int | None = None) -> Self:
        """Put rows into lists, all of which are probed.

        Args:
            values: (N, D) finite embeddings of any length, which may be mapped from a file.
            bank: (n,) those of their rows that are the bank.
            seed: of the sample that k-means learns from, and of k-means.
            n_lists: at most n; None: the square root of n.

        Raises:
            DataError: if the disk of temporary files has no room for the rows.
        """
        n = len(bank)
        wanted = min(n, n_lists or max(1, round(math.sqrt(n))))
        by_row = np.argsort(bank, kind="stable")  # a file is read from its beginning to its end
        centroids = _centroids(values, bank, wanted, seed)
        list_of = np.empty(n, dtype=np.int64)
        for part, block in row_blocks(values, bank[by_row], AT_ONCE):
            list_of[by_row[part]] = nearest(unit_rows(block), centroids, 1)[1][:, 0]
        sizes = np.bincount(list_of, minlength=len(centroids))
        places = np.argsort(list_of, kind="stable")
        starts = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])
        kind = np.dtype(np.float16) if values.dtype == np.float16 else np.dtype(np.float32)
        rows, mapping = _mapped((n, values.shape[1]), kind)
        lists = cls(rows, places, starts, centroids[sizes > 0], len(starts) - 1, mapping)
        for part, block in row_blocks(values, bank[by_row], AT_ONCE):
            own = lists.positions[by_row[part]]
            order = np.argsort(own)  # the file is written forwards
            rows[own[order]] = block[order]
            lists._give_back()
        return lists

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], n_probes: int | None) -> Self:
        """Those whose `arrays` these are; None: all are probed."""
        rows, places, starts, centroids = (arrays[name] for name in ("rows", "places", "starts", "centroids"))
        return cls(rows, places, starts, centroids, n_probes or len(centroids))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that `restored` needs beside the probes."""
        return {"rows": self.rows, "places": self.places, "starts": self.starts, "centroids": self.centroids}

    @property
    def shape(self) -> tuple[int, int]:
        """(n, D)."""
        return len(self.rows), self.rows.shape[1]

    @property
    def n_lists(self) -> int:
        """L."""
        return len(self.centroids)

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """(n,) where each row of the bank lies."""
        found = np.empty(len(self.places), dtype=np.int64)
        found[self.places] = np.arange(len(self.places))
        return found

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, bank: NDArray[Any]) -> NDArray[Any]:
        """(..., D) float32 rows of length 1, by their indices in the bank."""
        return unit_rows(self.rows[self.positions[bank.ravel()]]).reshape(*bank.shape, self.rows.shape[1])

    def lists_of(self, bank: NDArray[Any]) -> NDArray[np.int64]:
        """The list of each of some rows of the bank, in any shape."""
        found: NDArray[np.int64] = np.searchsorted(self.starts, self.positions[bank], side="right") - 1
        return found

    def nearest(self, queries: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The k most similar rows of the lists that each query probes.

        Args:
            queries: (B, D) float32, L2-normalised.
            k: 1 <= k <= n.

        Returns:
            Cosine similarities (B, k), descending, and bank indices (B, k); equal ones in any order.
        """
        best = faiss_module().ResultHeap(len(queries), k, keep_max=True)
        n_read = 0
        for number, some in self._visits(queries, k):
            start, stop = self.starts[number], self.starts[number + 1]
            for part in spans(stop - start, self.rows.shape[1], AT_ONCE):
                own = slice(start + part.start, min(start + part.stop, stop))
                rows = unit_rows(self.rows[own])
                for few in spans(len(some), len(rows), SIMILARITIES):
                    similarities = queries[some[few]] @ rows.T
                    best.add_result_subset(some[few], similarities, self.places[own])
                n_read += len(rows) * self.rows.strides[0]
            if n_read > MAPPED:
                self._give_back()
                n_read = 0
        best.finalize()
        return best.D, best.I

    def _visits(self, queries: NDArray[Any], k: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Each list that is probed, with the queries that do."""
        sizes = np.diff(self.starts)
        of_query, of_list = [], []
        still, n_probes = np.arange(len(queries)), self.n_probes
        while len(still):
            probed = nearest(queries[still], self.centroids, n_probes)[1]
            is_enough = (sizes[probed].sum(axis=1) >= k) | (n_probes == self.n_lists)
            of_query.append(np.repeat(still[is_enough], n_probes))
            of_list.append(probed[is_enough].ravel())
            still, n_probes = still[~is_enough], min(2 * n_probes, self.n_lists)
        if of_query:
            every_query, every_list = np.concatenate(of_query), np.concatenate(of_list)
            order = np.argsort(every_list, kind="stable")
            numbers, begins = np.unique(every_list[order], return_index=True)
            yield from zip(numbers.tolist(), np.split(every_query[order], begins[1:]), strict=True)

    def _give_back(self) -> None:
        """Let the system have the memory of what was read or written; the file keeps it."""
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)


def _centroids(values: RowArray, bank: NDArray[Any], n_lists: int, seed: int) -> NDArray[np.float32]:
    """(L, D) of spherical k-means on a sample."""
    drawn = np.random.default_rng(seed).choice(len(bank), min(len(bank), TRAINED_ON * n_lists), replace=False)
    sample = unit_rows(values[np.sort(bank[drawn])])
    if len(sample) == n_lists:  # each row is its own
        return sample
    means = faiss_module().Kmeans(
        sample.shape[1],
        n_lists,
        niter=ROUNDS,
        spherical=True,
        seed=seed % (1 << 31),
        min_points_per_centroid=1,
        max_points_per_centroid=TRAINED_ON,
    )
    means.train(sample)
    found: NDArray[np.float32] = means.centroids
    return found


def _mapped(shape: tuple[int, int], kind: np.dtype[Any]) -> tuple[NDArray[Any], mmap.mmap]:
    """An array in a file without a name.

    Raises:
        DataError: if there is no room for it.
    """
    n_bytes = shape[0] * shape[1] * kind.itemsize
    needed = f"{shape[0]:,} rows for knn take {n_bytes:,} bytes on disk"
    try:
        folder = tempfile.gettempdir()
        free = free_bytes(folder)
        if n_bytes > free:
            raise DataError(f"{needed} and {folder} has {free:,} left; make room, or set TMPDIR to a larger disk")
        with tempfile.TemporaryFile() as file:  # lives on until nothing is mapped to it
            file.truncate(n_bytes)
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, n_bytes)  # a disk that fills up later would end the process
            mapping = mmap.mmap(file.fileno(), n_bytes)
    except OSError as error:
        raise DataError(f"{needed}, which cannot be had ({error}); set TMPDIR to a folder on a larger disk") from error
    return np.frombuffer(mapping, dtype=kind).reshape(shape), mapping
