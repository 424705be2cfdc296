"""Signs that a backbone gives all images the same embedding, which a contrastive loss alone may hide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


ROUNDING = 1e-6
"""Of embeddings as a network computes them, relative to their length."""


def spread(embeddings: Tensor) -> float:
    """How far embeddings point in different directions: about 1 is healthy, 0 is collapsed.

    The mean over dimensions of the standard deviation of embeddings of length 1, times the root of D. Directions of
    all sides alike give 1; those about a common mean give less.

    Source: Chen and He 2021, "Exploring Simple Siamese Representation Learning", section 4.1.

    Args:
        embeddings: (B, D).

    Returns:
        From 0 to about 1; nan of a single image, or if an element is not finite.
    """
    values = _checked(embeddings)
    if values is None:
        return math.nan
    deviations = torch.nn.functional.normalize(values, dim=1).std(dim=0)
    return float(deviations.mean()) * math.sqrt(values.shape[1])


def effective_rank(embeddings: Tensor) -> float:
    """How many directions embeddings vary in: exp of the entropy of p, where p are the singular values over their sum.

    Of embeddings less their mean, for what all images have in common tells none apart. What is left of a constant by
    rounding counts for nothing.

    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 2.

    Args:
        embeddings: (B, D).

    Returns:
        From 1 to the smaller of B - 1 and D; 0 if all are the same; nan of a single image, or if an element is not
        finite.
    """
    values = _checked(embeddings)
    if values is None:
        return math.nan
    centred = values - values.mean(dim=0)
    gram = centred.T @ centred if len(values) > values.shape[1] else centred @ centred.T
    singular = torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt()
    singular = singular[singular > ROUNDING * values.norm()]
    if len(singular) == 0:
        return 0.0
    shares = singular / singular.sum()
    return math.exp(-float((shares * shares.log()).sum()))


def _checked(embeddings: Tensor) -> Tensor | None:
    """In float64, on the CPU; None where nothing can be said."""
    assert embeddings.ndim == 2, f"(B, D), not {tuple(embeddings.shape)}"
    values = embeddings.detach().cpu().double()
    return values if len(values) > 1 and bool(values.isfinite().all()) else None
