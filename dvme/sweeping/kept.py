"""The heads that a sweep keeps, so that its report and `dvme explain` need not fit them again: fusions by attention.

A job's head lies in `jobs/KEY/` from before the job counts as finished until all draws of its method are there; then
they become one saved head, `heads/NAME/`, and the single ones go. Both are folders of `dvme.heads.saving`, whole or not
at all and under a digest, so a kill at any moment, or a power cut, costs at most a fit. Which head is of which job is
written in the head alone, as a mark of the job's key and predictions: no second file has to be kept in step, and a head
of other data, other settings or another fit is never taken for the job's own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvme.files import file_digest, whole
from dvme.heads import ATTENTION_HEADS
from dvme.heads.saving import (
    DESCRIPTION,
    FORMAT,
    WEIGHTS,
    SavedHead,
    content_digest,
    folder_name,
    load_head,
    save_head,
)
from dvme.sweeping.ledger import FinishedJob

JOBS, HEADS = "jobs", "heads"


def is_kept(head: str, backbones: Sequence[str]) -> bool:
    """Whether the heads of this method are kept, at the largest size."""
    return head in ATTENTION_HEADS and len(backbones) > 1


def mark(key: str, job: FinishedJob) -> str:
    """32 hexadecimal digits of a finished job: what it was to fit, and what the head that was fitted predicted.

    The predictions, because two fits of one job differ in their last digits, and on other devices in more.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=16)
    for predictions in (job.log_test, job.log_validation):
        digest.update(predictions.tobytes())
    return digest.hexdigest()


class KeptHeads:
    """The heads of one run."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def folder(self, head: str, backbones: Sequence[str]) -> Path:
        """Where a method's heads lie together."""
        return self.run / HEADS / folder_name(head, backbones)

    def save(self, key: str, saved: SavedHead) -> None:
        """Keep one job's head, in place of what an earlier fit of it left."""
        save_head(self._alone(key), saved, force=True)

    def marks(self, head: str, backbones: Sequence[str], keys: Sequence[str]) -> set[str]:
        """Marks of a method's jobs whose heads are there and whole.

        Args:
            head: the method's name.
            backbones: the method's.
            keys: of its jobs.
        """
        folders = [self.folder(head, backbones), *map(self._alone, keys)]
        return {each for folder in folders for each in marks_of(folder)}

    def gather(self, head: str, backbones: Sequence[str], jobs: Sequence[tuple[str, FinishedJob]]) -> None:
        """Put the heads of a method's jobs together, in this order, and remove what then lies there twice.

        Args:
            head: the method's name.
            backbones: the method's.
            jobs: (key, job) of each, all with their heads on disk.
        """
        together, marks = self.folder(head, backbones), tuple(mark(*each) for each in jobs)
        alone = [folder for key, _ in jobs if (folder := whole(self._alone(key))).exists()]
        # Not by the marks only: a single head that is there may stand for one whose folder was damaged.
        if alone or marks_of(together) != marks:
            place = {each: folder for folder in (together, *alone) for each in marks_of(folder)}
            found = [load_head(folder) for folder in dict.fromkeys(place[each] for each in marks)]
            folds = {fold.job: fold for saved in found for fold in saved.folds}
            save_head(together, replace(found[0], folds=[folds[each] for each in marks]), force=True)
        for folder in alone:
            shutil.rmtree(folder)

    def _alone(self, key: str) -> Path:
        return self.run / JOBS / key


def marks_of(folder: Path) -> tuple[str, ...]:
    """Marks of the jobs whose heads a folder holds, in its order; none if it is not there or not whole.

    Raises:
        DataError, OSError: if a file is there and cannot be read; nothing says then that it is torn.
    """
    folder = whole(folder)
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        is_whole = described["format"] == FORMAT and content_digest(described) == described["digest"]
        marks = tuple(fold["job"] for fold in described["folds"])
        digest = described["weights_digest"]
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return ()
    weights = folder / WEIGHTS
    return marks if is_whole and weights.exists() and file_digest(weights) == digest else ()
