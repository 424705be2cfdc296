"""Spec, published file and images to features, through the same steps as `dvme extract`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dvme.backbones import BackboneSpec
from dvme.backbones.loading.building import build_model
from dvme.backbones.model.pooling import POOLS


@pytest.fixture(scope="session")
def of_size() -> Callable[..., BackboneSpec]:
    """A spec for images of another size, and other arguments of its architecture."""

    def sized(spec: BackboneSpec, size: int, **arguments: Any) -> BackboneSpec:
        preprocess = replace(spec.preprocess, resize=size, crop=size)
        return replace(spec, preprocess=preprocess, architecture_args={**spec.architecture_args, **arguments})

    return sized


@pytest.fixture
def features(tmp_path: Path) -> Callable[[BackboneSpec, Any, Tensor], Tensor]:
    """Save a published file, load it strictly and embed images that are normalised already."""

    def embed(spec: BackboneSpec, content: Any, images: Tensor) -> Tensor:
        path = tmp_path / "weights.pth"
        torch.save(content, path)
        model = build_model(spec, path).model.eval()
        with torch.inference_mode():
            return POOLS[spec.pooling](model, images)

    return embed


@pytest.fixture(scope="session")
def noise() -> Callable[..., Tensor]:
    """(B, 3, size, size) float32: smooth and rough noise, as different on every side of an image as can be."""

    def draw(size: int, n_images: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(size)
        return torch.randn(n_images, 3, size, size, generator=generator) + torch.linspace(-1, 1, size)

    return draw


@pytest.fixture(scope="session")
def assert_close() -> Callable[[Tensor, Tensor], None]:
    """Equal to 1e-5 of the largest value."""

    def check(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))

    return check
