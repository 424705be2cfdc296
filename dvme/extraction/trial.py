"""How fast images become embeddings on this machine, tried with some of those that are to be extracted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from dvme.data import Samples
from dvme.defaults import DTYPE
from dvme.extraction.decoding import Work
from dvme.extraction.embedding import extract_shards, lanes_on
from dvme.extraction.gathering import Target
from dvme.extraction.models import KnownBackbone, load_known
from dvme.runtime import Runtime

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

TRIAL_BATCHES = 2


@dataclass(frozen=True)
class Trial:
    """Images to measure the speed with."""

    samples: Samples
    first_file: Mapping[bytes, int]
    runtime: Runtime
    loaded: list[Backbone] = field(default_factory=list)
    """Those that were tried, as they are in the run; each may be seen in another view by the next."""

    def images_per_second(self, known: Backbone | KnownBackbone) -> float:
        """Files to embeddings of one backbone."""
        from dvme.backbones.loading.model import in_view

        seen = in_view(known.spec, self.loaded)
        self.loaded.extend([seen] if seen else load_known([known]))
        return self._speed(self.loaded[-1:])

    def seconds(self, work: Sequence[tuple[int, float]]) -> float:
        """What one pass takes for all backbones that were tried: less than all alone, for they share the decoding.

        Args:
            work: images and images/s of each.
        """
        alone, counts = sum(count / speed for count, speed in work), [count for count, _ in work]
        if len(work) < 2:
            return alone
        saved = sum(1 / speed for _, speed in work) - 1 / self._speed(self.loaded)
        return alone - max(0.0, saved) / (len(work) - 1) * (sum(counts) - max(counts))

    def _speed(self, models: Sequence[Backbone]) -> float:
        """Images/s over a few batches after one of each lane that warms up."""
        kind = models[0].device.type
        n_warm = self.runtime.images_per_batch(kind) * lanes_on(kind)
        some = islice(self.first_file.items(), n_warm * (1 + TRIAL_BATCHES))
        chosen = [Work(row, self.samples.paths[index], digest) for row, (digest, index) in enumerate(some)]

        def run(first: int, end: int) -> float:
            started, shards = time.perf_counter(), [np.arange(first, end)]
            targets = [Target(model, shards, DTYPE, lambda *_: None) for model in models]
            extract_shards(targets, lambda rows: [chosen[row] for row in rows], self.runtime, lambda *_: None)
            return (end - first) / (time.perf_counter() - started)

        warm = run(0, min(n_warm, len(chosen)))
        return run(n_warm, len(chosen)) if len(chosen) > n_warm else warm
