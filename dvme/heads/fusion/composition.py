"""Two linear layers with nothing between them as one affine map, composed anew in every step.

A hidden layer W (H, D) and a classifier V (C, H) on it are the map V W, (C, D). For fewer classes than rows in a
minibatch that is the cheaper order of the products: V W takes C H D multiplications and its application B C D, where
the hidden units of B rows take B H D. So it is with the gradients. With A = V W and G = dL/dA,

    dL/dV = G W^T,      dL/dW = V^T G

Nothing is approximated: the same sums are taken in another order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ROWS = 16
"""Hidden units of one product. BLAS multiplies many small matrices faster than one that is long and of few rows."""


class Composition(torch.autograd.Function):
    """(J, C, D) of a classifier (J, C, H) and a hidden layer's weight (J, H, D), for J heads."""

    @staticmethod
    def forward(ctx: Any, classifier: Tensor, weight: Tensor) -> Tensor:
        """See torch.autograd.Function."""
        ctx.save_for_backward(classifier, weight)
        n_jobs, n_classes, n_hidden = classifier.shape
        n_parts = n_hidden // math.gcd(n_hidden, BLOCK_ROWS)
        partial = _parts_of(classifier, n_parts) @ weight.view(n_jobs * n_parts, -1, weight.shape[2])
        return partial.view(n_jobs, n_parts, n_classes, -1).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """See torch.autograd.Function; (J, C, D) `upstream` to the gradients of both."""
        classifier, weight = ctx.saved_tensors
        n_jobs, n_classes, n_hidden = classifier.shape
        n_parts = n_hidden // math.gcd(n_hidden, BLOCK_ROWS)
        repeated = upstream[:, None].expand(-1, n_parts, -1, -1).flatten(end_dim=1)  # (J P, C, D)
        blocks = weight.view(n_jobs * n_parts, -1, weight.shape[2])
        to_classifier = (repeated @ blocks.transpose(1, 2)).view(n_jobs, n_parts, n_classes, -1)
        to_weight = _parts_of(classifier, n_parts).transpose(1, 2) @ repeated
        return to_classifier.transpose(1, 2).reshape(classifier.shape), to_weight.view(weight.shape)


def _parts_of(classifier: Tensor, n_parts: int) -> Tensor:
    """(J P, C, H / P): the columns of every part of the hidden units."""
    n_jobs, n_classes, _ = classifier.shape
    return classifier.reshape(n_jobs, n_classes, n_parts, -1).transpose(1, 2).flatten(end_dim=1)
