"""Fine-tuning: linear probing first, then all weights, so that training starts from what the frozen backbone can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.exact.linear import FittedLinear, Linear
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs, only_block
from dvme.heads.tuned.on_images import FittedTuned, Seen
from dvme.runtime import Runtime
from dvme.training.recipe import Recipe

LEAST_MEMORY = 1 << 30
"""Bytes for the linear head. The same for every fit, for how the memory parts its work moves last bits."""


@dataclass(frozen=True)
class Finetune:
    """All weights of a backbone, trained from the exact linear head of the same rows on its frozen embeddings.

    Source: linear probing, then fine-tuning: Kumar et al. 2022. What is chosen on validation: the learning rate and the
    epoch, the untouched start included.
    """

    recipe: Recipe = field(default_factory=Recipe)
    name: str = "finetune"
    is_fusion: bool = False
    revision: ClassVar[int] = 1

    def fit_on_images(
        self, job: Job, data: Embedded, seen: Seen, runtime: Runtime, tell: Callable[[int, int], None]
    ) -> FittedTuned:
        """See OnImages."""
        from dvme.heads.tuned.classifier import Classifier
        from dvme.training.epochs import Lesson
        from dvme.training.tuning import tune

        start = linear_start(job, data, runtime)
        model = seen.load()
        features = only_block(data.blocks(job.backbones, job.train))
        classifier = Classifier(start, features.astype(np.float64).mean(axis=0)).to(model.device)
        n_rows = len(data.labels)
        lesson = Lesson(
            pictures=seen.pictures,
            train=job.train,
            validation=job.validation,
            targets=data.labels,
            truth=_truth(data),
            weights=np.ones(n_rows) if data.weights is None else data.weights.astype(np.float64),
        )
        course = tune(model, classifier, lesson, self.recipe, job.seed, tell)
        model.load_state_dict(course.model_state)
        classifier.load_state_dict(course.classifier_state)
        chosen: dict[str, Any] = {
            "epoch": course.epoch,
            "n_epochs": course.n_epochs,
            "validation_loss": course.validation_loss,
            "learning_rate": course.learning_rate,
            "n_trained": course.n_trained,
            "start": dict(start.chosen),
        }
        return FittedTuned(classifier.fitted({}, is_multilabel=data.is_multilabel), model, chosen)


def linear_start(job: Job, data: Embedded, runtime: Runtime) -> FittedLinear:
    """The exact linear head of the job's rows, fitted alone: company would move its last bits.

    Raises:
        DataError: as `fit_jobs`.
    """
    head = Linear()
    least = head.least_bytes(len(job.train), data.dims(job.backbones), data.n_classes, is_multilabel=data.is_multilabel)
    alone = replace(runtime, memory=max(least, LEAST_MEMORY))
    (start,) = fit_jobs([replace(job, head=head)], data, runtime=alone)
    if not isinstance(start, FittedLinear) or not np.isfinite(start.weights).all():
        raise DataError(f"the linear head on {job.backbones[0]} that fine-tuning begins with is not finite")
    return start


def _truth(data: Embedded) -> NDArray[Any]:
    """(N,) or (N, L) what is chosen on."""
    return data.truth_of(np.arange(len(data.labels))) if data.is_multilabel else data.labels
