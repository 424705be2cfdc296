"""What is done: one file per finished job, named by everything that determines it and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.targets import Targets
from dvme.files import TORN, written_aside
from dvme.json_values import as_json
from dvme.study.scoring import scores_of, shown_of
from dvme_cache.files import sync

TRAINING = "training"
"""A run's folder of workplaces, while there are any."""
SCORES = 1
"""Raised when a metric of the same name gives other numbers."""
SYNC_EVERY = 30.0
"""Seconds after which finished jobs are made durable, as the system does by itself."""
PACKAGES = ("dvme", "numpy", "torch", "scikit-learn", "faiss-cpu", "faiss-gpu")
"""On which results depend; of the two faiss one is installed."""


@dataclass(frozen=True)
class FinishedJob:
    """What a fitted head says about the images, and how the fit went."""

    log_test: NDArray[Any]
    """(N test, C) log probabilities, in the manifest's order: as probabilities many would be 1 to the last bit. Of a
    segmentation (N test, L, 3) counts of pixels, see `dvme.metrics.segmentation.overlaps`."""
    log_validation: NDArray[Any]
    """(v, C) or (v, L, 3), in the draw's order."""
    chosen: Mapping[str, Any]
    """What validation chose, as `json_values.plain` has it: the same whether just fitted or read back."""
    seconds: float
    """Of the fit; of jobs fitted together, the first one there has the time of all."""
    n_parameters: int
    """Numbers that the head holds."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python and PACKAGES, where it was fitted."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Every metric on `test` and on `validation`, see `scored_by`."""
    scored_on: str = ""
    """By which labels, and as which metrics: what is another has other scores."""
    outlines: NDArray[np.float64] | None = None
    """(N test, L, 2), see `dvme.metrics.segmentation.outline_scores`; of a segmentation that is asked for them."""

    def scored_by(self, test: NDArray[np.int64], validation: NDArray[np.int64]) -> FinishedJob:
        """The job with its scores, which are computed only where it has none of these labels and metrics yet.

        Args:
            test: (N test,) class indices, (N test, L) findings, or (N test, L, 1) of a segmentation.
            validation: of as many dimensions.
        """
        scored_on = _digest(test, validation, np.array([*shown_of(test), f"{SCORES}"], dtype="S32"))
        if self.scored_on == scored_on:
            return self
        scores = {
            "test": scores_of(test, self.log_test, self.cuts),
            "validation": scores_of(validation, self.log_validation),  # cuts were chosen on these very images
        }
        return replace(self, scores=scores, scored_on=scored_on)

    @property
    def cuts(self) -> list[float] | None:
        """Of the expected grade, where the head tuned what images are taken for; see `predicted_classes`."""
        return self.chosen.get("cuts")

    @property
    def test(self) -> NDArray[np.float64]:
        """(N test, C) probabilities."""
        probabilities: NDArray[np.float64] = np.exp(self.log_test.astype(np.float64))
        return probabilities

    @property
    def validation(self) -> NDArray[np.float64]:
        """(v, C) probabilities."""
        probabilities: NDArray[np.float64] = np.exp(self.log_validation.astype(np.float64))
        return probabilities


def job_key(
    described: Mapping[str, Any],
    ids: NDArray[np.uint8],
    targets: Targets,
    parts: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    seed: int,
) -> str:
    """32 hexadecimal digits of everything that determines a job's result.

    Args:
        described: the method's `identity`.
        ids: (N, 16) content ids of the study's images.
        targets: theirs.
        parts: positions that train, in their order, as a head that draws minibatches depends on it; that are chosen
            on; and that are tested.
        seed: of whatever is drawn at random.
    """
    train, validation, test = parts
    # Of a segmentation the test masks count as well: what is kept of a job is counted on them.
    masks = np.zeros((len(ids), 0), dtype=np.uint8) if targets.masks is None else targets.masks
    text = json.dumps(
        {
            **described,
            "train": _digest(ids[train], targets.learned[train], *masks[train]),
            "validation": _digest(ids[validation], targets.values[validation], *masks[validation]),
            "test": _digest(ids[test], *masks[test]),
            "n_classes": len(targets.classes),
            "seed": seed,
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Ledger:
    """The folder of finished jobs; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, workplaces: Path | None = None) -> None:
        """Take the folder of the jobs, and the one for what unfinished ones leave behind."""
        self.folder, self._workplaces = folder, workplaces
        self._unsynced: list[Path] = []
        self._synced_at = time.monotonic()

    def read(self, key: str) -> FinishedJob | None:
        """The finished job, or None if it is not there, or is torn: then it is fitted again.

        Raises:
            OSError: if the file is there and cannot be read; nothing says then that it is torn.
        """
        if self.folder is None:
            return None
        try:
            content = io.BytesIO((self.folder / f"{key}.npz").read_bytes())
        except FileNotFoundError:
            return None
        try:
            with np.load(content, allow_pickle=False) as found:
                record = json.loads(found["record"].item())
                scores = {part: _numbers(values) for part, values in record.pop("scores", {}).items()}
                outlines = found["outlines"] if record.pop("is_outlined", False) else None
                said = found["log_test"], found["log_validation"]
                return FinishedJob(*said, **record, scores=scores, outlines=outlines)
        except TORN:
            return None

    def has(self, key: str) -> bool:
        """Whether the file of a finished job is there, by whomever; it may be torn."""
        return self.folder is not None and (self.folder / f"{key}.npz").exists()

    def write(self, key: str, job: FinishedJob) -> None:
        """Keep a job, whole or not at all, and remove its workplace.

        A power cut costs the jobs of the last half minute, but none that had a workplace: those took long.
        """
        if self.folder is None:
            return
        workplace = self.workplace(key)
        has_workplace = workplace is not None and workplace.exists()
        record = {
            "chosen": job.chosen,
            "seconds": job.seconds,
            "n_parameters": job.n_parameters,
            "versions": job.versions,
            "scores": job.scores,
            "scored_on": job.scored_on,
            "is_outlined": job.outlines is not None,
        }
        outlined: dict[str, Any] = {} if job.outlines is None else {"outlines": job.outlines}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key}.npz"
        with written_aside(path, is_durable=has_workplace) as aside, aside.open("wb") as file:
            np.savez(
                file,
                log_test=job.log_test,
                log_validation=job.log_validation,
                **outlined,
                record=np.array(as_json(record)),
            )
        if has_workplace:
            self.tidy([key])
            return
        self._unsynced.append(path)
        if time.monotonic() - self._synced_at >= SYNC_EVERY:  # one by one that would take longer than many a fit
            for written in (*self._unsynced, self.folder):
                sync(written)
            self._unsynced.clear()
            self._synced_at = time.monotonic()

    def workplace(self, key: str) -> Path | None:
        """The folder for what a kill is to leave of a job, which need not be there; None where nothing is kept."""
        return None if self._workplaces is None else self._workplaces / key

    def tidy(self, keys: Collection[str] | None = None) -> None:
        """Remove the workplaces of some jobs, which are finished; None: all there are."""
        if self._workplaces is None:
            return
        if keys is None:
            shutil.rmtree(self._workplaces, ignore_errors=True)
            return
        for key in keys:
            shutil.rmtree(self._workplaces / key, ignore_errors=True)
        with suppress(OSError):  # others are at work there, or it is not there
            self._workplaces.rmdir()


@cache
def versions() -> Mapping[str, str]:
    """Of Python and PACKAGES, here and now."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return MappingProxyType(found)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Scores read back: JSON has no nan."""
    return {name: float("nan") if value is None else float(value) for name, value in values.items()}


def _digest(*arrays: NDArray[Any] | Sequence[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
