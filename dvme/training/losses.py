"""Cross entropies over what is known and learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")


def loss(logits: Tensor, targets: Tensor, weights: Tensor, learns: Tensor) -> Tensor:
    """The mean cross entropy, by weight.

    Of one class each, softmax over the columns that learn; a class that does not has a probability of 0. Of several
    labels, sigmoids: the cells that are known of labels that learn, each with the weight of its row.

    Args:
        logits: (B, C); those of columns that do not learn may be infinite.
        targets: (B,) int64 class indices, or (B, C) from 0 to 1, nan where unknown.
        weights: (B,) of the rows, 0 or more.
        learns: (C,) bool.

    Returns:
        A scalar: 0 where nothing counts, infinite where a row's class does not learn, nan if a logit that counts is.
    """
    each, shares = (_of_classes if targets.ndim == 1 else _of_labels)(logits, targets, weights, learns)
    total = shares.sum()
    return (each * shares).sum() / torch.where(total > 0.0, total, 1.0)


def _of_classes(logits: Tensor, targets: Tensor, weights: Tensor, learns: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) losses, and what they count for."""
    logs = torch.log_softmax(torch.where(learns, logits, -math.inf), dim=1)
    return -logs.gather(1, targets[:, None]).squeeze(1), weights.to(logits.dtype)


def _of_labels(logits: Tensor, targets: Tensor, weights: Tensor, learns: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) losses, and what they count for."""
    counts = learns & ~targets.isnan()
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.where(counts, logits, 0.0), torch.where(counts, targets, 0.0).to(logits.dtype), reduction="none"
    )
    return each, counts * weights.to(logits.dtype)[:, None]
