"""A run's folder: configuration, subsets, finished jobs and kept heads; written, found again and read back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING
from dvme.errors import DataError, OptionError, parameter
from dvme.files import check_folder
from dvme.shown.result import Shown, some_lines
from dvme.shown.table import Table
from dvme.study.design.manifest import SubsetManifest
from dvme.study.kept_heads import JOBS, KeptHeads, mark, marks_of
from dvme.study.ledger import FinishedJob, Ledger
from dvme.study.methods import Method, full_name_of, method_name
from dvme.study.outcome import StudyReport
from dvme.study.paper import score_table
from dvme.study.pictures import Pictures, PictureStore
from dvme.study.run_file import SUBSETS, again, described_in, read_described, unfinished
from dvme.text import counted, some_of
from dvme_cache.files import PARTIAL_SUFFIX

if TYPE_CHECKING:
    import pandas as pd

SEEN = "seen.npz"
WHERE = ("repeat", "fold")
SUMMARY, RESULTS, PREDICTIONS = "summary.json", "results.csv", "predictions.parquet"
DUPLICATES, SUSPECTS = "duplicates.csv", "suspects.csv"
OUT = parameter("out")


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A finished run, read back.

    Example:
        >>> run = dvme.Run.load("run")
        >>> run.metric, run.manifest.classes
        ('auc', ('dark', 'light'))
    """

    folder: Path
    described: Mapping[str, Any]
    """run.json."""
    manifest: SubsetManifest
    methods: tuple[tuple[str, tuple[str, ...]], ...]
    """(head with its settings, backbones) of every method."""
    finished: Mapping[tuple[int, int], list[FinishedJob]]
    """By method and size: the draws' jobs, in order."""

    @property
    def metric(self) -> str:
        """What its table is about."""
        return str(self.described["metric"])

    @property
    def origins(self) -> dict[str, str]:
        """What backbones were adapted from, by their names."""
        return dict(self.described.get("origins", {}))

    @property
    def ceilings(self) -> dict[int, float]:
        """Of a segmentation, what the grid of each method could reach, by its position."""
        return dict(enumerate(self.described.get("ceilings", ())))

    @property
    def grids(self) -> dict[int, tuple[int, int]]:
        """Of a segmentation, rows and columns of each method's grid, by its position; none of an older dvme."""
        return {method: (rows, columns) for method, (rows, columns) in enumerate(self.described.get("grids", ()))}

    @property
    def names(self) -> list[str]:
        """What the methods are called in a sentence."""
        return [method_name(head, backbones) for head, backbones in self.methods]

    @property
    def views(self) -> str:
        """What its heads learned from, in words."""
        views = self.described.get("views")
        if not views:
            return "plain images"
        averaged = ", averaged over" if views["use"].startswith("train,") else ""
        return f"{counted(int(views['n']), 'view')} of each image{averaged}"

    @property
    def seed(self) -> int:
        """Of its subsets."""
        return int(self.manifest.policy.get("seed", 0))

    @property
    def versions(self) -> dict[str, str]:
        """Of Python and PACKAGES in the call that finished it; none where an older dvme recorded none."""
        return dict(self.described.get("versions", {}))

    @property
    def test_groups(self) -> NDArray[Any]:
        """(N test,) which test images share a group; "" everywhere where there are no groups."""
        groups = self.described.get("test_groups")
        return np.array([MISSING] * len(self.manifest.test) if groups is None else [f"{each:09d}" for each in groups])

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read a run.

        Raises:
            DataError: if it is not one, is not finished, or is of another dvme.
        """
        path = Path(folder)
        described = read_described(path)
        manifest, ledger = SubsetManifest.load(path / SUBSETS), Ledger(path / JOBS)
        finished: dict[tuple[int, int], list[FinishedJob]] = {}
        for method, size, _, key in described["jobs"]:
            job = ledger.read(key)
            if job is None:
                raise DataError(f"{path} lacks a finished job; {again(described)}, it goes on from there")
            finished.setdefault((method, size), []).append(job)
        oversample, metric = manifest.policy.get("oversample"), str(described["metric"])
        methods = tuple(
            (full_name_of(each, metric, oversample), tuple(each["backbones"])) for each in described["methods"]
        )
        return cls(path, described, manifest, methods, finished)

    def pictures(self, method: int) -> Pictures | None:
        """What a segmentation makes of some test images, by the head of the first draw at the largest size.

        None where they are gone, damaged, or of an older dvme.
        """
        place = [method, self.manifest.largest, 0]
        key = next((str(key) for *own, key in self.described["jobs"] if own == place), "")
        return PictureStore(self.folder).read(key) if key else None

    def kept_heads(self) -> dict[tuple[str, tuple[str, ...]], Path]:
        """Folders of the saved heads, a fold for each draw of the largest size, by method.

        Only those that are there, whole, and of this run's own jobs.
        """
        largest, marks = self.manifest.largest, dict[int, list[str]]()
        for method, size, draw, key in self.described["jobs"]:
            if size == largest:
                marks.setdefault(method, []).append(mark(key, self.finished[method, size][draw]))
        kept, found = KeptHeads.of_run(self.folder), {}
        for method, (head, backbones) in enumerate(self.methods):
            folder = kept.folder(head, backbones)
            if marks_of(folder) == tuple(marks[method]):
                found[head, backbones] = folder
        return found

    def to_frame(self) -> pd.DataFrame:
        """Every measurement, a row each, as `results.csv` in the run's folder has them.

        Returns:
            `head`, `backbones`, `size`, `n_train`, `n_validation`, `repeat` and `fold`; `part`, which is test,
            validation or fit; and `metric` with its `value`.

        Raises:
            DataError: if the file is gone.
        """
        import pandas as pd

        texts, path = dict.fromkeys(("head", "backbones", "size", "part", "metric"), str), self.folder / RESULTS
        try:
            return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={"value": [""]})
        except FileNotFoundError as error:
            raise DataError(f"{path} is gone; {again(self.described)}, it writes a new one") from error

    def _lines(self) -> list[str]:
        return [f"{self.folder}, by {self.metric}", self.manifest.summary, *some_lines(self.names)]

    def _table(self) -> Table:
        return score_table(read_summary(self.folder))


def read_summary(folder: str | Path) -> StudyReport:
    """What a finished study found, read back.

    Raises:
        DataError: if the folder is not a run, or not finished, or its summary is torn or none.
    """
    path = Path(folder)
    described = read_described(path)
    try:
        return StudyReport.from_json(json.loads((path / SUMMARY).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise unfinished(path, described) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        step = f"{again(described)}, it writes a new one"
        raise DataError(f"{path / SUMMARY} cannot be read as a summary ({why}); {step}") from error


def check_run(folder: str | Path, manifest: SubsetManifest, command: str = "sweep") -> Path:
    """Refuse a folder that holds something else than a run over the same subsets.

    Args:
        folder: of the run.
        manifest: what it is to be over.
        command: that asks, for the message.

    Raises:
        OptionError: if it does.
        DataError: if its run cannot be read.
    """
    path, is_sweep = check_folder(folder, step="name another folder with " + OUT, force=True), command == "sweep"
    if not path.exists():
        return path
    if all(entry.name.endswith(PARTIAL_SUFFIX) for entry in path.iterdir()):  # nothing, or what a kill cut short
        return path
    described = described_in(path)
    if described is None:
        raise OptionError(f"{path} is there already and is not a run; name another folder with " + OUT)
    if described["subsets"] != manifest.hash:
        raise OptionError(
            f"{path} is a run over other subsets ({described['subsets'][:8]}, now {manifest.hash[:8]}): images, "
            "labels, options or the order of the classes have changed; name another folder with "
            + OUT
            + (", or pass " + parameter("subsets", path / SUBSETS) + " to go on with its own" if is_sweep else "")
        )
    return path


def check_same_views(folder: Path, views: Mapping[str, Any] | None) -> None:
    """Refuse to go on with a run whose heads learned from other views, which would put others in their place.

    Raises:
        OptionError: if they did.
    """
    before = described_in(folder) if folder.exists() else None
    if before is not None and before.get("views") != views:
        was, now = (
            "1 view" if own is None else f"{counted(int(own['n']), 'view')} ({own['use']})"
            for own in (before.get("views"), views)
        )
        now += ", which were made otherwise" if now == was else ""
        raise OptionError(
            f"{folder} is a run by {was} of each image, and this run is by {now}; name another folder with " + OUT
        )


def set_aside(folder: Path, methods: Sequence[Method], sites: Collection[str] = ()) -> list[str]:
    """Lines on the methods and sites that an earlier call of a run had, and that are none of these."""
    before = described_in(folder) or {}
    gone = [str(name) for name in before.get("sites", {}) if name not in sites]
    step = "; name them again with " + parameter("test") + " to have them in its report"
    lines: list[str] = [f"{folder} had {some_of(gone)} as other sites in an earlier call" + step] if gone else []
    now = {(method.name, method.backbones) for method in methods}
    named = [(str(each.get("name", each["head"])), tuple(each["backbones"])) for each in before.get("methods", ())]
    others = [method_name(*each) for each in named if each not in now]
    if others:
        again = "name them again to have them in its table, without a new fit"
        which = f"{counted(len(others), 'more method')} of an earlier call ({some_of(others)})"
        lines.append(f"{folder} has {which}; {again}")
    return lines
