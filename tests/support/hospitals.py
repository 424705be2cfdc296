"""Made-up hospitals: caches of embeddings that show something of their images' findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme_cache import EmbeddingCache, Fingerprint

NAMES = ("Edema", "Effusion", "Mass")


class Hospital:
    """Images with findings, of which both backbones show something."""

    def __init__(self, seed: int, n: int, shift: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.truth = (rng.random((n, 3)) < 0.4).astype(np.float32)
        directions = np.random.default_rng(99).normal(size=(2, 3, 8))
        self.values: dict[str, NDArray[Any]] = {
            name: (self.truth @ directions[i] + rng.normal(size=(n, 8)) + shift).astype(np.float32)
            for i, name in enumerate(("a", "b"))
        }
        self.groups = [f"p{image // 2}" for image in range(n)]
        self.labels = [findings_text(row, NAMES) for row in self.truth]

    @property
    def classes(self) -> list[str]:
        """Whether there is an effusion, as one class of each image."""
        return [("NORMAL", "FLUID")[int(row[1])] for row in self.truth]


def write_site(
    target: Path,
    embeddings: Mapping[str, NDArray[Any]],
    labels: Sequence[str],
    *,
    first: int = 0,
    groups: Sequence[str] | None = None,
    weights: Mapping[str, str] | None = None,
    paths: Sequence[str] | None = None,
    split: Sequence[str] | None = None,
) -> Path:
    """Write a cache of embeddings whose images have numbers from `first` on: caches share those that are equal."""
    images = np.arange(first, first + len(labels))
    with EmbeddingCache.writing(target) as cache:
        names = list(paths or (f"{image}.png" for image in images))
        rows = cache.samples.add([(int(image) + 1).to_bytes(8, "big") * 2 for image in images], names)
        columns = {"label": list(labels), "path": names}
        columns |= {} if groups is None else {"group": list(groups)}
        columns |= {} if split is None else {"split": list(split)}
        cache.update_columns(rows, columns)
        for name, values in embeddings.items():
            mark = {"weights": (weights or {}).get(name, name), "size": 224}
            table = cache.ensure_embeddings(
                name, Fingerprint(mark), dim=values.shape[1], dtype=str(values.dtype), provenance={}
            )
            for shard in table.pending_shards():
                table.commit(shard, values[shard], {})
    return target


def findings_text(row: NDArray[Any], names: Sequence[str]) -> str:
    """As a cache has it."""
    return "|" + "".join(f"{name}|" for name, value in zip(names, row, strict=True) if value)
