"""Tokens standardised channel by channel, as batch normalisation before a linear head does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONSTANT = 1e-6
"""Of a channel's mean: a smaller standard deviation is rounding."""


@dataclass(frozen=True)
class Standard:
    """The mean of every channel, and what its distance from it is multiplied with."""

    mean: NDArray[np.float32]
    """(C,)."""
    scale: NDArray[np.float32]
    """(C,) 1 / standard deviation; 0 for a channel that is constant, which stays 0 everywhere."""

    def applied(self, tokens: NDArray[Any]) -> NDArray[np.float32]:
        """(..., C) float32 of the same."""
        found = tokens.astype(np.float32)
        self.apply(found)
        return found

    def apply(self, tokens: NDArray[np.float32]) -> None:
        """The same in place."""
        tokens -= self.mean
        tokens *= self.scale


class Moments:
    """Mean and variance of tokens that come in parts, joined in float64 (Chan, Golub and LeVeque 1983)."""

    def __init__(self, n_channels: int) -> None:
        self.n_tokens = 0
        self._mean = np.zeros(n_channels)
        self._squares = np.zeros(n_channels)

    def add(self, tokens: NDArray[Any]) -> None:
        """Take note of (n, C) more."""
        if not len(tokens):
            return
        own = tokens.astype(np.float64)
        mean, n_all = own.mean(axis=0), self.n_tokens + len(own)
        away = mean - self._mean
        self._squares += np.square(own - mean).sum(axis=0) + away**2 * self.n_tokens * len(own) / n_all
        self._mean += away * len(own) / n_all
        self.n_tokens = n_all

    def standard(self) -> Standard:
        """Of all of them; of none, nothing is changed."""
        if not self.n_tokens:
            return Standard(self._mean.astype(np.float32), np.ones_like(self._mean, dtype=np.float32))
        deviation = np.sqrt(self._squares / self.n_tokens)
        scale = np.zeros_like(deviation)
        np.divide(1.0, deviation, out=scale, where=deviation > CONSTANT * np.abs(self._mean))
        return Standard(self._mean.astype(np.float32), scale.astype(np.float32))
