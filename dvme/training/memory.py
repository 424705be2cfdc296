"""What a training takes of memory, measured before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvme.errors import OptionError, parameter
from dvme.text import counted
from dvme.training.norms import begin_training
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = deferred("torch")

TRIED = 2
"""Images of the step that is measured."""
IN_PASSING = 3
"""Copies of the largest layer's output that are held for a moment: on the way back its gradient, that of its input, and
what the library that multiplies puts in another order. All in all that is 0.91 to 1.15 times the measured peaks of
convolutional networks and transformers on a CPU."""
COPIES, OF_TRAINED = 4, 3
"""Of all weights: as they were published, as training starts with them, on their way and the best; of those that are
trained as well: gradients and the optimizer's two moments."""


@dataclass(frozen=True)
class Step:
    """Bytes of a training."""

    fixed: int
    """Whatever the minibatch."""
    each: int
    """For an image of the minibatch."""

    def bytes_of(self, batch_size: int) -> int:
        """With minibatches of a size."""
        return self.fixed + batch_size * self.each

    def most_images(self, n_bytes: int) -> int:
        """The largest minibatch for which so many bytes are enough; 0: none."""
        return max(0, (n_bytes - self.fixed) // self.each)


def measured(
    model: nn.Module, channels: int, crop: int, square: int, *, has_average: bool, is_halved: bool = False
) -> Step:
    """Take the way there of a step on noise, and count what it keeps for the way back.

    Args:
        model: from images (B, C, S, S) to features; weights that ask for no gradient are not trained. Its modes change.
        channels: C.
        crop: S.
        square: side of what motions start from.
        has_average: whether an average of the weights is kept as well.
        is_halved: whether the steps compute in bfloat16 where that is allowed.
    """
    weights = list(model.parameters())
    device = weights[0].device
    begin_training(model, is_frozen=True)
    images = torch.zeros(TRIED, channels, crop, crop, device=device)
    halved = torch.autocast(device.type, torch.bfloat16, enabled=is_halved)
    with halved:
        kept = kept_bytes(model, lambda: model(images.contiguous(memory_format=torch.channels_last)))
    pixels = 4 * (channels * (2 * square**2 + 2 * crop**2) + 2 * crop**2)  # squares, where they move to, and how
    each = kept // TRIED + pixels
    whole, trained = (
        sum(value.nbytes for value in weights if value.requires_grad or not is_trained) for is_trained in (False, True)
    )
    return Step((COPIES + has_average) * whole + OF_TRAINED * trained, each)


def kept_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """What the way there of a step keeps for the way back, and what is held for a moment; weights not counted.

    Args:
        model: whose weights and statistics are not counted.
        forward: goes through it.
    """
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # or a later one could be taken for an earlier one

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(value)
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        forward()
    return sum(kept.values()) + IN_PASSING * max(kept.values(), default=0)


def check_room(step: Step, batch_size: int, n_bytes: int, name: str, backbone: str) -> None:
    """Refuse a training that memory does not hold.

    Args:
        step: what it takes.
        batch_size: images of a minibatch.
        n_bytes: that it may take.
        name: of the head.
        backbone: that is trained.

    Raises:
        OptionError: with the largest minibatch that fits.
    """
    needed = step.bytes_of(batch_size)
    if needed <= n_bytes:
        return
    most = step.most_images(n_bytes)
    choice = f"add @batch-size={most} to its name" if most else "choose a smaller size or backbone"
    takes = f"{name} on {backbone} takes about {needed:,} bytes with minibatches of {counted(batch_size, 'image')}"
    raise OptionError(f"{takes}, and may take {n_bytes:,}; {choice}, or pass more as " + parameter("memory"))
