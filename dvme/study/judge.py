"""From predictions to a table: scores, intervals, marks, gains and labels saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.heads import base_name
from dvme.runtime import Progress, silent
from dvme.stats.crossed import compared, overlap
from dvme.stats.curves import LabelsSaved, labels_saved
from dvme.stats.effect import paired_effect
from dvme.stats.elsewhere import elsewhere
from dvme.stats.influence import Scored
from dvme.stats.intervals import Comparison, Interval
from dvme.stats.units import Units
from dvme.study.assess import assessed, gathered
from dvme.study.by_class import ClassScores, class_scores
from dvme.study.design.manifest import SubsetManifest
from dvme.study.diagnosis import Diagnosis, Names, diagnose
from dvme.study.ledger import FinishedJob
from dvme.study.methods import method_name
from dvme.study.operation import Operation
from dvme.study.outcome import Cell, Column, Gain, Rival, Score
from dvme.study.panel import Panel
from dvme.study.reliability import Reliability
from dvme.study.roles import ONE_BY_ONE, Leaders, Roles
from dvme.study.scoring import error_in_grades, judged_labels, scored_by, shown_of
from dvme.study.standing import Against, Place, Standing
from dvme.study.suspects import Suspect, find_suspects
from dvme.text import CONTROL, SINGLE

ROUNDING = 1e-6
"""Scores of the same rows in another order differ by less."""
MOST_SHARED = 0.99
"""Share of training rows that draws are taken to have in common where they have all: then only seeds differ."""
Finished = Mapping[tuple[int, int], Sequence[FinishedJob]]
"""By method and size: the draws' jobs, in order."""


@dataclass
class Judge:
    """All results of a study, and what may be said of them."""

    manifest: SubsetManifest
    methods: Sequence[tuple[str, tuple[str, ...]]]
    """(head, backbones) of each."""
    finished: Finished
    units: Units
    """Of the test set."""
    metric: str
    origins: Mapping[str, str] = field(default_factory=dict)
    """What backbones were adapted from, by their names."""
    ceilings: Mapping[int, float] = field(default_factory=dict)
    """Of a segmentation, what the grid of each method could reach at best on the test images."""
    grids: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Of a segmentation, rows and columns of each method's grid."""

    def __post_init__(self) -> None:
        """Nothing is judged yet."""
        values, test = self.manifest.targets.scored, self.manifest.test
        self.labels: NDArray[Any] = judged_labels(values, test, self.units.groups)
        self.roles = Roles(self.methods)
        self.finished = {place: self._scored_jobs(place[1], jobs) for place, jobs in self.finished.items()}
        self.scored: dict[Place, Scored] = {}
        self.validation: dict[Place, float] = {}

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

    def score_all(self, progress: Progress = silent, stage: str = "score") -> None:
        """Every method at every size, told as cells of the table."""
        places = [(m, size) for size in range(len(self.manifest.sizes)) for m in range(len(self.methods))]
        for done, (method, size) in enumerate(places, start=1):
            self._score(method, size)
            progress(stage, done, len(places))

    @cached_property
    def standing(self) -> Standing:
        """Who leads, and what may be said of any two."""
        return Standing(self.scored, self.validation, self.shared_rows)

    @cached_property
    def leaders(self) -> Leaders:
        """Who leads at the largest size."""
        return Leaders(Roles(self.methods), self.standing, self.manifest.largest)

    def diagnoses(self, images: Names = (), paths: Names = ()) -> tuple[Diagnosis, ...]:
        """How the methods err that lead at the largest size: of all, then of each kind, see `diagnose`."""
        size = self.manifest.largest
        if self.labels.ndim > 1:
            return ()
        return tuple(
            diagnose(self.manifest, self.methods[m], self.finished[m, size], self.labels, images, paths)
            for m in self.leaders.shown
        )

    def panel(self, method: int) -> Panel:
        """What its heads of the largest size say of the test images."""
        jobs, test = self.finished[method, self.manifest.largest], self.manifest.test
        return Panel.of(self.manifest.targets.at(test), [job.log_test for job in jobs], self.units.groups)

    def classes(self, method: int, reached: NDArray[np.int64] | None = None) -> list[ClassScores]:
        """Of a segmentation, what a method scores class by class at the largest size, see `class_scores`."""
        jobs = self.finished[method, self.manifest.largest]
        heads = [job.log_test.astype(np.int64) for job in jobs]
        outlines = [job.outlines for job in jobs if job.outlines is not None]
        return class_scores(heads, self.manifest.classes, self.units, reached, outlines)

    def validation_panels(self, method: int) -> list[Panel]:
        """For each draw of the largest size what its head says of the images that it was chosen on."""
        size = self.manifest.largest
        parts = [self.manifest.validation(draw, size) for draw in self.manifest.draws]
        jobs = self.finished[method, size]
        return [
            Panel.of(self.manifest.targets.at(rows), [job.log_validation])
            for rows, job in zip(parts, jobs, strict=True)
        ]

    def reliability(self, asked: Operation, uncertain: NDArray[np.bool_] | None = None) -> Reliability:
        """How far the methods of `diagnoses` can be trusted, finding by finding or class by class.

        Args:
            asked: for which use.
            uncertain: (N test, L) what the labels of the test images call uncertain; None: nobody can tell.
        """
        shown = {m: self.panel(m) for m in self.leaders.shown}
        is_exclusive = not self.manifest.targets.is_multilabel
        found = [
            assessed(
                method_name(*self.methods[m]),
                panel,
                self.validation_panels(m),
                self.units,
                asked,
                is_exclusive=is_exclusive,
                uncertain=uncertain,
            )
            for m, panel in shown.items()
        ]
        what = "class" if is_exclusive else "finding"
        return gathered(found, next(iter(shown.values())), self.units, asked, what)

    def cells(self) -> list[Cell]:
        """Methods within sizes."""
        return [cell for size in range(len(self.manifest.sizes)) for cell in self._cells_of(size)]

    @cached_property
    def is_one_draw(self) -> list[bool]:
        """Whether the draws of a size are the same, by size."""
        return [self.manifest.is_one_draw(size) for size in range(len(self.manifest.sizes))]

    @cached_property
    def shared_rows(self) -> list[float]:
        """Share of training images that two draws have in common, by size."""
        found = []
        for size in range(len(self.manifest.sizes)):
            trains = [self.manifest.train(each, size) for each in self.manifest.draws]
            found.append(min(overlap(trains), MOST_SHARED) if len(trains) > 1 else 0.0)
        return found

    def gains(self) -> list[Gain]:
        """Every fusion by attention, or every fusion where there is none, against its rivals at every size."""
        found = []
        for size in range(len(self.manifest.sizes)):
            for fusion in self.roles.judged:
                for role, pool in ((SINGLE, self.roles.singles), (CONTROL, self.roles.controls_of(fusion))):
                    against = self.standing.against(fusion, pool, size)
                    found += [self._gain(fusion, role, size, against)] if against is not None else []
        return found

    def suspects(self, images: NDArray[Any], paths: NDArray[Any]) -> list[Suspect]:
        """Images whose labels are likely wrong, by the method that leads on validation at the largest size.

        Args:
            images: (N,) as their source names them, in the manifest's order.
            paths: (N,) where they are now.
        """
        size = self.manifest.largest
        if self.labels.ndim > 1:
            return []
        leader = self.standing.leader(size) or 0
        name = method_name(*self.methods[leader])
        return find_suspects(self.manifest, self.finished[leader, size], size, name, images.tolist(), paths.tolist())

    def _gain(self, fusion: int, role: str, size: int, against: Against) -> Gain:
        names = [method_name(*method) for method in self.methods]
        hardest = against.rivals[against.hardest]
        gap = self.scored[fusion, size] - self.scored[against.hardest, size]
        return Gain(
            fusion=names[fusion],
            rival=names[against.hardest],
            role=role,
            size=self.manifest.sizes[size],
            leader=names[against.leader],
            comparison=hardest.comparison,
            p_adjusted=hardest.p_adjusted,
            word=against.word,
            rivals=[Rival(names[m], each.comparison, each.p_adjusted) for m, each in against.rivals.items()],
            effect=paired_effect(gap.folds),
            saved=self._saved(fusion, against.hardest, size) if role == SINGLE else None,
        )

    def growth(self, method: int, smaller: int, larger: int) -> Comparison:
        """One method at a size less itself at a smaller one, by the crossed test.

        The draws are nested, so the larger size's share of common rows is the careful one.
        """
        return compared(self.scored[method, larger] - self.scored[method, smaller], self.shared_rows[larger])

    def elsewhere(self, places: Sequence[Place]) -> NDArray[Any]:
        """(R, n) means over heads of methods at sizes, on other test images and with other draws, the same for all."""
        cells = [self.scored[place] for place in places]
        return elsewhere(cells, [self.shared_rows[size] for _, size in places])

    def _score(self, method: int, size: int) -> None:
        jobs = self.finished[method, size]
        test = self.labels[self.manifest.test]
        self.scored[method, size] = scored_by(
            test, [job.log_test for job in jobs], self.units, self.metric, [job.cuts for job in jobs]
        )
        values = [job.scores["validation"][self.metric] for job in jobs]
        defined = [value for value in values if not np.isnan(value)]
        self.validation[method, size] = float(np.mean(defined)) if defined else float("nan")

    def _cells_of(self, size: int) -> list[Cell]:
        means = np.array([self.scored[m, size].estimate for m in range(len(self.methods))])
        leader, names = self.standing.leader(size), shown_of(self.labels)
        cells = []
        for m, (head, backbones) in enumerate(self.methods):
            jobs = self.finished[m, size]
            epochs = [float(job.chosen["epoch"]) for job in jobs if "epoch" in job.chosen]
            versus = None if leader is None or m == leader else self.standing.versus(m, leader, size)
            cells.append(
                Cell(
                    head=head,
                    backbones=backbones,
                    size=self.manifest.sizes[size],
                    validation=self.validation[m, size],
                    test={name: self._over([job.scores["test"][name] for job in jobs], size) for name in names},
                    interval=self.scored[m, size].interval(),
                    mark=self.standing.mark(m, size),
                    is_highest=bool(means[m] == np.nanmax(means, initial=-np.inf)),
                    difference=None if versus is None else versus.comparison.difference,
                    p_adjusted=float("nan") if versus is None else versus.p_adjusted,
                    epochs=Score.over(epochs) if epochs else None,
                    seconds=self.seconds(m, size),
                    n_parameters=round(float(np.mean([job.n_parameters for job in jobs]))),
                    chosen=[dict(job.chosen) for job in jobs],
                    error_in_grades=self._error(jobs),
                    ceiling=self.ceilings.get(m),
                    grid=self.grids.get(m),
                )
            )
        return cells

    def _error(self, jobs: Sequence[FinishedJob]) -> Interval | None:
        """None where classes are in no order, or two of them."""
        if not self.manifest.targets.task.has_grades:
            return None
        folds, cuts = [job.log_test for job in jobs], [job.cuts for job in jobs]
        return error_in_grades(self.labels[self.manifest.test], folds, self.units, cuts)

    def _over(self, values: Sequence[float], size: int) -> Score:
        """Of one metric; a head that draws nothing has no spread over draws that are the same but for their order."""
        found = Score.over(values)
        return replace(found, std=float("nan")) if self.is_one_draw[size] and np.ptp(values) < ROUNDING else found

    def _scored_jobs(self, size: int, jobs: Sequence[FinishedJob]) -> list[FinishedJob]:
        test, validations = (
            self.labels[self.manifest.test],
            [self.labels[self.manifest.validation(draw, size)] for draw in self.manifest.draws],
        )
        return [job.scored_by(test, own) for job, own in zip(jobs, validations, strict=True)]

    def seconds(self, method: int, size: int) -> float:
        """Of a method's fits; methods of one head, on one backbone each, are fitted together and share their time.

        Those that train a backbone are fitted one by one.
        """
        head = self.methods[method][0]
        alike = [m for m, (name, _) in enumerate(self.methods) if name == head]
        alike = [method] if base_name(head) in ONE_BY_ONE else alike
        return float(sum(job.seconds for m in alike for job in self.finished[m, size])) / len(alike)

    def _saved(self, fusion: int, single: int, size: int) -> LabelsSaved | None:
        """Against a single backbone, followed through all sizes."""
        n_train = [column.n_train for column in self.columns()]
        # Two sizes may have the same images, where fewer are left than were asked for.
        sizes = {n: position for position, n in enumerate(n_train)}
        if len(sizes) < 2:
            return None
        both = [(m, s) for m in (fusion, single) for s in sizes.values()]
        means, many = [self.scored[place].estimate for place in both], self.elsewhere(both)
        n_sizes = len(sizes)
        return labels_saved(
            list(sizes),
            means[:n_sizes],
            means[n_sizes:],
            size=n_train[size],
            resampled_fusion=many[:, :n_sizes],
            resampled_baseline=many[:, n_sizes:],
        )
