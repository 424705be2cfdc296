"""From predictions to a table: scores, intervals, marks, gains and labels saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.evaluation.metrics import METRICS, score
from dvme.evaluation.outcome import Score
from dvme.evaluation.study import method_name
from dvme.heads import ATTENTION_HEADS, CONTROLS, FUSIONS
from dvme.runtime import Progress, silent
from dvme.sampling.manifest import SubsetManifest
from dvme.stats.crossed import crossed, overlap
from dvme.stats.curves import LabelsSaved, labels_saved
from dvme.stats.effect import paired_effect
from dvme.stats.intervals import LEVEL, Comparison
from dvme.stats.multiple import holm
from dvme.stats.resampling import Draws, Resampled, resample
from dvme.sweeping.ledger import FinishedJob
from dvme.sweeping.outcome import Cell, Column, Gain

MOST_SHARED = 0.99
"""Share of training rows that draws are taken to have in common where they have all: then only seeds differ."""
Finished = Mapping[tuple[int, int], Sequence[FinishedJob]]
"""By method and size: the draws' jobs, in order."""


@dataclass
class Judge:
    """All results of a sweep, and what may be said of them."""

    manifest: SubsetManifest
    methods: Sequence[tuple[str, tuple[str, ...]]]
    """(head, backbones) of each."""
    finished: Finished
    draws: Draws
    """Of the test set."""
    metric: str

    def __post_init__(self) -> None:
        """Nothing is computed yet."""
        self.labels = self.manifest.class_indices()
        self.resampled: dict[tuple[int, int], Resampled] = {}
        self.validation: dict[tuple[int, int], float] = {}

    def columns(self) -> list[Column]:
        """The sizes."""
        draws = self.manifest.draws
        return [
            Column(
                name,
                float(np.mean([draw.n_train[size] for draw in draws])),
                float(np.mean([draw.n_validation[size] for draw in draws])),
            )
            for size, name in enumerate(self.manifest.sizes)
        ]

    def resample_all(self, progress: Progress = silent) -> None:
        """Every method at every size on the same resamples of the test set."""
        places = [(m, size) for size in range(len(self.manifest.sizes)) for m in range(len(self.methods))]
        for done, (method, size) in enumerate(places, start=1):
            self._resample(method, size)
            progress("resample", done, len(places))

    def cells(self) -> list[Cell]:
        """Methods within sizes."""
        return [cell for size in range(len(self.manifest.sizes)) for cell in self._cells_of(size)]

    def shared_rows(self, size: int) -> float:
        """Share of training images that two draws have in common."""
        trains = [self.manifest.train(each, size) for each in self.manifest.draws]
        return min(overlap(trains), MOST_SHARED) if len(trains) > 1 else 0.0

    def gains(self) -> list[Gain]:
        """Every fusion by attention, or every fusion where there is none, against its best rivals at every size."""
        attention = [m for m, (head, _) in enumerate(self.methods) if head in ATTENTION_HEADS]
        fusions = attention or [m for m, (_, backbones) in enumerate(self.methods) if len(backbones) > 1]
        singles = [m for m, (head, backbones) in enumerate(self.methods) if len(backbones) == 1 and head not in FUSIONS]
        found: list[tuple[int, int, str, int]] = []
        for size in range(len(self.manifest.sizes)):
            single = self.leader(size, singles)
            for fusion in fusions:
                same = [m for m, (_, backbones) in enumerate(self.methods) if backbones == self.methods[fusion][1]]
                controls = [m for m in same if self.methods[m][0] in CONTROLS and m not in fusions]
                rivals = (("best single backbone", single), ("best control", self.leader(size, controls)))
                found += [(fusion, rival, role, size) for role, rival in rivals if rival is not None]
        comparisons = [self.compared(fusion, rival, size) for fusion, rival, _, size in found]
        adjusted = holm([each.p for each in comparisons])
        return [
            Gain(
                fusion=method_name(*self.methods[fusion]),
                rival=method_name(*self.methods[rival]),
                role=role,
                size=self.manifest.sizes[size],
                comparison=comparison,
                p_adjusted=float(p),
                effect=paired_effect((self.resampled[fusion, size] - self.resampled[rival, size]).folds),
                saved=self._saved(fusion, rival, size) if role == "best single backbone" else None,
            )
            for (fusion, rival, role, size), comparison, p in zip(found, comparisons, adjusted, strict=True)
        ]

    def compared(self, one: int, other: int, size: int, *, level: float = LEVEL) -> Comparison:
        """One method less another at a size, by the crossed test."""
        gap = self.resampled[one, size] - self.resampled[other, size]
        return crossed(gap.folds, gap.test_covariance, self.shared_rows(size), level=level)

    def leader(self, size: int, methods: Sequence[int]) -> int | None:
        """The method that validation ranks first at a size."""
        known = [m for m in methods if not np.isnan(self.validation[m, size])]
        return max(known, key=lambda m: self.validation[m, size], default=None)

    def grown(self, method: int, smaller: int, larger: int) -> Comparison:
        """One method at a size less itself at a smaller one, by the crossed test.

        The draws are nested, so the larger size's share of common rows is the careful one.
        """
        gap = self.resampled[method, larger] - self.resampled[method, smaller]
        return crossed(gap.folds, gap.test_covariance, self.shared_rows(larger))

    def both_ways(self, method: int, size: int, *, shared_rows: float = 0.0) -> NDArray[Any]:
        """(R,) means over heads where test images and draws are resampled, the same ones for all methods and sizes.

        Args:
            method: its index.
            size: its index.
            shared_rows: of two draws; the spread between draws is widened for what they have in common, as far as in
                `crossed`. 0: as if they were independent.
        """
        one = self.resampled[method, size]
        n_draws = len(one.folds)
        chosen = np.random.default_rng(0).integers(0, n_draws, (len(one.resampled), n_draws))
        shift = one.folds[chosen].mean(axis=1) - one.estimate
        correction = 1.0 + n_draws * shared_rows / (1.0 - shared_rows)
        widened: NDArray[Any] = one.resampled + shift * np.sqrt(correction * n_draws / max(1, n_draws - 1))
        return widened

    def _resample(self, method: int, size: int) -> None:
        jobs = self.finished[method, size]
        test = self.labels[self.manifest.test]
        predictions = [job.test.astype(np.float64) for job in jobs]
        self.resampled[method, size] = resample(test, predictions, self.draws, [self.metric])[self.metric]
        values = []
        for own, job in zip(self.manifest.draws, jobs, strict=True):
            chosen_on = self.labels[self.manifest.validation(own, size)]
            values.append(score(chosen_on, job.validation.astype(np.float64))[self.metric])
        defined = [value for value in values if not np.isnan(value)]
        self.validation[method, size] = float(np.mean(defined)) if defined else float("nan")

    def _cells_of(self, size: int) -> list[Cell]:
        means = [self.resampled[m, size].estimate for m in range(len(self.methods))]
        best = int(np.nanargmax(means)) if not np.isnan(means).all() else 0
        others = [m for m in range(len(self.methods)) if m != best]
        adjusted = dict(zip(others, holm([self.compared(best, m, size).p for m in others]), strict=True))
        test = self.labels[self.manifest.test]
        cells = []
        for m, (head, backbones) in enumerate(self.methods):
            jobs = self.finished[m, size]
            scores = [score(test, job.test.astype(np.float64)) for job in jobs]
            epochs = [float(job.chosen["epoch"]) for job in jobs if "epoch" in job.chosen]
            cells.append(
                Cell(
                    head=head,
                    backbones=backbones,
                    size=self.manifest.sizes[size],
                    validation=self.validation[m, size],
                    test={name: Score.over([each[name] for each in scores]) for name in METRICS},
                    interval=self.resampled[m, size].interval(),
                    is_best=m == best,
                    p_worse=float(adjusted.get(m, np.nan)),
                    epochs=Score.over(epochs) if epochs else None,
                    seconds=self._seconds(head, size),
                    n_parameters=round(float(np.mean([job.n_parameters for job in jobs]))),
                )
            )
        return cells

    def _seconds(self, head: str, size: int) -> float:
        """Of a method's fits; methods of one head, on one backbone each, are fitted together and share their time."""
        alike = [m for m, (name, _) in enumerate(self.methods) if name == head]
        return float(sum(job.seconds for m in alike for job in self.finished[m, size])) / len(alike)

    def _saved(self, fusion: int, single: int, size: int) -> LabelsSaved | None:
        """Against the single backbone that leads at this size, followed through all sizes."""
        n_train = [column.n_train for column in self.columns()]
        # Two sizes may have the same images, where fewer are left than were asked for.
        sizes = {n: position for position, n in enumerate(n_train)}
        if len(sizes) < 2:
            return None
        ours, theirs = (np.stack([self.both_ways(m, s) for s in sizes.values()], axis=1) for m in (fusion, single))
        our_means, their_means = ([self.resampled[m, s].estimate for s in sizes.values()] for m in (fusion, single))
        return labels_saved(
            list(sizes), our_means, their_means, size=n_train[size], resampled_fusion=ours, resampled_baseline=theirs
        )
