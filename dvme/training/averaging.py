"""An exponential average of weights over a training, which often predicts better than the last ones do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dvme.training.norms import normalisations
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = deferred("torch")


class Average:
    """The average of what is trained in some modules: their parameters and the statistics of normalisations.

    Small data has hundreds of steps, where the usual windows of ten thousand would keep the start. So the window is
    given in steps, and early on it is shorter still: update t, from 0, weighs the average so far by at most
    (1 + t) / (10 + t). Counters, and whatever else is not trained, are as they are at the end.

    Source: Tarvainen and Valpola 2017, section 3; the cap is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, modules: Sequence[nn.Module], window_steps: float) -> None:
        self._decay = max(0.0, 1.0 - 1.0 / window_steps)
        self._n_updates = 0
        self._current = [value for module in modules for value in _averaged(module)]
        self._average = [value.detach().clone() for value in self._current]

    def update(self) -> None:
        """Take note of a step."""
        decay = min(self._decay, (1 + self._n_updates) / (10 + self._n_updates))
        self._n_updates += 1
        with torch.no_grad():
            for average, value in zip(self._average, self._current, strict=True):
                average.lerp_(value, 1.0 - decay)

    def state(self) -> dict[str, Any]:
        """What it goes on from."""
        return {"n_updates": self._n_updates, "average": self._average}

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Be as the average was whose `state` this is."""
        self._n_updates = state["n_updates"]
        for own, value in zip(self._average, state["average"], strict=True):
            own.copy_(value)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The modules with the average in place of what they were trained to."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for average, value in zip(self._average, self._current, strict=True):
                passing = value.clone()
                value.copy_(average)
                average.copy_(passing)


def _averaged(module: nn.Module) -> Iterator[Tensor]:
    yield from (value for value in module.parameters() if value.requires_grad)
    for each in normalisations(module):
        yield from (value for value in each.buffers(recurse=False) if value.is_floating_point())
