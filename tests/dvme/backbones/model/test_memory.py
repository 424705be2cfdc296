"""Batches that do not fit: halved until they do, no row lost, and one line where not even one image fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dvme.backbones import Preprocess, get_spec
from dvme.backbones.loading.model import Backbone
from dvme.backbones.model.memory import NoMemoryForOneError, Room, is_out_of_memory
from dvme.errors import OptionError

CPU = torch.device("cpu")
SPEC = replace(
    get_spec("random"), name="own", source="built", pooling="model", dim=None, preprocess=Preprocess(resize=8, crop=8)
)


class Small(nn.Module):
    """Has memory for so many images, and notes how many it is given. Each row tells its image."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.most, self.error = most, error or torch.OutOfMemoryError("CUDA out of memory.")
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        if len(images) > self.most:
            raise self.error
        return images.flatten(1).double().sum(dim=1, keepdim=True).expand(-1, 3).float()


def images(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 8, 8, 3).contiguous()


def backbone_of(model: Small) -> Backbone:
    """Loaded where there is memory, for the first batches have two images and one."""
    most, model.most = model.most, 99
    backbone = Backbone(SPEC, model, CPU)
    model.most = most
    model.seen.clear()
    return backbone


@pytest.mark.parametrize(
    ("most", "seen", "fits"),
    [
        (10, [10], None),
        (9, [10, 5, 5], 5),
        (5, [10, 5, 5], 5),
        (4, [10, 5, 2, 2, 2, 2, 2], 2),
        (1, [10, 5, 2] + 10 * [1], 1),
    ],
)
def test_embed__halves_a_batch_that_does_not_fit(most: int, seen: list[int], fits: int | None) -> None:
    model = Small(most)
    backbone = backbone_of(model)
    expected = Backbone(SPEC, Small(99), CPU).embed(images(10))
    assert torch.equal(backbone.embed(images(10)), expected)
    assert (model.seen, backbone.room.n_images) == (seen, fits)


def test_embed__remembers_what_fitted() -> None:
    model = Small(3)
    backbone = backbone_of(model)
    backbone.embed(images(8))
    model.seen.clear()
    assert backbone.embed(images(5)).shape == (5, 3)
    assert model.seen == [2, 2, 1]


def test_embed__memory_that_shrinks_within_a_batch() -> None:
    class Shrinking(Small):
        def forward(self, images: Tensor) -> Tensor:
            self.most = 4 if len(self.seen) < 2 else 1
            return super().forward(images)

    model = Shrinking(8)
    backbone = backbone_of(model)
    expected = Backbone(SPEC, Small(99), CPU).embed(images(9))
    assert torch.equal(backbone.embed(images(9)), expected)
    assert model.seen == [9, 4, 4, 2, 1, 1, 1, 1, 1]
    assert backbone.embed(images(0)).shape == (0, 3)


def test_embed__not_even_one() -> None:
    backbone = backbone_of(Small(0))
    message = "^cpu has no memory for a single image of 8 x 8 through own; free some, choose a smaller size or backbone"
    with pytest.raises(OptionError, match=message) as caught:
        backbone.embed(images(4))
    assert "\n" not in str(caught.value)


def test_embed__another_failure_is_no_lack_of_memory() -> None:
    model = Small(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    backbone = backbone_of(model)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        backbone.embed(images(4))
    assert model.seen == [4]


def test_backbone__no_memory_for_the_weights() -> None:
    message = "^cpu has no memory for the weights of own; choose a smaller backbone, or device='cpu'"
    with pytest.raises(OptionError, match=message):
        Backbone(SPEC, Small(0, RuntimeError("MPS backend out of memory (MPS allocated: 5.56 GB)")), CPU)


def really_too_much() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.56 GB, max allowed: 6.80 GB)."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        really_too_much(),
        MemoryError(),
    ],
)
def test_is_out_of_memory__as_devices_say_it(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: an illegal memory access"), ValueError("out of memory")])
def test_is_out_of_memory__what_is_none(error: Any) -> None:
    assert not is_out_of_memory(error)


def test_room__parts_cover_the_batch_once() -> None:
    room = Room(CPU)
    assert room.parts(7) == [slice(0, 7)]
    room.n_images = 3
    assert room.parts(7) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert room.parts(2) == [slice(0, 2)]
    assert room.parts(0) == [slice(0, 0)]


def test_room__nothing_fits() -> None:
    def refuse(part: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(NoMemoryForOneError):
        Room(CPU).embed(refuse, images(3))
