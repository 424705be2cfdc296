"""The heads that a study keeps, those of the largest size: to predict with, to explain, and for its report.

The heads of all draws of a method are one saved head, `heads/NAME/`. Where that takes long, a job's head lies in
`jobs/KEY/` from before the job counts as finished until the others are there; then the single ones go. Both are
folders of `dvme.heads.saving`, whole or not at all and under a digest. Which head is of which job is written in the
head alone, as a mark of the job's key and predictions: no second file has to be kept in step, and a head of other data,
other settings or another fit is never taken for the job's own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvme.files import file_digest, whole
from dvme.heads.saved_head import SavedHead
from dvme.heads.saving import DESCRIPTION, FORMATS, WEIGHTS, content_digest, folder_name, save_head
from dvme.heads.tuned.kept import is_there
from dvme.segmentation.saved import load_head
from dvme.study.ledger import FinishedJob
from dvme.study.roles import ONE_BY_ONE

JOBS, HEADS = "jobs", "heads"


def mark(key: str, job: FinishedJob) -> str:
    """32 hexadecimal digits of a finished job: what it was to fit, and what the head that was fitted predicted.

    The predictions, because two fits of one job differ in their last digits, and on other devices in more.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=16)
    for predictions in (job.log_test, job.log_validation):
        digest.update(predictions.tobytes())
    return digest.hexdigest()


class KeptHeads:
    """The heads of one study."""

    def __init__(self, together: Path, alone: Path) -> None:
        """Take the folder of the methods' heads, and the one where those of single jobs are until then."""
        self.together, self.alone = together, alone

    @classmethod
    def of_run(cls, run: Path) -> KeptHeads:
        """Those of a run's folder."""
        return cls(run / HEADS, run / JOBS)

    def folder(self, head: str, backbones: Sequence[str]) -> Path:
        """Where a method's heads lie together."""
        return self.together / folder_name(head, backbones)

    def save(self, key: str, saved: SavedHead) -> None:
        """Keep one job's head, in place of an earlier fit's; one that a power cut tears is fitted again.

        What took minutes is durable at once; the weights of a backbone that was trained with a head are hashed nowhere.
        """
        is_durable = saved.name in ONE_BY_ONE
        save_head(self._alone(key), saved, force=True, is_durable=is_durable)

    def marks(self, head: str, backbones: Sequence[str]) -> tuple[str, ...]:
        """Marks of the jobs whose heads lie together in a method's folder, where it is whole."""
        return marks_of(self.folder(head, backbones))

    def marks_alone(self, keys: Sequence[str]) -> set[str]:
        """Marks of those of these jobs whose heads lie by themselves and are whole."""
        return {each for key in keys for each in marks_of(self._alone(key))}

    def gather(
        self,
        head: str,
        backbones: Sequence[str],
        jobs: Sequence[tuple[str, FinishedJob]],
        fresh: Sequence[SavedHead] = (),
    ) -> None:
        """Put the heads of a method's jobs together, in this order; `tidy` removes what then lies there twice.

        Args:
            head: the method's name.
            backbones: the method's.
            jobs: (key, job) of each.
            fresh: heads that are not on disk yet; those of the other jobs are.
        """
        together, marks = self.folder(head, backbones), tuple(mark(*each) for each in jobs)
        alone = [folder for key, _ in jobs if (folder := whole(self._alone(key))).exists()]
        # Not by the marks only: a single head that is there may stand for one whose folder was damaged.
        if fresh or alone or marks_of(together) != marks:
            place = {each: folder for folder in (together, *alone) for each in marks_of(folder)}
            folds = {fold.job: fold for saved in fresh for fold in saved.folds}
            wanted = {each: place[each] for each in marks if each not in folds}
            stored = {folder: load_head(folder) for folder in dict.fromkeys(wanted.values())}
            folds |= {each: next(f for f in stored[folder].folds if f.job == each) for each, folder in wanted.items()}
            (any_of_them, *_) = (*fresh, *stored.values())
            save_head(together, replace(any_of_them, folds=[folds[each] for each in marks]), force=True)

    def tidy(self, keys: Collection[str]) -> None:
        """Remove the heads of single jobs that are together now, with what a kill left of one (`.KEY.partial`).

        Not before all methods have theirs: two of equal embeddings share them.
        """
        for entry in list(self.alone.iterdir()) if self.alone.exists() else ():
            if entry.is_dir() and entry.name.strip(".").partition(".")[0] in keys:
                shutil.rmtree(entry)

    def _alone(self, key: str) -> Path:
        return self.alone / key


def marks_of(folder: Path) -> tuple[str, ...]:
    """Marks of the jobs whose heads a folder holds, in its order; none if it is not there or not whole.

    Raises:
        DataError, OSError: if a file is there and cannot be read; nothing says then that it is torn.
    """
    folder = whole(folder)
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        is_whole = described["format"] in FORMATS and content_digest(described) == described["digest"]
        marks = tuple(fold["job"] for fold in described["folds"])
        digest = described["weights_digest"]
        own = {number: each["backbone"] for number, each in enumerate(described["folds"], 1) if "backbone" in each}
        is_whole = is_whole and all(is_there(folder, number, each) for number, each in own.items())
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return ()
    weights = folder / WEIGHTS
    return marks if is_whole and weights.exists() and file_digest(weights) == digest else ()


def heads_kept(
    stack: ExitStack, folder: Path | None, aside: Path | None, *, is_asked_elsewhere: bool
) -> KeptHeads | None:
    """Where heads are kept: in the run, else in the folder for them, else for as long as other sites ask them."""
    if folder is not None:
        return KeptHeads.of_run(folder)
    if aside is None and is_asked_elsewhere:
        aside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dvme-sites-")))
    return None if aside is None else KeptHeads(aside, aside / JOBS)


def place_heads(folders: Sequence[Path], aside: Path) -> None:
    """Make the folder of heads whole: those of a run are copied into it, what was for single jobs goes."""
    for folder in folders:
        if folder.parent != aside:
            shutil.copytree(folder, aside / folder.name)
    if (aside / JOBS).exists():
        (aside / JOBS).rmdir()
