"""Where a training begins: at the exact linear head of the same rows, or at a classifier that knows nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.exact.linear import CUMULATIVE, FittedLinear, Linear
from dvme.heads.fitting.cells import constants
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs, only_block
from dvme.runtime import Runtime
from dvme.training.randomness import CLASSIFIER, generator

if TYPE_CHECKING:
    from dvme.heads.tuned.classifier import Classifier
    from dvme.heads.tuned.ordered import OrderedClassifier

LEAST_MEMORY = 1 << 30
"""Bytes for the linear head. The same for every fit, for how the memory parts its work moves last bits."""


def probed(job: Job, data: Embedded, runtime: Runtime, link: str) -> Classifier | OrderedClassifier:
    """The layer of the linear head, about the mean of the training rows.

    Raises:
        DataError: as `fit_jobs`.
    """
    rows = only_block(data.blocks(job.backbones, job.train))
    return as_layer(linear_start(job, data, runtime, link), rows.astype(np.float64).mean(axis=0))


def linear_start(job: Job, data: Embedded, runtime: Runtime, link: str) -> FittedLinear:
    """The exact linear head of the job's rows, fitted alone: company would move its last bits.

    Raises:
        DataError: as `fit_jobs`.
    """
    head = Linear(link=link)
    least = head.least_bytes(len(job.train), data.dims(job.backbones), data.n_classes, is_multilabel=data.is_multilabel)
    alone = replace(runtime, memory=max(least, LEAST_MEMORY))
    (start,) = fit_jobs([replace(job, head=head)], data, runtime=alone)
    if not isinstance(start, FittedLinear) or not np.isfinite(start.weights).all():
        raise DataError(f"the linear head on {job.backbones[0]} that fine-tuning begins with is not finite")
    return start


def untaught(job: Job, data: Embedded, link: str, dim: int) -> Classifier | OrderedClassifier:
    """A layer of random weights, as torch draws them: evenly, within 1 / sqrt(D).

    Its intercepts are those of a head that knows how frequent the classes are, in order; else random as well. What
    training knows nothing of has an infinite one.
    """
    from scipy.special import logit

    rng, end = generator(job.seed, CLASSIFIER, 0), 1.0 / np.sqrt(dim)
    labels = data.labels[job.train]
    if link == CUMULATIVE and data.n_classes > 2:
        with np.errstate(divide="ignore"):
            above = np.array([(labels > k).mean() for k in range(data.n_classes - 1)])
            cuts = np.log(above) - np.log1p(-above)
        return as_layer(FittedLinear(rng.uniform(-end, end, (dim, 1)), cuts, {}, link=CUMULATIVE), np.zeros(dim))
    weights = rng.uniform(-end, end, (dim, data.n_classes))
    drawn = rng.uniform(-end, end, data.n_classes)
    if data.is_multilabel:
        only = constants(labels)
        intercepts = np.where(np.isnan(only), drawn, logit(only))
    else:
        intercepts = np.where(np.isin(np.arange(data.n_classes), labels), drawn, -np.inf)
    return as_layer(FittedLinear(weights, intercepts, {}, is_multilabel=data.is_multilabel), np.zeros(dim))


def as_layer(start: FittedLinear, centre: NDArray[Any]) -> Classifier | OrderedClassifier:
    """A head as a layer, about a centre (D,)."""
    from dvme.heads.tuned.classifier import Classifier
    from dvme.heads.tuned.ordered import OrderedClassifier

    return OrderedClassifier(start, centre) if start.link == CUMULATIVE else Classifier(start, centre)
