"""What the tests of conversion share: genuine checkpoints, and a ResNet written out once more, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]
BLOCKS = (3, 4, 6, 3)
EPSILON = 1e-5


@pytest.fixture
def fixtures() -> Path:
    return Path(__file__).parent / "fixtures"


@pytest.fixture
def images() -> Tensor:
    """(2, 3, 64, 64): the images whose embeddings the frameworks wrote down, from a formula."""
    values = np.sin(np.arange(2 * 64 * 64 * 3, dtype=np.float64) * 0.37)
    return torch.from_numpy(values.reshape(2, 64, 64, 3).astype(np.float32)).permute(0, 3, 1, 2)


def same_padded(x: Tensor, kernel: int, stride: int, fill: float = 0.0) -> Tensor:
    """TensorFlow's and JAX's SAME: the odd pixel goes to the right and below."""
    size = x.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    return functional.pad(x, (before, after, before, after), value=fill)


def _embed(state: State, images: Tensor, has_same_convolutions: bool) -> Tensor:
    """A bottleneck ResNet-50 by its names; the pooling is SAME, the strided convolutions if told so."""

    def unit(x: Tensor, conv: str, norm: str, stride: int) -> Tensor:
        weight = state[f"{conv}.weight"]
        kernel = weight.shape[-1]
        pad = kernel // 2
        x = same_padded(x, kernel, stride) if has_same_convolutions else functional.pad(x, (pad, pad, pad, pad))
        x = functional.conv2d(x, weight, stride=stride)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return functional.batch_norm(x, mean, var, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=EPSILON)

    x = unit(images, "conv1", "bn1", 2).relu()
    x = functional.max_pool2d(same_padded(x, 3, 2, -torch.inf), 3, 2)
    for layer, n_blocks in enumerate(BLOCKS, start=1):
        for block in range(n_blocks):
            name = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            shortcut = x
            if block == 0:
                shortcut = unit(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = unit(x, f"{name}.conv1", f"{name}.bn1", 1).relu()
            x = unit(x, f"{name}.conv2", f"{name}.bn2", stride).relu()
            x = (unit(x, f"{name}.conv3", f"{name}.bn3", 1) + shortcut).relu()
    return x.mean((2, 3))


@pytest.fixture
def embed() -> Callable[[State, Tensor, bool], Tensor]:
    """(B, D) embeddings of (B, 3, H, W) images."""
    return _embed


@pytest.fixture(scope="session")
def resnet50_names() -> set[str]:
    """torchvision's own names, without the classifier and the batch counters."""
    from torchvision.models import resnet50

    with torch.device("meta"):
        state = resnet50().state_dict()
    return {name for name in state if not name.startswith("fc.") and not name.endswith("num_batches_tracked")}
