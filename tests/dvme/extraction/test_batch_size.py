"""A batch size by trial: as long as twice the batch is worth it, and only where nobody asked for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dvme.backbones import Preprocess, get_spec
from dvme.backbones.loading.model import Backbone, load_backbone
from dvme.extraction.batch_size import WORTH_A_TRIAL, batch_size_for, best_size, images_per_second
from dvme.runtime import Runtime

MANY = 100_000


class Accelerated:
    """What is asked of a backbone before it is measured."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


GPU: Any = Accelerated("cuda")


def trial(*speeds: float) -> Any:
    """Of 32, 64, 128, ... images."""
    return lambda _model, size: speeds[int(np.log2(size)) - 5]


@pytest.mark.parametrize(
    ("speeds", "size"),
    [
        ((100, 190, 300, 314, 400), 128),  # 314 is 4.7 % more
        ((100, 190, 300, 316, 317), 256),
        ((1, 2, 4, 8, 16), 512),  # never more than that
        ((100, 90), 32),
        ((100, 200, 0), 64),  # 128 do not fit
        ((0,), 32),  # then in parts that do
    ],
)
def test_best_size__by_hand(speeds: tuple[float, ...], size: int) -> None:
    assert best_size(GPU, trial(*speeds)) == size


def refuse(_model: Backbone, _size: int) -> float:
    raise AssertionError("nothing is to be tried")


@pytest.mark.parametrize(
    ("device", "asked", "n_images", "size"),
    [
        ("cpu", None, MANY, 16),
        ("mps", None, MANY, 64),
        ("xpu", None, MANY, 64),
        ("cuda", 48, MANY, 48),
        ("cpu", 48, MANY, 48),
        ("cuda", None, WORTH_A_TRIAL - 1, 64),
    ],
)
def test_batch_size_for__without_a_trial(device: str, asked: int | None, n_images: int, size: int) -> None:
    models: Any = [Accelerated(device)]
    assert batch_size_for(models, Runtime(batch_size=asked), n_images, refuse) == size


def test_batch_size_for__the_largest_of_several_backbones() -> None:
    small, large = (Accelerated("cuda") for _ in range(2))
    speeds = {small: (100, 101), large: (100, 200, 400, 404)}
    models: Any = [small, large]
    assert batch_size_for(models, Runtime(), MANY, lambda model, size: trial(*speeds[model])(model, size)) == 128


def test_images_per_second__of_a_batch_that_has_to_be_parted_is_none() -> None:
    spec = replace(get_spec("random"), architecture="test_vit", architecture_args={"img_size": 32}, dim=None)
    model = load_backbone(replace(spec, pooling="model", preprocess=Preprocess(resize=32, crop=32)))
    assert images_per_second(model, 2) > 0
    model.room.n_images = 1
    assert images_per_second(model, 2) == 0
