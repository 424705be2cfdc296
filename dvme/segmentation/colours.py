"""Dense features as colours: the first three principal components of tokens as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dvme.segmentation.maps import DenseMaps

COLOURS = 3
MOST_IMAGES, PER_IMAGE = 64, 16
"""Training images, and tokens of each, that the components are fitted on."""
AT_ONCE = 8
"""Images whose tokens are in memory together."""
ENDS = (1.0, 99.0)
"""Percentiles of the fitted tokens that become the darkest and the brightest of a colour."""
LEAST = 1e-12
"""Share of the total variance below which a component is rounding."""
GREY = 128
"""Of a component that tells nothing."""


@dataclass(frozen=True)
class Colours:
    """Components of the tokens of one backbone."""

    mean: NDArray[np.float64]
    """(C,)."""
    components: NDArray[np.float64]
    """(3, C) orthonormal, the largest first; 0 where tokens have fewer."""
    low: NDArray[np.float64]
    """(3,) what is darkest."""
    high: NDArray[np.float64]
    """(3,) what is brightest."""

    @classmethod
    def of(cls, tokens: NDArray[Any]) -> Self:
        """The components of (T, C) tokens.

        Signs are such that the largest value of each component is positive, as in scikit-learn, so that the same tokens
        have the same colours anywhere.

        Source: Pearson 1901; as colours, Oquab et al. 2023 (DINOv2), figure 1.
        """
        values = np.asarray(tokens, dtype=np.float64)
        mean = values.mean(axis=0)
        components = _leading(values - mean)
        placed = (values - mean) @ components.T
        low, high = np.percentile(placed, ENDS, axis=0)
        return cls(mean, components, low, high)

    def taken(self, tokens: NDArray[Any]) -> NDArray[np.uint8]:
        """(..., 3) colours of (..., C) tokens."""
        placed = (np.asarray(tokens, dtype=np.float64) - self.mean) @ self.components.T
        found = np.full(placed.shape, GREY, dtype=np.float64)
        np.divide(255.0 * (placed - self.low), self.high - self.low, out=found, where=self.high > self.low)
        colours: NDArray[np.uint8] = np.clip(np.rint(found), 0, 255).astype(np.uint8)
        return colours


def token_colours(maps: DenseMaps, rows: NDArray[Any], train: NDArray[Any]) -> NDArray[np.uint8]:
    """The tokens of some images as colours that can be compared among them.

    All maps are brought to the finest grid. Each counts as much as every other: it is divided by the root of the total
    variance of its tokens, so that the map with the largest numbers does not decide alone.

    Args:
        maps: of a dense backbone.
        rows: (B,) of the cache, to be shown.
        train: (n,) of the cache, of which MOST_IMAGES, evenly spaced, give PER_IMAGE tokens each to fit the components.

    Returns:
        (B, r, c, 3).
    """
    finest = maps.finest
    shape = finest.rows, finest.columns
    fitted_on = np.unique(train)
    fitted_on = fitted_on[np.unique(np.linspace(0, len(fitted_on) - 1, MOST_IMAGES).round().astype(np.int64))]
    sample, rng = list[NDArray[np.float32]](), np.random.default_rng(0)
    for row in fitted_on:
        places = rng.choice(finest.n_tokens, min(PER_IMAGE, finest.n_tokens), replace=False)
        sample += maps.tokens(np.array([row]), shape, [places])
    tokens = np.concatenate(sample)
    weights = _weights(tokens, [grid.channels for grid in maps.grids])
    colours = Colours.of(tokens * weights)
    found = np.empty((len(rows), finest.n_tokens, COLOURS), dtype=np.uint8)
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found[part] = colours.taken(maps.on_grid(rows[part], shape) * weights)
    return found.reshape(len(rows), *shape, COLOURS)


def _weights(tokens: NDArray[np.float32], channels: Sequence[int]) -> NDArray[np.float32]:
    """(C,) that give each map of (T, C) tokens a total variance of 1; 1 of a map that is the same everywhere."""
    variances = tokens.var(axis=0, dtype=np.float64)
    totals = np.add.reduceat(variances, np.cumsum([0, *channels[:-1]]))
    return np.repeat(np.where(totals > 0, totals, 1.0) ** -0.5, channels).astype(np.float32)


def _leading(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, C) components of (T, C) centred tokens, by the smaller of their two matrices of products."""
    n_tokens, n_channels = centred.shape
    is_wide = n_channels > n_tokens
    products = centred @ centred.T if is_wide else centred.T @ centred
    variances, vectors = np.linalg.eigh(products)
    order = np.argsort(-variances, kind="stable")[:COLOURS]
    order = order[variances[order] > LEAST * max(float(np.trace(products)), np.finfo(float).tiny)]
    found = vectors[:, order].T @ centred if is_wide else vectors[:, order].T
    components = np.zeros((COLOURS, n_channels))
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    signs = np.sign(found[np.arange(len(found)), np.abs(found).argmax(axis=1)])[:, None]
    components[: len(found)] = found / lengths * signs
    return components
