"""What is looked at after every epoch: whether embeddings still tell images apart, and whether classes lie together."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.adaptation.images import TRAIN, VALIDATION, Images
from dvme.data.samples import MISSING
from dvme.data.targets import Targets
from dvme.errors import OptionError, parameter
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs
from dvme.heads.neighbours.knn import KNN
from dvme.heads.tuned.on_images import embedded
from dvme.metrics.classification import macro_auc
from dvme.metrics.labelled import mean_over_labels
from dvme.metrics.ranking import auc
from dvme.runtime import Runtime
from dvme.text import number_text
from dvme.training.pictures import Pictures

if TYPE_CHECKING:
    from dvme.backbones.loading.trainable import Trainable

N_WATCHED = 256
"""Images of the fixed sample; an effective rank above that cannot show."""
MOST_NEIGHBOURS, MOST_QUERIES = 2000, 1000
"""Labelled images that are embedded after every epoch, so that a look costs less than the epoch."""
K = 20
"""Neighbours, as DINO reports it; Caron et al. 2021, section 4.1."""
COLLAPSED = 0.1
"""Of what the effective rank or the spread was before the first step: below that share, embeddings have collapsed.
Relative, for published weights give images of one kind, as X-rays are, similar embeddings from the start: spreads of
0.4 and less are healthy there."""
FAR_LESS, NOTHING = 0.5, 0.01
"""A spread that has fallen so far tells of a collapse only beside a rank that is less than half of what it was, or
where it is all but 0. Random weights begin with statistics of batch normalisation that are none, and so with other
spreads: a random efficientnet-lite0 falls from 0.2 to 0.03 within three epochs, at the same rank, and rises to 0.8."""


@dataclass(frozen=True)
class Look:
    """What an epoch ended with."""

    epoch: int
    """From 1; 0 is before the first step."""
    loss: float
    """Mean over the steps; nan for epoch 0."""
    spread: float
    """Of the plain embeddings of a fixed sample: 1 where they point everywhere, 0 where all are one."""
    rank: float
    """Their effective rank."""
    knn: float
    """AUC of the nearest training images' votes on the validation part; nan where nothing is labelled there. By all
    methods but `supervised` both parts were trained on, without their labels."""

    def line(self, n_epochs: int) -> str:
        """`epoch 3 of 100: loss 2.412, spread 0.61, effective rank 48.2, kNN AUC 0.713`."""
        begun = (
            "before the first epoch" if not self.epoch else f"epoch {self.epoch} of {n_epochs}: loss {self.loss:.4g}"
        )
        knn = "" if math.isnan(self.knn) else f", kNN AUC {number_text(self.knn)}"
        return f"{begun}{',' if self.epoch else ':'} spread {self.spread:.3f}, effective rank {self.rank:.1f}{knn}"

    def plain(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Watch:
    """The fixed sample, and the labelled images if there are any."""

    def __init__(self, images: Images, pictures: Pictures, runtime: Runtime, rng: np.random.Generator) -> None:
        self._pictures, self._runtime = pictures, runtime
        self._rows = _some(np.arange(len(images)), N_WATCHED, rng)
        bank, queries = ((images.labels != MISSING) & (images.parts == part) for part in (TRAIN, VALIDATION))
        self._bank = _some(np.flatnonzero(bank), MOST_NEIGHBOURS, rng)
        self._queries = _some(np.flatnonzero(queries), MOST_QUERIES, rng)
        self._targets: Targets | None = None
        if len(self._bank) and len(self._queries):
            self._targets = Targets.of(images.labels[[*self._bank, *self._queries]], images.findings)

    def look(self, model: Trainable, epoch: int, loss: float) -> Look:
        """Look at the weights as they are."""
        import torch

        from dvme.training.collapse import effective_rank, spread

        sample = torch.from_numpy(embedded(model, self._pictures, self._rows))
        if not bool(torch.isfinite(sample).all()):
            return Look(epoch, loss, math.nan, math.nan, math.nan)
        return Look(epoch, loss, spread(sample), effective_rank(sample), self._knn(model))

    def _knn(self, model: Trainable) -> float:
        if self._targets is None:
            return math.nan
        rows = np.concatenate([self._bank, self._queries])
        features = embedded(model, self._pictures, rows)
        if not np.isfinite(features).all():
            return math.nan
        n_bank, targets, name = len(self._bank), self._targets, model.spec.name
        job = Job(KNN(neighbours=(K,)), (name,), np.arange(n_bank), np.empty(0, dtype=np.int64))
        data = Embedded({name: features}, targets.learned, len(targets.classes))
        (head,) = fit_jobs([job], data, runtime=self._runtime)
        shares, truth = head.predict_proba([features[n_bank:]]), targets.values[n_bank:]
        if not targets.is_multilabel:
            return macro_auc(truth, shares)
        return float(mean_over_labels(auc(truth, shares)).mean)


def check_healthy(look: Look, start: Look, folder: Path | None = None) -> None:
    """Refuse to go on with embeddings that tell images apart no more.

    Args:
        look: after an epoch.
        start: before the first one.
        folder: that keeps the epoch before, if there is one.

    Raises:
        OptionError: saying what shows it, and what is there.
    """
    lower = "pass a lower " + parameter("learning_rate")
    step = "; nothing was written; " + lower
    if folder is not None and look.epoch > 1:
        step = f"; no backbone was written, and {folder} keeps epoch {look.epoch - 1}; " + lower
        step += ", and " + parameter("force", True) + " to begin anew there"
    if not math.isfinite(look.loss) or math.isnan(look.spread):
        raise OptionError(f"training diverged in epoch {look.epoch}: losses or embeddings are no numbers" + step)
    is_narrow = look.rank < COLLAPSED * start.rank
    is_tight = look.spread < COLLAPSED * start.spread
    if is_narrow or (is_tight and (look.spread < NOTHING or look.rank < FAR_LESS * start.rank)):
        found = f"their spread is {look.spread:.2g} (was {start.spread:.2g}), their effective rank {look.rank:.3g} "
        raise OptionError(f"embeddings collapsed in epoch {look.epoch}: {found}(was {start.rank:.3g})" + step)


def _some(rows: NDArray[Any], at_most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Up to so many of some rows, in their order."""
    found = rows if len(rows) <= at_most else np.sort(rng.choice(rows, at_most, replace=False))
    return found.astype(np.int64)
