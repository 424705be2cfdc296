"""A device that has no memory for a batch: how it says so, and half a batch in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SAYS_SO = (
    "out of memory",  # MPS raises a plain RuntimeError, and so does CUDA where a library asks the driver
    "out_of_device_memory",
    "out_of_host_memory",
    "alloc_failed",
    "can't allocate memory",
    "not enough memory",
)
"""What errors say that are no `torch.OutOfMemoryError`."""


class NoMemoryForOneError(Exception):
    """Not even one image fits."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that a device, or the machine, has no memory for what was asked."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SAYS_SO)


def release(device: torch.device) -> None:
    """Give back what torch keeps of freed memory; without it a smaller batch may not fit into the pieces."""
    module: Any = getattr(torch, device.type, None)
    if hasattr(module, "empty_cache"):
        module.empty_cache()


class Room:
    """How many images a device has had memory for at once, which only ever shrinks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.n_images: int | None = None
        """None: as many as were asked for so far."""

    def parts(self, n_images: int) -> list[slice]:
        """A batch in parts that fit, in order; one part while everything did."""
        size = max(1, min(n_images, self.n_images or n_images))
        return [slice(start, min(start + size, n_images)) for start in range(0, max(n_images, 1), size)]

    def embed(self, function: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        """What a function makes of a batch, in one piece if that fits, else in parts, halved until they do.

        Args:
            function: (b, ...) to (b, D), row by row.
            pixels: (B, ...).

        Returns:
            (B, D).

        Raises:
            NoMemoryForOneError: if there is no memory for a single image.
        """
        done: list[Tensor] = []
        todo = self.parts(len(pixels))
        while todo:
            part = pixels[todo[0]]
            found = self._tried(function, part)
            if found is not None:
                done.append(found)
                del todo[0]
                continue
            if len(part) <= 1:
                raise NoMemoryForOneError
            self.n_images = len(part) // 2
            start = todo[0].start
            todo = [slice(start + rest.start, start + rest.stop) for rest in self.parts(len(pixels) - start)]
        return done[0] if len(done) == 1 else torch.cat(done)

    def _tried(self, function: Callable[[Tensor], Tensor], part: Tensor) -> Tensor | None:
        """None where it does not fit; what the attempt held is freed by then, for no error holds its frames."""
        try:
            return function(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        release(self._device)
        return None
