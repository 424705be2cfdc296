"""What the tests of the backbones share: weights that matter everywhere, and normalisation by torchvision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import Normalize, ToTensor

from dvme.backbones import Preprocess

from .zoo.noise import PERIOD, draw, repeated


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small models gain nothing from two threads, and on busy cores the two wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def quick_initialisation() -> Iterator[None]:
    """Fresh weights repeat a short draw: as random for a seed, and as different from any file, but not by the million.

    Several networks of 25 million weights are made in every module here, and most are overwritten by a file at once.
    """
    normal, uniform = torch.Tensor.normal_, torch.Tensor.uniform_

    def quick_normal(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
        if self.is_meta:
            return self
        if self.numel() <= PERIOD:
            return normal(self, mean, std, generator=generator)
        return self.copy_(repeated(normal(torch.empty(PERIOD), mean, std, generator=generator), self.shape))

    def quick_uniform(self: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Any = None) -> Tensor:
        if self.is_meta:
            return self
        if self.numel() <= PERIOD:
            return uniform(self, low, high, generator=generator)
        return self.copy_(repeated(uniform(torch.empty(PERIOD), low, high, generator=generator), self.shape))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "normal_", quick_normal)
        patch.setattr(torch.Tensor, "uniform_", quick_uniform)
        yield


def _randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Make every weight matter: fresh models have zero biases, unit variances and residual scales of 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            noise = draw(value.shape, generator)
            if name.endswith("running_var"):
                value.copy_(1.0 + 0.3 * noise.tanh())
            elif name.endswith("num_batches_tracked"):
                value.fill_(7)
            elif value.ndim <= 1:
                value.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * noise)
            else:
                value.add_(0.02 * noise)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def randomise() -> Callable[..., Any]:
    """Fill all parameters and buffers of a model from a seed, in place; returns the frozen model."""
    return _randomise


@pytest.fixture(scope="session")
def normalised() -> Callable[[Tensor, Preprocess], Tensor]:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32, by torchvision and image by image."""

    def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
        one = Normalize(preprocess.mean, preprocess.std)
        return torch.stack([one(ToTensor()(image.numpy())) for image in pixels])

    return normalise


@pytest.fixture(scope="session")
def pixels() -> Tensor:
    """(2, 64, 64, 3) uint8: noise, the second with a dark half, so that embeddings of the two images differ."""
    noise = torch.randint(0, 256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    noise[1, :32] //= 4
    return noise


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No host has an address, nobody waits for one, and nothing was downloaded before; returns the empty TORCH_HOME."""
    import socket
    import time

    import huggingface_hub

    def unreachable(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    def impatient(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s for a network that is not there")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(time, "sleep", impatient)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    home = tmp_path / "torch-home"
    monkeypatch.setenv("TORCH_HOME", str(home))
    return home
