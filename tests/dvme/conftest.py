"""Small finished runs over made-up embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import a_cluster
from light import light
from numpy.typing import NDArray

import dvme
from dvme.cluster import Cluster
from dvme.study.loaded import Study

N = 240


@pytest.fixture(scope="session")
def two_workers() -> Iterator[Cluster]:
    """A Ray cluster of two cores, to which this process is connected."""
    with a_cluster() as found:
        yield found


@pytest.fixture(scope="session")
def head_node(two_workers: Cluster) -> str:
    """Its address."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture(scope="session")
def sweep_of(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Callable[..., Path]:
    """A folder with `c.zarr` and its run `run`, of backbones given by their signal."""

    def make(
        signals: dict[str, float],
        heads: Sequence[str],
        sizes: Sequence[str] = ("40", "full"),
        dim: int = 8,
        n_folds: int = 3,
        **extra: Any,
    ) -> Path:
        root, labels = tmp_path_factory.mktemp("study"), np.arange(N) % 3
        features = {
            name: make_features(labels, signal, seed, dim) for seed, (name, signal) in enumerate(signals.items())
        }
        texts = [("low", "middle", "high")[label] for label in labels]
        write_embeddings(root / "c.zarr", features, label=texts, **extra)
        options = dvme.SubsetOptions(sizes=list(sizes), n_folds=n_folds)
        dvme.sweep(root / "c.zarr", root / "run", heads=light(*heads), controls=False, options=options)
        return root

    return make


@pytest.fixture(scope="session")
def clear(sweep_of: Callable[..., Path]) -> Path:
    """One backbone that knows the classes, one that hardly does."""
    return sweep_of({"good": 1.0, "noise": 0.2}, ["linear", "concat"])


@pytest.fixture
def clear_study(clear: Path) -> Study:
    """That run, read and judged."""
    return Study.load(clear / "run")


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory, write_embeddings: Callable[..., Path]) -> Path:
    """A folder with `c.zarr`, images that may have several of three findings, and its run `run`; every tenth image is
    uncertain of `Mass`, every eleventh unknown."""
    root, rng = tmp_path_factory.mktemp("several"), np.random.default_rng(0)
    truth = rng.random((N, 3)) < [0.5, 0.3, 0.2]
    signal = {"good": 1.0, "noise": 0.2}
    features = {
        name: (size * truth @ rng.normal(size=(3, 8)) + rng.normal(size=(N, 8))).astype(np.float32)
        for name, size in signal.items()
    }
    doubt = ["=?" if row % 10 == 0 else "=" if row % 11 == 0 else "" for row in range(N)]
    texts = [
        "|" + "Edema|" * bool(own[0]) + "Effusion|" * bool(own[1]) + f"Mass{mark}|" * (bool(own[2]) or bool(mark))
        for own, mark in zip(truth, doubt, strict=True)
    ]
    write_embeddings(root / "c.zarr", features, label=texts)
    options = dvme.SubsetOptions(sizes=["60", "full"], n_folds=2)
    dvme.sweep(root / "c.zarr", root / "run", heads=light("linear", "concat"), controls=False, options=options)
    return root
