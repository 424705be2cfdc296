"""The linear head as a layer that can be trained further."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dvme.heads.exact.linear import FittedLinear


class Classifier(nn.Module):
    """(x - c) W + b': the same function as x W + b, which float32 computes without cancellation about a centre c.

    An infinite intercept, of a class that training lacks or of a label that it knows one value of, is no parameter:
    its logit stays what it is.
    """

    centre: Tensor
    learns: Tensor
    """(C,) bool."""
    fixed: Tensor

    def __init__(self, start: FittedLinear, centre: NDArray[Any]) -> None:
        """Begin as a fitted head.

        Args:
            start: of softmax, or of several labels.
            centre: (D,) about which its embeddings lie, such as the mean of the training rows.
        """
        super().__init__()
        about = centre.astype(np.float32)
        learns = np.isfinite(start.intercepts)
        bias = np.where(learns, start.intercepts, 0.0) + about.astype(np.float64) @ start.weights
        self.weight = nn.Parameter(torch.from_numpy(start.weights.T.astype(np.float32).copy()))
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        self.register_buffer("centre", torch.from_numpy(about))
        self.register_buffer("learns", torch.from_numpy(learns))
        self.register_buffer("fixed", torch.from_numpy(start.intercepts.astype(np.float32)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) logits of (B, D) embeddings."""
        logits = nn.functional.linear(features - self.centre, self.weight, self.bias)
        return torch.where(self.learns, logits, self.fixed)

    def fitted(self, *, is_multilabel: bool = False) -> FittedLinear:
        """The same function of embeddings that are not centred."""
        weights = self.weight.detach().cpu().double().numpy().T.copy()
        bias = self.bias.detach().cpu().double().numpy() - self.centre.cpu().double().numpy() @ weights
        intercepts = np.where(self.learns.cpu().numpy(), bias, self.fixed.cpu().double().numpy())
        return FittedLinear(weights, intercepts, {}, is_multilabel=is_multilabel)
