"""How far rows lie from their mean: what the strengths of a path are relative to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

EQUAL = 1e-28
"""Squared distance, relative to the squared length, below which rows differ by rounding only."""


def spread_of_gram(gram: Tensor, weights: Tensor | None = None) -> Tensor:
    """Summed squared distance from their mean of rows with an (n, n) Gram matrix, by (n,) weights if there are any."""
    if weights is None:
        return gram.trace() - gram.sum() / len(gram)
    return weights @ gram.diagonal() - weights @ gram @ weights / weights.sum()


def spread_of_rows(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Summed squared distance of (n, D) rows from their mean; n where all rows are equal, up to rounding."""
    if weights is None:
        distance, total, n_rows = (rows - rows.mean(dim=0)).square().sum(), rows.square().sum(), float(len(rows))
    else:
        distance = weights @ (rows - weights @ rows / weights.sum()).square().sum(1)
        total, n_rows = weights @ rows.square().sum(1), float(weights.sum())
    return torch.where(distance > EQUAL * total, distance, n_rows)
