"""The linear head of classes in order, by proportional odds, as a layer that can be trained further."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dvme.heads.exact.linear import CUMULATIVE, FittedLinear


class OrderedClassifier(nn.Module):
    """Log probabilities of classes in order: one score z and cuts b_0 > b_1 > ..., P(y > k) = sigmoid(z + b_k).

    The first cut is a parameter, and of every further one the log of exp(gap) - 1, so that cuts stay in order. Two cuts
    around a class that training lacks are one, and infinite ones are none: that class has a probability of 0.
    """

    centre: Tensor
    learns: Tensor
    """(C,) bool: the classes that training knows."""

    def __init__(self, start: FittedLinear, centre: NDArray[Any]) -> None:
        """Begin as a fitted head.

        Args:
            start: by cumulative link.
            centre: (D,) as `Classifier` has it.
        """
        super().__init__()
        about = centre.astype(np.float32)
        intercepts = start.intercepts
        ends = np.concatenate([[np.inf], intercepts, [-np.inf]])
        is_cut = np.isfinite(intercepts)
        cuts, inverse = np.unique(-intercepts[is_cut], return_inverse=True)  # falling, each once
        self._places = np.full(len(intercepts), -1)
        self._places[is_cut] = inverse
        self._infinite = intercepts
        own = -cuts + float(about.astype(np.float64) @ start.weights[:, 0])
        gaps = own[:-1] - own[1:]
        self.weight = nn.Parameter(torch.from_numpy(start.weights[:, 0].astype(np.float32)))
        self.first = nn.Parameter(torch.from_numpy(own[:1].astype(np.float32)))
        self.gaps = nn.Parameter(torch.from_numpy((gaps + np.log(-np.expm1(-gaps))).astype(np.float32)))
        self.register_buffer("centre", torch.from_numpy(about))
        self.register_buffer("learns", torch.from_numpy(ends[:-1] > ends[1:]))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) log probabilities of (B, D) embeddings; -inf of classes that training lacks."""
        score = (features - self.centre) @ self.weight
        gaps, none = nn.functional.softplus(self.gaps), score[:, None] * 0.0
        logits = score[:, None] + _fall(self.first, gaps)
        # Of every class that there is: above the cut before it, and not above the next.
        logs = torch.cat([none, nn.functional.logsigmoid(logits)], dim=1)
        logs = logs + torch.cat([nn.functional.logsigmoid(-logits), none], dim=1)
        if len(gaps):
            between = torch.log(-torch.expm1(-gaps)).expand(len(score), -1)
            logs = logs + torch.cat([none, between, none], dim=1)
        spread = logs.new_full((len(logs), len(self.learns)), -math.inf)
        return spread.masked_scatter(self.learns.expand_as(spread), logs)

    def fitted(self, *, is_multilabel: bool = False) -> FittedLinear:
        """The same function of embeddings that are not centred."""
        del is_multilabel
        weights = self.weight.detach().cpu().double()
        gaps = nn.functional.softplus(self.gaps.detach().cpu().double())
        cuts = _fall(self.first.detach().cpu().double(), gaps) - self.centre.cpu().double() @ weights
        intercepts = self._infinite.copy()
        is_cut = self._places >= 0
        intercepts[is_cut] = cuts.numpy()[self._places[is_cut]]
        return FittedLinear(weights.numpy()[:, None].copy(), intercepts, {}, link=CUMULATIVE)


def _fall(first: Tensor, gaps: Tensor) -> Tensor:
    """(m,) cuts of the first (1,) and what each is below the one before; none of none."""
    return first - torch.cat([gaps.new_zeros(len(first)), gaps.cumsum(0)])
