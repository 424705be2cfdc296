"""Which extractor made embeddings that come from elsewhere: the user's word, and what of it can be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, OptionError, parameter
from dvme.text import counted, first_few
from dvme.upkeep.committing import wanted_entries
from dvme.upkeep.formats.bundle import Blocks
from dvme_cache import EmbeddingCache, Embeddings, RowState

COMPARED = 1000
"""Rows that are compared with what the cache has of the same images, and rows whose lengths are looked at."""
SAME = 1e-3
"""Of the largest element: how far one image's embedding may be from itself, as it is for `verify --images`."""
UNIT = 0.01
"""How far from 1 the length of an L2-normalised embedding may be: float16 rounds."""
SCALED = 10.0
"""The ratio of typical lengths from which on two sets are not of one scale."""


@dataclass(frozen=True)
class Lengths:
    """The Euclidean lengths of embeddings."""

    is_unit: bool
    """Whether all are 1: the embeddings are L2-normalised."""
    typical: float
    """Their median."""

    @classmethod
    def of(cls, lengths: NDArray[np.float64]) -> Lengths:
        """Of (N,) lengths, at least one."""
        return cls(bool((np.abs(lengths - 1.0) <= UNIT).all()), float(np.median(lengths)))

    def text(self) -> str:
        """`L2-normalised`, or how long they are."""
        return "L2-normalised" if self.is_unit else f"of length {self.typical:.3g}, not L2-normalised"

    def is_like(self, other: Lengths) -> bool:
        """Whether both may be of one extractor."""
        low, high = sorted((self.typical, other.typical))
        return self.is_unit == other.is_unit and high <= SCALED * low


def reference_of(like: str, backbone: str) -> Embeddings:
    """The embeddings whose fingerprint the user says is theirs as well.

    Raises:
        OptionError: if the cache has none of this backbone.
    """
    store = EmbeddingCache.open(like)
    if backbone not in store.backbones:
        held = ", ".join(store.backbones) or "none"
        message = f" has no {backbone} embeddings (it has: {held}); name one with "
        raise OptionError(parameter("like", like) + message + parameter("backbone"))
    return store.embeddings(backbone)


def check_alike(found: Lengths, embeddings: Embeddings, source: str, where: str) -> None:
    """Refuse embeddings that are scaled in another way than those whose fingerprint they are to have.

    Raises:
        DataError: saying how both are.
    """
    rows = np.flatnonzero(embeddings.states() == RowState.DONE)[:COMPARED]
    if not len(rows):
        return
    known = Lengths.of(lengths_of(embeddings.read(rows)))
    if not found.is_like(known):
        raise DataError(
            f"{source} has {embeddings.name} embeddings that are {found.text()}, those of {where} are {known.text()}; "
            "scale them alike, or import them under other words"
        )


def lengths_of(block: NDArray[Any]) -> NDArray[np.float64]:
    """(B,) Euclidean lengths of (B, D) embeddings, without overflow."""
    return np.asarray(np.linalg.norm(block.astype(np.float64), axis=1))


def check_same(embeddings: Embeddings, rows: NDArray[np.int64], names: list[str], blocks: Blocks, source: str) -> None:
    """Refuse other values for images that the cache has: the same extractor makes the same embedding.

    Args:
        embeddings: of the cache.
        rows: (N,) its row of each entry of the stream; -1 for a new one.
        names: N names.
        blocks: (B, D) features, N in all.
        source: the file.

    Raises:
        DataError: naming the first few.
    """
    known = np.flatnonzero((rows >= 0) & (rows < len(embeddings.states())))
    known = known[embeddings.states()[rows[known]] == RowState.DONE][:COMPARED]
    if not len(known):
        return
    is_known = np.isin(np.arange(len(rows)), known)
    theirs = np.concatenate(list(wanted_entries(blocks, is_known))).astype(np.float64)
    own = embeddings.read(rows[known]).astype(np.float64)
    differences = np.abs(theirs - own).max(axis=1)
    differing = known[differences > SAME * np.abs(own).max(axis=1)]
    if len(differing):
        named = first_few(names[i] for i in differing.tolist())
        raise DataError(
            f"{source} has other {embeddings.name} embeddings of {counted(len(differing), 'image')} that the cache has "
            f"({named}); one extractor gives one image one embedding: import them under other words"
        )
