"""The Dice loss of classes that are known in part of the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

SMOOTH = 1.0
"""What is added above and below the line: a class that is nowhere, and found nowhere, has a loss of 0."""


def n_outputs(n_classes: int, *, is_exclusive: bool) -> int:
    """Logits of a pixel for L classes; one more, the background, where a pixel has one of several classes."""
    return n_classes + (is_exclusive and n_classes > 1)


def shares_of(logits: Tensor, n_classes: int) -> Tensor:
    """(B, L, H, W) how much of each class a pixel is, from 0 to 1.

    Args:
        logits: (B, L, H, W) of structures that may overlap, each a sigmoid, or (B, L + 1, H, W) of the background and
            then of classes that exclude each other: softmax.
        n_classes: L.
    """
    return logits.sigmoid() if logits.shape[1] == n_classes else logits.softmax(dim=1)[:, 1:]


def sums(found: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
    """(3, L): of each class what is found and true at once, what is found, and what is true, over all of a batch.

    Args:
        found: (B, L, H, W) from 0 to 1.
        truth: (B, L, H, W) from 0 to 1.
        known: (B, L, H, W) 1 where the truth is known, else 0; None: everywhere.
    """
    if known is not None:
        found, truth = found * known, truth * known
    return torch.stack([part.sum(dim=(0, 2, 3)) for part in (found * truth, found, truth)])


def dice_loss(totals: Tensor) -> Tensor:
    """1 - (2 I + 1) / (A + B + 1), the mean over classes.

    Source: Taher et al. 2021, whose code has one class and takes it over the whole minibatch.

    Args:
        totals: (3, L) I, A and B as `sums` gives them.
    """
    both, found, true = totals.unbind()
    return (1.0 - (2.0 * both + SMOOTH) / (found + true + SMOOTH)).mean()
