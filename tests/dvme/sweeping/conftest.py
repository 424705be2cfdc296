"""A small study, and heads that are quick: how good they are is not what is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.evaluation import study
from dvme.heads import Head, get_head
from dvme.heads.controls import Concat, MeanLogits
from dvme.heads.linear import Linear
from dvme.heads.network_head import NETWORKS, NetworkHead
from dvme.heads.schedule import TrainingProtocol
from dvme.sampling.options import SubsetOptions

N = 150


def brief(name: str) -> Head:
    """Two strengths, two epochs."""
    light = Linear((1e-3, 1e-1))
    exact: dict[str, Head] = {"linear": light, "concat": Concat(light), "mean-logits": MeanLogits(light)}
    protocol = TrainingProtocol(max_epochs=2, min_epochs=1)
    return NetworkHead(name, protocol) if name in NETWORKS else exact.get(name) or get_head(name)


@pytest.fixture(autouse=True, scope="package")
def _brief_heads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "get_head", brief)
        yield


@pytest.fixture(scope="session")
def labels() -> NDArray[Any]:
    return np.arange(N) % 3


@pytest.fixture(scope="session")
def features(labels: NDArray[Any], make_features: Callable[..., NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Two backbones, of which the first knows more."""
    return {"a": make_features(labels, 0.8, 0), "b": make_features(labels, 0.5, 1, dim=10)}


@pytest.fixture(scope="session")
def names(labels: NDArray[Any]) -> list[str]:
    return [str(label) for label in labels]


@pytest.fixture(scope="session")
def options() -> SubsetOptions:
    return SubsetOptions(sizes=("12", "40", "full"), n_folds=3)


@pytest.fixture(scope="session")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    features: dict[str, NDArray[Any]],
    names: list[str],
) -> Path:
    return write_embeddings(tmp_path_factory.mktemp("study") / "c.zarr", features, label=names)
