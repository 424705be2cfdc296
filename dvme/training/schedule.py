"""When a job lowers its learning rate, what it keeps, and when it stops: all from its validation losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from dvme.errors import OptionError
from dvme.limits import positive, whole
from dvme.training.batches import Sampling

PLATEAU_THRESHOLD = 1e-4
"""Relative gain below which an epoch counts as one without progress; torch's default."""
LEAST_CHANGE = 1e-8
"""A learning rate that would fall by no more than this stays; torch's `eps`."""
LEAST = {"batch_size": 1, "min_epochs": 0, "max_epochs": 1, "plateau_patience": 0, "stop_patience": 1}
"""Smallest values of the protocol's whole numbers."""


@dataclass(frozen=True, kw_only=True)
class TrainingProtocol:
    """How a network head is trained. The defaults are the paper's.

    Source: Truong et al. 2021, sections 5.2 and 5.3, appendix B.1. The paper watches "the validation loss" in one
    place and "the validation score" in the other; here it is the loss, which is the less noisy with few rows.

    The loss is the plain mean over validation rows, also where training rows are oversampled: counting every class
    alike, as training does, stopped so early on the demo's 2,624 photographs that the validation AUC of every such head
    was 0.015 to 0.021 lower.
    """

    learning_rate: float = 1e-3
    """Of Adam, at the start."""
    batch_size: int = 64
    """Rows of a minibatch."""
    min_epochs: int = 30
    """Epochs before which nothing stops early."""
    max_epochs: int = 50
    """Epochs after which training ends."""
    plateau_factor: float = 0.1
    """What the learning rate is multiplied with on a plateau."""
    plateau_patience: int = 5
    """Epochs without progress that are tolerated before that."""
    stop_patience: int = 10
    """Epochs without a new best after which a job stops."""
    sampling: Sampling = "auto"
    """`shuffled`, `oversampled`, or `auto`: oversampled where the classes differ in number."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.sampling not in get_args(Sampling):
            raise OptionError(f"sampling {self.sampling!r} is not known; choose from {', '.join(get_args(Sampling))}")
        for name, least in LEAST.items():
            object.__setattr__(self, name, whole(name, getattr(self, name), least))
        for name, below in (("learning_rate", math.inf), ("plateau_factor", 1.0)):
            object.__setattr__(self, name, positive(name, getattr(self, name), below))


@dataclass
class Plateau:
    """Where losses stop falling: ReduceLROnPlateau of torch."""

    patience: int
    """Epochs without progress that are tolerated."""
    loss: float = math.inf
    """The last that was progress."""
    n_stalled: int = 0
    """Epochs since then, or since a plateau was seen."""

    def ends_at(self, loss: float) -> bool:
        """Take note of an epoch's loss; whether rates are to fall now."""
        if loss < self.loss * (1.0 - PLATEAU_THRESHOLD):
            self.loss, self.n_stalled = loss, 0
        else:
            self.n_stalled += 1
        is_seen = self.n_stalled > self.patience
        if is_seen:
            self.n_stalled = 0
        return is_seen


class Schedule:
    """One job's course through its epochs."""

    def __init__(self, protocol: TrainingProtocol) -> None:
        self.protocol = protocol
        self.learning_rate = protocol.learning_rate
        self.n_epochs = 0
        self.best_epoch = 0
        """From 1; 0 as long as no loss was finite."""
        self.best_loss = math.inf
        """nan without validation rows."""
        self._plateau = Plateau(protocol.plateau_patience)

    def close_epoch(self, loss: float | None) -> bool:
        """Take note of an epoch's validation loss.

        Args:
            loss: the watched log loss, never the best if it is not finite; None without validation rows, when the
                latest epoch counts as the best.

        Returns:
            Whether this epoch's parameters are to be kept.
        """
        self.n_epochs += 1
        is_best = loss is None or loss < self.best_loss
        if is_best:
            self.best_epoch, self.best_loss = self.n_epochs, math.nan if loss is None else loss
        if loss is not None and self._plateau.ends_at(loss):
            lowered = self.learning_rate * self.protocol.plateau_factor
            if self.learning_rate - lowered > LEAST_CHANGE:
                self.learning_rate = lowered
        return is_best

    @property
    def has_ended(self) -> bool:
        """Whether training stops here."""
        is_stalled = self.n_epochs - self.best_epoch >= self.protocol.stop_patience
        is_early = is_stalled and self.n_epochs >= self.protocol.min_epochs
        return is_early or self.n_epochs >= self.protocol.max_epochs
