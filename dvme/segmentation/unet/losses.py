"""Losses of classes that are known in part of the pixels: Dice, and cross entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

Loss = Literal["dice", "cross-entropy"]
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


def cross_entropies(logits: Tensor, truth: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The cross entropy of pixels, summed over all that is known of a batch, and how much that is.

    Structures that may overlap, and a single class, are each a yes or no, of which the mean is binary cross entropy.
    Of classes that exclude each other a pixel has one entropy, over them and the background, and is known or not as a
    whole.

    Args:
        logits: as `shares_of`.
        truth: (B, L, H, W) from 0 to 1.
        known: (B, L, H, W) 1 where the truth is known, else 0; None: everywhere.
    """
    if logits.shape[1] == truth.shape[1]:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    else:
        of_all = torch.cat([1.0 - truth.sum(dim=1, keepdim=True), truth], dim=1)
        losses = -(logits.log_softmax(dim=1) * of_all).sum(dim=1, keepdim=True)
        known = None if known is None else known.amin(dim=1, keepdim=True)
    if known is None:
        return losses.sum(), losses.new_tensor(losses.numel())
    return (losses * known).sum(), known.sum()
