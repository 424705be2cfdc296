"""What heads say of some images, as a question of yes or no for each finding, or for each class against the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.targets import Targets
from dvme.metrics.classification import log_odds


@dataclass(frozen=True, eq=False)
class Panel:
    """N images, L questions, J heads of one method."""

    names: tuple[str, ...]
    """(L,) findings, or classes; of two classes the second."""
    truth: NDArray[Any]
    """(N, L) of 1, 0, and nan where it is not known."""
    odds: tuple[NDArray[np.float64], ...]
    """(J,) of (N, L) log odds: log p - log (1 - p), which keep apart what as probabilities are all 1."""
    groups: NDArray[Any] | None = None
    """(N,) which images are of one patient; None: every image is a unit of its own."""

    @classmethod
    def of(
        cls,
        targets: Targets,
        folds: Sequence[NDArray[Any]],
        groups: NDArray[Any] | None = None,
    ) -> Panel:
        """From what a study keeps.

        Args:
            targets: of the N images.
            folds: J of (N, C) log probabilities.
            groups: see `groups`.
        """
        first = 0 if targets.is_multilabel or len(targets.classes) > 2 else 1
        names = targets.classes[first:]
        odds = tuple(log_odds(fold, is_multilabel=targets.is_multilabel)[:, first:] for fold in folds)
        return cls(names, targets.among(targets.classes)[:, first:].astype(np.float64), odds, groups)

    def __len__(self) -> int:
        return len(self.truth)

    def at(self, rows: NDArray[Any]) -> Panel:
        """Some of the images, by position or as a mask."""
        own = None if self.groups is None else self.groups[rows]
        return replace(self, truth=self.truth[rows], odds=tuple(fold[rows] for fold in self.odds), groups=own)

    def classes(self) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
        """Of images with one class each: (N,) class indices, and J of (N, C) scores, as `dvme.stats` takes them."""
        if len(self.names) == 1:
            return self.truth[:, 0].astype(np.int64), [
                np.stack([-fold[:, 0], fold[:, 0]], axis=1) for fold in self.odds
            ]
        return self.truth.argmax(axis=1), list(self.odds)

    @property
    def probabilities(self) -> list[NDArray[np.float64]]:
        """(J,) of (N, L)."""
        from scipy.special import expit

        return [expit(fold) for fold in self.odds]
