"""A linear layer of J heads at once, whose gradient is computed as the weight lies in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class AffineMap(torch.autograd.Function):
    """(J, B, out) from (J, B, in), a weight (J, out, in) and a bias (J, out).

    Autograd would compute the transpose of the weight's gradient, which is several times slower where `out` is small,
    and leave it in another order than the weight lies in memory.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See torch.autograd.Function."""
        ctx.save_for_backward(inputs, weight)
        ctx.has_bias = bias is not None
        if bias is None:
            return inputs @ weight.transpose(1, 2)
        return torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """See torch.autograd.Function; (J, B, out) `upstream` to the gradients of the three inputs."""
        inputs, weight = ctx.saved_tensors
        to_inputs = upstream @ weight if ctx.needs_input_grad[0] else None
        to_weight = upstream.transpose(1, 2) @ inputs
        return to_inputs, to_weight, upstream.sum(dim=1) if ctx.has_bias else None
