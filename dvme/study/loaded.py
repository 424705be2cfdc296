"""A finished run with all that a report says of it: judged cells, its cache, and what was predicted of each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.data.masks import Masks
from dvme.data.samples import MASK
from dvme.errors import DataError, message_of, parameter
from dvme.metrics.grades import mean_cuts, predicted_classes
from dvme.notices import Aside, told_apart
from dvme.runtime import Progress, silent
from dvme.study.answers import Findings
from dvme.study.by_subgroup import BySubgroup
from dvme.study.design.matching import matched
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.splits import groups_to_resample
from dvme.study.design.units import units_of_test
from dvme.study.diagnosis import Diagnosis
from dvme.study.findings import find
from dvme.study.judge import Judge
from dvme.study.methods import method_name
from dvme.study.operation import Operation
from dvme.study.outcome import StudyReport
from dvme.study.reliability import Reliability
from dvme.study.roles import Leaders
from dvme.study.run import Run, read_summary
from dvme.study.sites.outcome import SitesResult
from dvme.study.suspects import Suspect, find_suspects, sides, unseen_probabilities
from dvme.study.trust import with_trust
from dvme_cache import CacheError, EmbeddingCache


@dataclass(frozen=True)
class Study:
    """One run, ready to be reported."""

    run: Run
    summary: StudyReport
    judge: Judge
    """Every method at every size, scored."""
    store: EmbeddingCache | None
    """Its cache; None where it is gone or is another by now."""
    rows: NDArray[Any] | None
    """(N,) the cache's rows of the manifest's images."""
    notices: tuple[str, ...]
    """Why a part of the report is missing."""
    resampling: str
    """What the intervals are over, in words."""

    @classmethod
    def load(cls, folder: str | Path, cache: str | Path | None = None, progress: Progress = silent) -> Study:
        """Read a run and judge it again.

        Args:
            folder: of the run.
            cache: where its cache is now; None: where it was.
            progress: told (stage, done, total).

        Raises:
            DataError: if the run is not one, or is not finished.
            CacheError: if a cache that was named is none, or does not hold the run's embeddings.
        """
        run, summary = Run.load(folder), read_summary(folder)
        store, rows, notices = _its_cache(run, cache)
        manifest = run.manifest
        units, line = units_of_test(manifest.targets.scored[manifest.test], run.test_groups, manifest.classes)
        known = run.origins, run.ceilings, run.grids
        judge = Judge(run.manifest, run.methods, run.finished, units, run.metric, *known)
        judge.score_all(progress)
        # One source for all that a page says, whichever dvme wrote the summary.
        notices_of_run = told_apart(summary.notices, summary.asides)
        summary = replace(summary, cells=judge.cells(), gains=judge.gains(), notices=notices_of_run)
        return cls(run, summary, judge, store, rows, notices, line)

    @property
    def is_segmentation(self) -> bool:
        """Whether it is of masks."""
        return self.run.manifest.targets.is_segmentation

    @property
    def last(self) -> int:
        """The largest size."""
        return self.run.manifest.largest

    @property
    def leaders(self) -> Leaders:
        """Who leads at the largest size."""
        return self.judge.leaders

    @property
    def lead(self) -> int:
        """The method that leads on validation at the largest size."""
        return self.leaders.overall

    @cached_property
    def findings(self) -> Findings:
        """The answers, of the judge as the tables are."""
        return self.findings_on(self.summary.sites, self.summary.subgroups)

    def findings_on(self, sites: SitesResult | None, subgroups: BySubgroup | None) -> Findings:
        """The same of these sites and subgroups, such as those that a page for others may name."""
        return with_trust(find(self.judge, self.summary.gains), self.reliability, sites, subgroups)

    @cached_property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        """How the leading methods err; their images are named by content alone."""
        return self.judge.diagnoses()

    @cached_property
    def reliability(self) -> Reliability | None:
        """As the study found it, which takes a while; found again where an older dvme wrote the summary.

        None of a segmentation.
        """
        if self.is_segmentation:
            return None
        return self.summary.reliability or self.judge.reliability(Operation())

    @cached_property
    def groups(self) -> NDArray[Any]:
        """(N,) which images share a group, "" for none.

        Of the test images as the run has it, by their names in the cache while those part the images alike. Of the
        others nothing but the cache knows, so it is asked, as it is now.
        """
        if self.store is None or self.rows is None:
            return np.full(len(self.run.manifest.images), MISSING, dtype=object)
        names: NDArray[Any] = self.store.column("group")[self.rows]
        test, known = self.run.manifest.test, self.run.test_groups
        now = groups_to_resample(names[test])
        texts = np.full(len(test), MISSING, dtype=object) if now is None else now.astype(object)
        pairs = set(zip(texts, known, strict=True))
        if not len(pairs) == len(set(texts)) == len(set(known)):
            names = names.copy()
            names[test] = known
        return names

    @cached_property
    def masks(self) -> Masks | None:
        """Of the N images of a segmentation, as its cache has them; None without it, and of other studies."""
        if self.store is None or self.rows is None or not self.is_segmentation:
            return None
        return Masks.of(self.store.column(MASK)[self.rows])

    @cached_property
    def suspects(self) -> list[Suspect]:
        """Labels that are likely wrong, by the leading method; their images are named by content alone."""
        jobs = self.run.finished[self.lead, self.last]
        return find_suspects(self.run.manifest, jobs, self.last, self.name(self.lead))

    def name(self, method: int) -> str:
        """What a method is called in a sentence."""
        return method_name(*self.run.methods[method])

    def predicted(self, method: int) -> NDArray[Any]:
        """(N, C) probabilities by heads of the largest size that did not learn from the image; nan without any."""
        return unseen_probabilities(self.run.manifest, self.run.finished[method, self.last], self.last)

    def taken_for(self, method: int) -> NDArray[np.int64]:
        """(N,) the class that `predicted` takes each image for; of one without probabilities it means nothing."""
        cuts = mean_cuts([job.cuts for job in self.run.finished[method, self.last]])
        return predicted_classes(self.predicted(method), cuts)

    def sides(self) -> NDArray[Any]:
        """(N,) see `dvme.study.suspects.sides`."""
        return sides(self.run.manifest, self.last)


def _its_cache(
    run: Run, cache: str | Path | None
) -> tuple[EmbeddingCache | None, NDArray[Any] | None, tuple[str, ...]]:
    """The cache that a run was made from, the rows of its images, and why there is none."""
    place = str(run.described.get("cache", "")) if cache is None else str(cache)
    beside = run.folder.resolve().parent / Path(place).name  # a relative path, or both were moved together
    if cache is None and not EmbeddingCache.exists(place) and EmbeddingCache.exists(beside):
        place = str(beside)
    try:
        if cache is None and not EmbeddingCache.exists(place):
            return _without(f"the cache is not at {place} any more; name it with " + parameter("cache"))
        return *_rows_in(EmbeddingCache.open(place), run), ()
    except (CacheError, DataError) as error:
        if cache is not None:
            raise
        return _without(
            message_of(error) + "; if the run's own cache lies elsewhere, name it with " + parameter("cache")
        )


def _without(why: str) -> tuple[None, None, tuple[str, ...]]:
    return None, None, (Aside("no maps and no images: " + why),)


def _rows_in(store: EmbeddingCache, run: Run) -> tuple[EmbeddingCache, NDArray[Any]]:
    """The cache, and its rows of the run's images.

    Raises:
        DataError: if it does not hold the embeddings, images or labels that the run was made from.
    """
    backbones = {str(each["name"]): each["digest"] for each in run.described["backbones"]}
    known = {name: store.embeddings(name).fingerprint.digest for name in backbones if name in store.backbones}
    others = [name for name, digest in backbones.items() if known.get(name) != digest]
    if others:
        which = f"the embeddings of {', '.join(others)} that this run was made from"
        raise DataError(f"{store.location} does not hold {which}; extract again with the same weights and settings")
    is_segmentation = run.manifest.targets.is_segmentation
    taken = Snapshot.take(store, list(backbones), is_segmentation=is_segmentation)
    _, snapshot, _ = matched(taken, run.manifest, str(run.folder))
    return store, snapshot.rows
