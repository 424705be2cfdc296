"""The unit of work of every head: a list of jobs, fitted together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True)
class Job:
    """One head to fit: on these rows, chosen on those."""

    train: NDArray[Any]
    """(n,) row indices to learn from."""
    validation: NDArray[Any]
    """(v,) row indices to choose hyper-parameters on; disjoint from `train` and from every test row."""
    seed: int = 0
    """Seed of whatever the head draws at random."""


class FittedHead(Protocol):
    """A head that has learned."""

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The hyper-parameters that validation chose."""

    def predict_proba(self, features: NDArray[Any]) -> NDArray[Any]:
        """Class probabilities.

        Args:
            features: (B, D).

        Returns:
            (B, C), rows sum to 1.
        """


class Head(Protocol):
    """A kind of classifier over cached embeddings."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    def fit(
        self, features: NDArray[Any], labels: NDArray[Any], n_classes: int, jobs: Sequence[Job]
    ) -> list[FittedHead]:
        """Fit every job; the result of a job does not depend on the others.

        Args:
            features: (N, D) embeddings of one backbone.
            labels: (N,) class indices; only rows named in a job are looked at.
            n_classes: C.
            jobs: what to fit.

        Returns:
            One fitted head per job, in order.
        """
