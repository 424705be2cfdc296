"""Published tables, as published."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from dvme.errors import UnknownNameError

TEST_IMAGES: Mapping[str, int] = {"patchcam": 57486, "aptos": 1928, "pneumonia-cxr": 624, "nih-cxr": 1962}
"""Source: Truong et al. 2021, table 1."""
N_FOLDS = 5
"""Source: Truong et al. 2021, section 5.3."""
DOUBTFUL: Mapping[tuple[str, str, str, int], str] = {
    ("aptos", "finetune", "random", 100): "as published, and most likely a misprint: 0.0177 at 50 and 0.1914 at 200",
}
"""Cells that do not fit their neighbours, by data set, setting, method and size; they are shown as they are."""
_PAPERS = {"truong2021": "truong2021.csv"}


@dataclass(frozen=True)
class PublishedCell:
    """One number of a paper."""

    table: str
    """Such as `B2`."""
    setting: str
    """`linear`, `finetune` or `dvme`."""
    method: str
    """The initialisation, or the fusion."""
    n_train: int
    subtask: str
    """`S`, `M`, `F` or nothing."""
    metric: str
    """`auc` or `kappa`."""
    mean: float
    std: float
    """Over the folds."""
    doubt: str
    """Why the number may be wrong; mostly nothing."""

    @property
    def size(self) -> str:
        """The size of a sweep that it belongs beside."""
        return "full" if self.subtask == "F" else str(self.n_train)


def published_cells(name: str) -> list[PublishedCell]:
    """The cells of one data set of one paper, such as `truong2021:aptos`.

    Raises:
        UnknownNameError: naming those that there are.

    Source: Truong et al. 2021, tables B1 to B8 and C1 to C4.
    """
    paper, _, dataset = name.partition(":")
    if paper not in _PAPERS or dataset not in TEST_IMAGES:
        known = ", ".join(f"{each}:{data}" for each in _PAPERS for data in TEST_IMAGES)
        raise UnknownNameError(f"{name!r} is not a published table; choose from {known}")
    text = (files("dvme.study") / _PAPERS[paper]).read_text(encoding="utf-8")
    return [_cell(row) for row in csv.DictReader(text.splitlines()) if row["dataset"] == dataset]


def _cell(row: Mapping[str, str]) -> PublishedCell:
    place = (row["dataset"], row["setting"], row["method"], int(row["n_train"]))
    return PublishedCell(
        table=row["table"],
        setting=row["setting"],
        method=row["method"],
        n_train=place[3],
        subtask=row["subtask"],
        metric=row["metric"],
        mean=float(row["mean"]),
        std=float(row["std"]) if row["std"] else math.nan,
        doubt=DOUBTFUL.get(place, ""),
    )
