"""Batches on their way to a backbone's device and back, so that copies overlap with kernels.

On CUDA, ROCm and XPU the pixels go through pinned buffers and are copied on a stream of their own, and embeddings come
back without anyone waiting for them: put the next batch before you ask for the result of the last one. Elsewhere the
same calls are the plain ones: on the CPU there is nothing to overlap, and Apple's GPUs share its memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dvme.backbones.loading.model import Backbone
else:
    torch = deferred("torch")

WITH_STREAMS = frozenset({"cuda", "xpu"})
"""Kinds of devices; torch calls AMD's GPUs cuda as well."""
EVENT_OPTIONS = {"cuda": {"blocking": True}}
"""Whoever waits sleeps: spinning would take a core from those who decode."""
N_SLOTS = 2
"""Batches in flight: the kernels of one, and the copy of the next."""


class Pending(Protocol):
    """Embeddings of one batch, which may not be there yet."""

    def result(self) -> NDArray[np.float32]:
        """(B, D), once they are; as often as asked."""


class Stage:
    """The way of batches to one backbone's device, for one thread."""

    def __init__(self, model: Backbone, *, is_overlapping: bool | None = None) -> None:
        """Start it.

        Args:
            model: on its device.
            is_overlapping: whether copies overlap with kernels; None: as the device can.
        """
        self._model = model
        overlaps = model.device.type in WITH_STREAMS if is_overlapping is None else is_overlapping
        self._ring = _Ring(model) if overlaps else None

    def put(self, pixels: NDArray[np.uint8]) -> Pending:
        """Send a batch on its way; the pixels may be overwritten as soon as this returns.

        Args:
            pixels: (B, H, W, C), contiguous.

        Raises:
            OptionError: if not even one image fits into the device's memory.
        """
        if self._ring is None:
            return _Embedded(self._model.embed(torch.from_numpy(pixels)))
        parts = [self._put(self._ring, pixels[part]) for part in self._model.room.parts(len(pixels))]
        return parts[0] if len(parts) == 1 else _Several(parts)

    def _put(self, ring: _Ring, pixels: NDArray[np.uint8]) -> Pending:
        from dvme.backbones.model.memory import is_out_of_memory, release

        try:
            return ring.put(pixels)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Not above, where the error still holds what did not fit.
        ring.clear()
        release(self._model.device)
        return _Embedded(self._model.embed(torch.from_numpy(pixels)))


class _Embedded:
    """Computed as soon as it was asked for, but perhaps not yet fetched."""

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def result(self) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._features.cpu().numpy()
        return values


class _Several:
    """Of parts of a batch."""

    def __init__(self, parts: list[Pending]) -> None:
        self._parts = parts

    def result(self) -> NDArray[np.float32]:
        return np.concatenate([part.result() for part in self._parts])


class _Ring:
    """Slots that batches take in turn."""

    def __init__(self, model: Backbone) -> None:
        self._model = model
        self._streams: Any = getattr(torch, model.device.type)
        with _current(self._streams, model.device):
            self._copies = self._streams.Stream()
        self._slots: list[_Slot | None] = [None] * N_SLOTS
        self._turn = 0

    def put(self, pixels: NDArray[np.uint8]) -> _InFlight:
        """Copy a batch to the device beside the kernels of the last one, and queue its own."""
        device, n_images = self._model.device, len(pixels)
        with _current(self._streams, device):
            kernels = self._streams.current_stream(device)
            slot = self._slot(pixels.shape, kernels)
            slot.host[:n_images].copy_(torch.from_numpy(pixels))
            with self._streams.stream(self._copies):
                slot.pixels[:n_images].copy_(slot.host[:n_images], non_blocking=slot.is_pinned)
                slot.is_copied.record(self._copies)
            kernels.wait_event(slot.is_copied)
            features = self._model.embed_on_device(slot.pixels[:n_images])
            slot.features[:n_images].copy_(features, non_blocking=slot.is_pinned)
            slot.is_done.record(kernels)
        slot.taken_by = _InFlight(slot, n_images)
        return slot.taken_by

    def clear(self) -> None:
        """Fetch what is in flight, and give the buffers back."""
        for slot in self._slots:
            if slot is not None:
                slot.settle()
        self._slots = [None] * N_SLOTS

    def _slot(self, shape: tuple[int, ...], kernels: Any) -> _Slot:
        """The next one, free and large enough."""
        self._turn = (self._turn + 1) % N_SLOTS
        slot = self._slots[self._turn]
        if slot is not None:
            slot.settle()
        if slot is None or slot.host.shape[0] < shape[0] or slot.host.shape[1:] != shape[1:]:
            self._slots[self._turn] = None
            slot = _Slot(shape, self._model, self._streams)
            # The memory may be that of a tensor which kernels still read.
            self._copies.wait_stream(kernels)
            self._slots[self._turn] = slot
        return slot


class _Slot:
    """Buffers for one batch in flight."""

    def __init__(self, shape: tuple[int, ...], model: Backbone, streams: Any) -> None:
        device = model.device
        self.host, self.is_pinned = _pinned(shape, torch.uint8)
        self.pixels = torch.empty(shape, dtype=torch.uint8, device=device)
        self.features, _ = _pinned((shape[0], model.dim), torch.float32)
        self.is_copied, self.is_done = (streams.Event(**EVENT_OPTIONS.get(device.type, {})) for _ in range(2))
        self.taken_by: _InFlight | None = None

    def settle(self) -> None:
        """Fetch the batch that is in it, if any, so that the next one can have it."""
        if self.taken_by is not None:
            self.taken_by.result()


class _InFlight:
    """In a slot until it is fetched."""

    def __init__(self, slot: _Slot, n_images: int) -> None:
        self._slot: _Slot | None = slot
        self._n_images = n_images
        self._values: NDArray[np.float32]

    def result(self) -> NDArray[np.float32]:
        if self._slot is not None:
            self._slot.is_done.synchronize()
            self._values = self._slot.features[: self._n_images].numpy().copy()
            self._slot.taken_by = None
            self._slot = None
        return self._values


def _pinned(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, bool]:
    """Memory that a device can read by itself; other memory where the system has none of that kind left."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True), True
    except RuntimeError:
        return torch.empty(shape, dtype=dtype), False


def _current(streams: Any, device: torch.device) -> Any:
    """New streams and events belong to the device that is current."""
    from contextlib import nullcontext

    return streams.device(device) if hasattr(streams, "device") else nullcontext()
