"""A head of a user's own, as a study takes it: the nearest mean of a class. It also notes what it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.heads import Embedded, FittedHead, Job
from dvme.runtime import Progress, Runtime


@dataclass(frozen=True)
class FittedCentroids:
    """Means of the classes."""

    means: NDArray[np.float64]
    """(C, D)"""
    chosen: Mapping[str, Any]

    def log_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Of a class, as the squared distance to its mean has it."""
        rows = np.concatenate(blocks, axis=1).astype(np.float64)
        near = -0.5 * ((rows[:, None] - self.means) ** 2).sum(axis=2)
        logs: NDArray[Any] = near - np.logaddexp.reduce(near, axis=1, keepdims=True)
        return logs

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C)"""
        chances: NDArray[Any] = np.exp(self.log_proba(blocks))
        return chances

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The means."""
        return {"means": self.means}

    def settings(self) -> dict[str, Any]:
        """None."""
        return {}

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedCentroids:
        """As it was."""
        return cls(arrays["means"], settings)


@dataclass(frozen=True)
class Centroids:
    """Nearest class means."""

    needs: int = 0
    """Bytes that a fit is said to hold."""
    name: str = "centroids"
    is_fusion: bool = False
    revision: ClassVar[int] = 1
    shown: ClassVar[list[tuple[list[Job], Embedded, int]]] = []
    """(jobs, data, bytes that may be held) of every fit since a test cleared it."""

    def least_bytes(self, n_rows: int, dims: Sequence[int], n_classes: int, *, is_multilabel: bool = False) -> int:
        """See Bounded."""
        del n_rows, dims, n_classes, is_multilabel
        return self.needs

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """One after another."""
        Centroids.shown.append((list(jobs), data, runtime.memory_budget("cpu")))
        for position, job in enumerate(jobs):
            rows = np.concatenate(data.blocks(job.backbones, job.train), axis=1).astype(np.float64)
            own = data.labels[job.train]
            means = np.stack([rows[own == c].mean(axis=0) for c in range(data.n_classes)])
            progress("fit centroids", position + 1, len(jobs))
            yield position, FittedCentroids(means, {"n_rows": len(rows)})
