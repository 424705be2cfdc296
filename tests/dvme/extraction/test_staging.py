"""The way to the device and back: the same bits as without it, in order, whoever asks when.

The overlapping way runs on the CPU as well, where torch's streams and events are there and do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from device_figures import Figures, run
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import dvme
from dvme.backbones import Preprocess, get_spec
from dvme.backbones.loading.model import Backbone, load_backbone
from dvme.errors import OptionError
from dvme.extraction.staging import N_SLOTS, Stage
from dvme_cache import EmbeddingCache, RowState

CPU = torch.device("cpu")
WAYS = pytest.mark.parametrize("is_overlapping", [False, True])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    spec = replace(get_spec("random"), architecture="test_vit", architecture_args={"img_size": 32}, dim=None)
    return load_backbone(replace(spec, pooling="model", preprocess=Preprocess(resize=32, crop=32)))


def batches(*sizes: int, crop: int = 32) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (n, crop, crop, 3), dtype=np.uint8) for n in sizes]


@WAYS
def test_put__the_same_bits_as_embed(backbone: Backbone, is_overlapping: bool) -> None:
    stage = Stage(backbone, is_overlapping=is_overlapping)
    for pixels in batches(4, 4, 1, 6, 4):
        found = stage.put(pixels).result()
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, backbone.embed(torch.from_numpy(pixels)).numpy())


@WAYS
def test_put__pixels_may_be_overwritten_and_results_asked_for_late_twice_or_never(
    backbone: Backbone, is_overlapping: bool
) -> None:
    """More batches in flight than there are slots."""
    stage = Stage(backbone, is_overlapping=is_overlapping)
    sent = batches(*[3] * (2 * N_SLOTS + 1))
    expected = [backbone.embed(torch.from_numpy(pixels)).numpy() for pixels in sent]
    buffer = np.empty_like(sent[0])
    pending = []
    for pixels in sent:
        buffer[:] = pixels
        pending.append(stage.put(buffer))
    for index in (4, 0, 4, 1, 3):
        np.testing.assert_array_equal(pending[index].result(), expected[index])


class Small(nn.Module):
    """Has memory for so many images, and notes how many it is given."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, list[int]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return images.mean(dim=(2, 3))


@WAYS
def test_put__a_batch_that_does_not_fit(is_overlapping: bool) -> None:
    """Those in flight are not lost, and the next ones go in parts that fit."""
    model = Small(99)
    spec = replace(get_spec("random"), source="built", pooling="model", dim=None)
    small = Backbone(replace(spec, preprocess=Preprocess(resize=8, crop=8)), model, CPU)
    sent = batches(3, 10, 7, crop=8)
    expected = [small.embed(torch.from_numpy(pixels)).numpy() for pixels in sent]
    model.most = 3
    model.seen.clear()
    stage = Stage(small, is_overlapping=is_overlapping)
    pending = [stage.put(pixels) for pixels in sent]
    assert [sorted(model.seen, reverse=True)[:2], small.room.n_images] == [[10, 10] if is_overlapping else [10, 5], 2]
    for found, values in zip(pending, expected, strict=True):
        np.testing.assert_array_equal(found.result(), values)


OWN = """
import torch
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

class Small(nn.Module):
    def __init__(self, most):
        super().__init__()
        self.most, self.calls = most, 0

    def forward(self, images):
        self.calls += 1
        if self.calls > 2 and len(images) > self.most:  # twice while it is loaded
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return images.flatten(1).cumsum(1)[:, ::8] * 3e3

def spec(name, most):
    return BackboneSpec(
        name=name, method="none", architecture="Small", dim=None, pooling="model", checkpoint=None, source="built",
        preprocess=Preprocess(resize=8, crop=8), build=lambda: Small(most), licence="none", paper="none",
    )

whole, parted, none = spec("whole", 99), spec("parted", 3), spec("none", 0)
"""


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., EmbeddingCache]:
    """Embed eleven pictures by backbones of OWN."""
    folder, own = tmp_path / "images", tmp_path / "own.py"
    folder.mkdir()
    for index, pixels in enumerate(batches(*[1] * 11, crop=8)):
        Image.fromarray(pixels[0]).save(folder / f"{index:02}.png")
    own.write_text(OWN)

    def extracted(*names: str) -> EmbeddingCache:
        runtime = dvme.Runtime(device="cpu", batch_size=8)
        dvme.extract(folder, tmp_path / "c.zarr", backbones=[f"{own}:{name}" for name in names], runtime=runtime)
        return EmbeddingCache.open(tmp_path / "c.zarr")

    return extracted


def test_extract__a_device_with_memory_for_three_images_and_numbers_beyond_float16(
    extract: Callable[..., EmbeddingCache],
) -> None:
    """No row is lost, and each is the image's own; what is not finite in half precision fails by itself."""
    store, rows = extract("whole", "parted", "whole@precision=fp16"), np.arange(11)
    whole, parted, half = (store.embeddings(name) for name in store.backbones)
    assert (whole.states() == RowState.DONE).all()
    assert (parted.states() == RowState.DONE).all()
    np.testing.assert_array_equal(parted.read(rows), whole.read(rows))
    is_beyond = np.abs(whole.read(rows)).max(axis=1) > 65_520  # what float16 rounds to infinity
    assert 0 < is_beyond.sum() < 11
    np.testing.assert_array_equal(half.states() == RowState.FAILED, is_beyond)
    reason = "its whole@precision=fp16 embedding is not finite in float32"
    assert set(half.reasons()[is_beyond]) == {reason}


def test_extract__a_device_without_memory_for_one(extract: Callable[..., EmbeddingCache]) -> None:
    with pytest.raises(OptionError, match=r"^cpu has no memory for a single image of 8 x 8 through none; free some"):
        extract("none")


def test_device_figures__in_miniature_on_the_cpu() -> None:
    """Every part runs, so that a GPU's figures are printed on the day that there is one."""
    said: list[str] = []
    small = Figures(
        device="cpu",
        architectures={"test_vit": {"img_size": 32}},
        crop=32,
        precisions=("bf16", "float32"),
        sizes=(1, 2),
        n_files=3,
        n_rows=50,
        dims=(8, 8),
        epochs=1,
        bank=(50, 5),
        compiles="",
    )
    run(small, said.append)
    begun = ("cpu: ", "test_vit bf16: bare", "test_vit float32: bare", "test_vit, random weights", "extract, 3 JPEGs")
    begun += ("dvme, 50 rows", "linear, 50 rows", "faiss, 5 among 50", "torch.compile: not asked for")
    assert [start for start, line in zip(begun, said, strict=True) if not line.startswith(start)] == []
    said.clear()
    run(replace(small, seconds=0.0), said.append)
    assert said[-1] == "compiling: left out, for 0 s are over"
