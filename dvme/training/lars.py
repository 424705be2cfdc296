"""LARS: SGD with momentum whose steps are relative to the length of what they change. For large minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dvme.limits import positive


class Lars(Optimizer):
    """Layer-wise adaptive rate scaling.

    Of weights w with gradient g, weight decay b, trust coefficient e and momentum m:

        d = e |w| / (|g| + b |w| + eps) (g + b w),    v = m v + d,    w = w - lr v

    |.| is the length of a whole tensor. Vectors and scalars, which are biases and norms, are neither scaled nor
    decayed (d = g), nor is a group whose `weight_decay` is 0. Nor are weights that are all 0, which would never move.
    The first step has v = d. The rate stands outside of the momentum, as in torch's SGD; in the paper it stands
    inside.

    Source: You et al. 2017, "Large Batch Training of Convolutional Networks", algorithm 1. This is the variant of
    `lightly.utils.lars.LARS` (MIT) without dampening and Nesterov's momentum; there vectors are excepted only if they
    are in a group of weight decay 0.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
    ) -> None:
        """Take parameters, or groups of them that may have settings of their own.

        Raises:
            OptionError: if the rate or the trust coefficient is not above 0.
        """
        positive("learning_rate", lr)
        positive("trust_coefficient", trust_coefficient)
        assert 0.0 <= momentum < 1.0, momentum
        assert weight_decay >= 0.0, weight_decay
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step along the gradients that there are.

        Args:
            closure: computes them anew, and gives the loss.

        Returns:
            That loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._move(weights, group)
        return loss

    def _move(self, weights: Tensor, group: Mapping[str, Any]) -> None:
        direction = _direction(weights, group)
        state = self.state[weights]
        if "momentum_buffer" in state:
            state["momentum_buffer"].mul_(group["momentum"]).add_(direction)
        else:
            state["momentum_buffer"] = direction.clone()
        weights.add_(state["momentum_buffer"], alpha=-group["lr"])


def _direction(weights: Tensor, group: Mapping[str, Any]) -> Tensor:
    gradient, decay = weights.grad, group["weight_decay"]
    assert gradient is not None
    if weights.ndim < 2 or decay == 0.0:
        return gradient
    length, slope = weights.norm(), gradient.norm()
    trust = group["trust_coefficient"] * length / (slope + decay * length + group["eps"])
    # Chosen on the device: to ask whether they are 0 would wait for it.
    factor = torch.where(length != 0, trust, 1.0) * (slope != 0)
    return gradient.add(weights, alpha=decay).mul_(factor)
