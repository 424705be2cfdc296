"""The controls of a fusion: several backbones without attention, so that a gain is not just width.

Both stand on exact logistic regression. `concat` sees all embeddings at once, `mean-logits` one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.errors import OptionError
from dvme.heads.exact.linear import ARGMAX, FittedLinear, Linear, log_proba_of
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job
from dvme.heads.fitting.row_blocks import RowArray
from dvme.runtime import Progress, Runtime
from dvme.vectors import unit_rows


@dataclass(frozen=True)
class FittedConcat(FittedLinear):
    """Logistic regression on embeddings of length 1, side by side."""

    def log_proba(self, blocks: Sequence[RowArray]) -> NDArray[Any]:
        """(B, C)."""
        return super().log_proba([concatenated([np.asarray(block) for block in blocks])])


@dataclass(frozen=True)
class FittedMeanLogits:
    """One logistic regression per backbone; their logits are averaged."""

    members: tuple[FittedLinear, ...]

    @property
    def chosen(self) -> Mapping[str, Any]:
        """`strength` of each backbone, and whether all fits are `is_converged`."""
        return {
            "strength": [member.chosen["strength"] for member in self.members],
            "is_converged": all(member.chosen["is_converged"] for member in self.members),
        } | {name: value for name, value in self.members[0].chosen.items() if name == "constant_labels"}

    @property
    def is_multilabel(self) -> bool:
        """Whether probabilities are independent."""
        return self.members[0].is_multilabel

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) softmax of the mean logits, that is the normalised geometric mean of the probabilities.

        Of several labels the sigmoid of the mean log odds; of classes in order the log odds of being above each are
        averaged.
        """
        probabilities: NDArray[Any] = np.exp(self.log_proba(blocks))
        return probabilities

    def log_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C)."""
        logits = [member.logits(block) for member, block in zip(self.members, blocks, strict=True)]
        return log_proba_of(np.mean(logits, axis=0), is_multilabel=self.is_multilabel, link=self.members[0].link)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See FittedHead."""
        return {
            f"{m}.{name}": value for m, member in enumerate(self.members) for name, value in member.arrays().items()
        }

    def settings(self) -> dict[str, Any]:
        """See FittedHead."""
        return {"members": [member.settings() for member in self.members]}

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedMeanLogits:
        """See FittedHead."""
        members = []
        for m, own in enumerate(settings["members"]):
            named = {name: arrays[f"{m}.{name}"] for name in ("weights", "intercepts")}
            members.append(FittedLinear.restored(own, named))
        return cls(tuple(members))


@dataclass(frozen=True)
class Concat:
    """Exact logistic regression on the embeddings of all backbones, each scaled to length 1, side by side.

    Scaled row by row, so that no backbone outweighs another by its units, and nothing is learned from other rows.

    Example:
        >>> head = dvme.Concat(dvme.Linear(strengths=[0.01]))
        >>> head.is_fusion
        True
    """

    linear: Linear = field(default_factory=Linear)
    name: str = "concat"
    is_fusion: bool = True
    revision: ClassVar[int] = 1

    def least_bytes(self, n_rows: int, dims: Sequence[int], n_classes: int, *, is_multilabel: bool = False) -> int:
        """See Bounded."""
        return self.linear.least_bytes(n_rows, dims, n_classes, is_multilabel=is_multilabel)

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """As many logistic regressions as there are jobs."""
        names = {
            parts: f"{'+'.join(parts)} (concat {index})"
            for index, parts in enumerate({job.backbones: None for job in jobs})
        }
        together = {name: concatenated(data.blocks(parts, slice(None))) for parts, name in names.items()}
        flat = [Job(_concat(job).linear, (names[job.backbones],), job.train, job.validation, job.seed) for job in jobs]

        def tell(stage: str, done: int, total: int) -> None:
            del stage
            progress("fit concat", done, total)

        joined = replace(data, embeddings=together)
        for position, head in Linear.fit_together(flat, joined, runtime, tell):
            yield position, FittedConcat(**vars(head))


@dataclass(frozen=True)
class MeanLogits:
    """The plain ensemble: exact logistic regression on each backbone, logits averaged.

    Example:
        >>> head = dvme.MeanLogits(dvme.Linear(strengths=[0.01]))
        >>> head.is_fusion
        True
    """

    linear: Linear = field(default_factory=Linear)
    name: str = "mean-logits"
    is_fusion: bool = True
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuse cuts that each member has for itself."""
        if self.linear.tune != ARGMAX:
            raise OptionError(f"{self.name} has no cuts of its own to tune; take concat, or linear on each backbone")

    def least_bytes(self, n_rows: int, dims: Sequence[int], n_classes: int, *, is_multilabel: bool = False) -> int:
        """See Bounded."""
        least = self.linear.least_bytes
        return max(least(n_rows, [dim], n_classes, is_multilabel=is_multilabel) for dim in dims)

    def members(self, job: Job) -> list[Job]:
        """See Ensemble: the very jobs of `linear` on each backbone."""
        return [Job(self.linear, (name,), job.train, job.validation, job.seed) for name in job.backbones]

    def joined(self, members: Sequence[FittedHead]) -> FittedHead:
        """See Ensemble."""
        return FittedMeanLogits(tuple(_linear(head) for head in members))


def concatenated(blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(B, sum of D_m) float32: every backbone's embedding scaled to length 1, side by side."""
    return np.concatenate([unit_rows(block) for block in blocks], axis=1)


def _concat(job: Job) -> Concat:
    assert isinstance(job.head, Concat)
    return job.head


def _linear(head: FittedHead) -> FittedLinear:
    assert isinstance(head, FittedLinear)
    return head
