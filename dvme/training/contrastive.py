"""NT-Xent: two views of one thing are to be alike, and unlike the views of all others in the minibatch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvme.limits import positive
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


def nt_xent(first: Tensor, second: Tensor, groups: Tensor | None, temperature: float) -> Tensor:
    """The mean over 2 B views of -log(exp(s_ip / t) / sum_k exp(s_ik / t)).

    s is the cosine of two projections and p the other view of i's pair. k runs over p and over all views but those of
    i's own group: images of one patient would be false negatives of each other. A view without negatives has a loss
    of 0.

    Sources: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", equation 1;
    Azizi et al. 2021, algorithm 1, for pairs of two images. That groups are left out is dvme's own.

    Args:
        first: (B, D) projections of one view of each pair. They need no length of 1.
        second: (B, D) of the other view, in the same order.
        groups: (B,) int64, a number for each group of pairs; None if every pair is a group of its own.
        temperature: t.

    Returns:
        A scalar in float32, or in float64 if that is what was given: 0 for a single pair, nan if a projection is nan
        or infinite.

    Raises:
        OptionError: if the temperature is not a finite number above 0.
    """
    assert first.ndim == 2, f"(B, D), not {tuple(first.shape)}"
    assert first.shape == second.shape, f"{tuple(first.shape)} and {tuple(second.shape)}"
    assert groups is None or groups.shape == first.shape[:1], "one group for each pair"
    assert len(first), "no pairs"
    scale = 1.0 / positive("temperature", temperature)
    n_pairs = len(first)
    views = torch.cat([first, second])
    directions = torch.nn.functional.normalize(views.to(torch.promote_types(views.dtype, torch.float32)), dim=1)
    places = torch.arange(2 * n_pairs, device=first.device)
    others = places.roll(n_pairs)
    numbers = (places[:n_pairs] if groups is None else groups.to(first.device)).repeat(2)
    is_left_out = numbers[:, None] == numbers
    is_left_out[places, others] = False
    logits = (directions @ directions.T * scale).masked_fill(is_left_out, -math.inf)
    return torch.nn.functional.cross_entropy(logits, others)
