"""What every backbone of the zoo is fed, against the publishers' evaluation transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from dvme.backbones import Preprocess, get_spec
from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.loading.model import Backbone
from dvme.backbones.model.preprocess import crop_image
from dvme.backbones.zoo import ZOO

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NOT_AT_ALL = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BILINEAR, BICUBIC = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC


def published(
    size: int | tuple[int, int], crop: int, interpolation: InterpolationMode, statistics: Any = IMAGENET
) -> Compose:
    """An image of PIL to (3, H, W), by torchvision."""
    return Compose([Resize(size, interpolation), CenterCrop(crop), ToTensor(), Normalize(*statistics)])


BY_METHOD: dict[str, Compose] = {
    **dict.fromkeys(
        ["supervised", "random", "moco", "moco-v3", "pcl", "insdis", "pirl", "infomin", "barlow-twins"],
        published(256, 224, BILINEAR),
    ),
    **dict.fromkeys(
        ["swav", "deepcluster-v2", "sela-v2"], published(256, 224, BILINEAR, (IMAGENET[0], (0.228, 0.224, 0.225)))
    ),
    **dict.fromkeys(["byol", "dino", "dinov2", "mae", "sit"], published(256, 224, BICUBIC)),
    "dinov3": published((256, 256), 256, BILINEAR),
    "simclr-v2": published(256, 224, BICUBIC, NOT_AT_ALL),
}
BY_NAME: dict[str, Compose] = {
    "supervised-v2": published(232, 224, BILINEAR),
    "simclr": published(256, 224, BILINEAR),  # VISSL's
    "simclr-800ep": published(256, 224, BILINEAR),
    "inat2021-mini-swav": published(256, 224, BILINEAR),  # as its authors evaluate it, not as SwAV's do
    **dict.fromkeys(["simclr-v1", "simclr-v1-2x", "simclr-v1-4x"], published(256, 224, BICUBIC, NOT_AT_ALL)),
    "rad-dino": published(518, 518, BICUBIC, ((0.5307,) * 3, (0.2583,) * 3)),
    "efficientnet-lite0": published(256, 224, BICUBIC, HALF),
    "efficientnet-lite1": published(272, 240, BICUBIC, HALF),
    "efficientnet-lite2": published(292, 260, BICUBIC, HALF),
}


def photograph(width: int, height: int) -> Image.Image:
    """Smooth, with an edge and some noise."""
    rng = np.random.default_rng(width)
    rows, columns = np.mgrid[:height, :width]
    smooth = 128 + 60 * np.sin(columns / 17)[..., None] + 50 * np.cos(rows / 23)[..., None] * [1.0, 0.5, -1.0]
    edge = 40 * (rows + columns > height)[..., None]
    return Image.fromarray((smooth - edge + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8))


IMAGES = {
    "landscape": photograph(401, 300),
    "portrait": photograph(333, 487),
    "grey": photograph(320, 281).convert("L"),
    "smaller than the crop": photograph(90, 61),
    "as large as the crop": photograph(224, 224),
}


def reference(spec: BackboneSpec) -> Compose:
    return BY_NAME.get(spec.name) or BY_METHOD[spec.method]


def fed(image: Image.Image, spec: BackboneSpec) -> Tensor:
    """(3, H, W): what the model of a spec receives."""
    pixels = torch.from_numpy(crop_image(image, spec.preprocess).copy())[None]
    backbone = Backbone(
        BackboneSpec(
            name="what it receives",
            method="",
            architecture="",
            dim=None,
            pooling="model",
            preprocess=spec.preprocess,
            checkpoint=None,
            source="random",
            licence="",
            paper="",
        ),
        nn.Flatten(),
        torch.device("cpu"),
    )
    crop = spec.preprocess.crop
    return backbone.embed(pixels).view(3, crop, crop)


def one_of_each() -> list[str]:
    """The first backbone with every distinct preprocessing and published transform."""
    first: dict[tuple[Preprocess, str], str] = {}
    for spec in ZOO:
        first.setdefault((spec.preprocess, repr(reference(spec))), spec.name)
    return list(first.values())


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("name", one_of_each())
def test_preprocess__equals_the_published_transform(name: str, image: str) -> None:
    """To a hundredth of a grey level: a standard deviation of 0.228 instead of 0.229 is half of one."""
    spec = get_spec(name)
    expected = reference(spec)(IMAGES[image].convert("RGB"))
    std = torch.tensor(spec.preprocess.std)[:, None, None]
    difference = (fed(IMAGES[image], spec) - expected) * std * 255
    assert float(difference.abs().max()) <= 0.01


def test_one_of_each__are_the_distinct_preprocessings() -> None:
    assert {get_spec(name).preprocess for name in one_of_each()} == {spec.preprocess for spec in ZOO}
    assert len(one_of_each()) == len({spec.preprocess for spec in ZOO})
