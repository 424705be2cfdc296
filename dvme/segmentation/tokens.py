"""Which tokens of labelled images heads learn from: drawn once from every image, whoever learns from it.

So the tokens of an image are the same in every draw and size of a study, in each of its parts, and after a kill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.masks import Masks
from dvme.runtime import Progress, silent
from dvme.segmentation.shares import shares, with_background

TOKENS = 256
"""Of an image; all where it has fewer."""
MASKS = "masks"
"""The stage that reads them."""
SEED = 0
"""Beside the image's own content, of the tokens that are drawn."""


@dataclass(frozen=True)
class Drawn:
    """Tokens of one image."""

    tokens: NDArray[np.int64]
    """(k,) positions on the grid, ascending."""
    chances: NDArray[np.float64]
    """(k,) of each to have been drawn: sums over drawn tokens, each divided by its chance, estimate without bias those
    over all tokens that are known."""


@dataclass(frozen=True)
class TokenRows:
    """Drawn tokens of several images as rows that heads learn from, image after image."""

    images: NDArray[np.int64]
    """(n,) positions of the images, ascending."""
    starts: NDArray[np.int64]
    """(n + 1,) where the rows of each image begin, and where the last ones end."""
    tokens: NDArray[np.int64]
    """(R,) positions on the grid."""
    labels: NDArray[Any]
    """(R,) int64 class indices, 0 the background; or (R, L + 1) float32 shares with the background first. Of structures
    that may overlap (R, L), nan where nothing is known."""
    weights: NDArray[np.float64]
    """(R,) how often each row counts: for how many tokens of its image it stands."""

    def rows_of(self, images: NDArray[Any]) -> NDArray[np.int64]:
        """Rows of some images, in their order."""
        places = np.searchsorted(self.images, images)
        parts = [np.arange(self.starts[place], self.starts[place + 1]) for place in places]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def draw_tokens(
    found: NDArray[np.float32], n_tokens: int, content_id: NDArray[np.uint8], *, is_exclusive: bool, seed: int = SEED
) -> Drawn:
    """Draw tokens of one image, as many of each class as there can be.

    A token goes with the class of which it holds the largest part of all that the image has, so that thin structures
    have tokens of their own. Every class gets an equal number, or all that it has; what that leaves goes to the
    others. Within a class tokens are equally likely. Of fewer than there are classes all tokens are. Those of which
    nothing is known are never drawn. A larger number includes a smaller one's tokens, as long as either is no smaller
    than that of the classes.

    Args:
        found: (T, L), see `shares`.
        n_tokens: K.
        content_id: (16,) of the image; the tokens follow from it, from `found`, K and the seed.
        is_exclusive: whether a pixel has one class; else the background is what no structure covers.
        seed: of all images.
    """
    is_void = np.isnan(found)
    places = np.flatnonzero(~(is_void.any(axis=1) if is_exclusive else is_void.all(axis=1)))
    rng = np.random.default_rng([seed, int.from_bytes(content_id.tobytes(), "little")])
    strata = _strata(found[places], is_exclusive=is_exclusive)
    members = [places[strata == each] for each in np.unique(strata)]
    if len(members) > n_tokens:
        members = [places]
    quotas = even_quotas([len(own) for own in members], n_tokens)
    tokens = [rng.permutation(own)[:quota] for own, quota in zip(members, quotas, strict=True)]
    chances = [np.full(quota, quota / len(own)) for own, quota in zip(members, quotas, strict=True)]
    drawn = np.concatenate([np.empty(0, dtype=np.int64), *tokens])
    order = np.argsort(drawn)
    return Drawn(drawn[order], np.concatenate([np.empty(0), *chances])[order])


def even_quotas(sizes: Sequence[int], total: int) -> list[int]:
    """How many of each of several sets to take: as evenly as their sizes allow, at most `total` in all."""
    quotas, left = [0] * len(sizes), total
    for n_through, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        quotas[place] = min(sizes[place], left // (len(sizes) - n_through))
        left -= quotas[place]
    return quotas


def uniform_tokens(n_all: int, n_tokens: int, content_id: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(k,) tokens of an image, all equally likely, whatever its mask."""
    rng = np.random.default_rng(int.from_bytes(content_id.tobytes(), "little"))
    return np.sort(rng.permutation(n_all)[:n_tokens])


def token_rows(
    images: NDArray[np.int64],
    masks: Masks,
    ids: NDArray[np.uint8],
    shape: tuple[int, int],
    n_tokens: int,
    progress: Progress = silent,
    *,
    is_split: bool = True,
) -> TokenRows:
    """Draw tokens of every image, and make rows of them.

    Of classes that exclude each other a token that has several becomes a row for each, which counts by its share: the
    log loss of such rows is that of the share as a soft target. What takes shares as they are has a row of each token.

    Args:
        images: (n,) positions, ascending and distinct.
        masks: of N images.
        ids: (N, 16) their content ids.
        shape: of the grid.
        n_tokens: K of each image.
        progress: told (MASKS, images that are through, all).
        is_split: whether labels are to be class indices, where classes exclude each other.
    """
    tokens: list[NDArray[np.int64]] = []
    labels: list[NDArray[Any]] = []
    weights: list[NDArray[np.float64]] = []
    for done, image in enumerate(images, start=1):
        found = shares(masks.read(int(image)), shape)
        drawn = draw_tokens(found, n_tokens, ids[image], is_exclusive=masks.is_exclusive)
        own, counts = found[drawn.tokens], 1.0 / drawn.chances
        own = with_background(own) if masks.is_exclusive else own
        if is_split and masks.is_exclusive:
            places, classes = np.nonzero(own)
            tokens.append(drawn.tokens[places])
            labels.append(classes)
            weights.append(counts[places] * own[places, classes])
        else:
            tokens.append(drawn.tokens)
            labels.append(own)
            weights.append(counts)
        progress(MASKS, done, len(images))
    return TokenRows(
        images,
        np.cumsum([0, *map(len, tokens)]),
        np.concatenate([np.empty(0, dtype=np.int64), *tokens]),
        np.concatenate(labels).astype(np.int64 if is_split and masks.is_exclusive else np.float32),
        np.concatenate([np.empty(0), *weights]),
    )


def _strata(found: NDArray[np.float32], *, is_exclusive: bool) -> NDArray[np.int64]:
    """(T,) the class that each token goes with, 0 the background, of (T, L) shares of tokens that are known."""
    known = np.nan_to_num(found)
    parts = (
        with_background(known)
        if is_exclusive
        else np.concatenate([1.0 - known.max(axis=1, keepdims=True, initial=0.0), known], axis=1)
    ).astype(np.float64)
    total = parts.sum(axis=0)
    strata: NDArray[np.int64] = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0).argmax(axis=1)
    return strata
