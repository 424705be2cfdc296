"""Small finished runs over made-up embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light
from numpy.typing import NDArray

import dvme
from dvme.study.loaded import Study

N = 240


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
