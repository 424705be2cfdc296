"""What a finished study leaves in its run's folder: the summary, one tidy table, predictions, copies and suspects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.files import written_aside
from dvme.json_values import as_json
from dvme.metrics.segmentation import UNKNOWN, dice
from dvme.study.ledger import FinishedJob
from dvme.study.outcome import StudyReport
from dvme.study.run import DUPLICATES, PREDICTIONS, RESULTS, SUMMARY, SUSPECTS, WHERE
from dvme.study.run_file import write_run
from dvme.study.suspects import Suspect
from dvme.text import probability_of

if TYPE_CHECKING:
    import pyarrow as pa

    from dvme.study.grid import Grid


def write_results(
    folder: Path,
    described: Mapping[str, Any],
    grid: Grid,
    report: StudyReport,
    duplicates: Sequence[Mapping[str, Any]],
) -> None:
    """Write what a finished study has to say: the summary, measurements, predictions, copies and suspects."""
    import pandas as pd
    import pyarrow.parquet as pq

    jobs = [[place.method, place.size, place.draw, grid.keys[place]] for place in grid.places]
    with written_aside(folder / RESULTS) as aside:
        pd.DataFrame(_measurements(grid)).to_csv(aside, index=False)
    with written_aside(folder / DUPLICATES) as aside:
        pd.DataFrame(duplicates, columns=["side", "one", "other", "backbone", "cosine"]).to_csv(aside, index=False)
    with written_aside(folder / SUSPECTS) as aside:
        names = [field.name for field in fields(Suspect)]
        pd.DataFrame(map(asdict, report.suspects), columns=names).to_csv(aside, index=False)
    with written_aside(folder / PREDICTIONS) as aside:
        writer = None
        for table in _predictions(grid):
            writer = writer or pq.ParquetWriter(aside, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    with written_aside(folder / SUMMARY) as aside:
        aside.write_text(as_json(report.to_json(), indent=1) + "\n", encoding="utf-8")
    write_run(folder, {**described, "jobs": jobs})


def _measurements(grid: Grid) -> Iterator[dict[str, Any]]:
    """The tidy table: one row per measurement."""
    manifest = grid.manifest
    for place in grid.places:
        method, draw, job = grid.methods[place.method], manifest.draws[place.draw], grid.finished[place]
        where = {
            "head": method.name,
            "backbones": "+".join(method.backbones),
            "size": manifest.sizes[place.size],
            "n_train": draw.n_train[place.size],
            "n_validation": draw.n_validation[place.size],
            "repeat": draw.repeat,
            "fold": draw.fold,
        }
        for part in ("test", "validation"):
            values = job.scores[part].items()
            yield from (where | {"part": part, "metric": name, "value": value} for name, value in values)
        fit = {"seconds": job.seconds, "parameters": job.n_parameters}
        fit |= {name: float(value) for name, value in job.chosen.items() if isinstance(value, int | float)}
        yield from (where | {"part": "fit", "metric": name, "value": value} for name, value in fit.items())


def _predictions(grid: Grid) -> Iterator[pa.Table]:
    """Test probabilities, or counts of pixels, one row per image and job; a table for each method and size."""
    import pyarrow as pa

    manifest, tested = grid.manifest, grid.snapshot.at(grid.manifest.test)
    n_draws, n_images = len(manifest.draws), len(tested)
    contents = [row.tobytes().hex() for row in manifest.images[manifest.test]]
    named: dict[str, NDArray[Any] | list[str]] = {
        "image": tested.images,
        "path": tested.paths,
        "content": contents,
        **({} if tested.is_segmentation else {"label": tested.labels}),
    }
    of_images = {name: pa.array(list(values) * n_draws) for name, values in named.items()}
    of_draws = {
        name: pa.array(np.repeat([getattr(draw, name) for draw in manifest.draws], n_images), pa.int32())
        for name in WHERE
    }
    for (method, size), jobs in grid.by_cell().items():
        own = grid.methods[method]
        texts = {"head": own.name, "backbones": "+".join(own.backbones), "size": manifest.sizes[size]}
        columns = {name: pa.array([text] * (n_draws * n_images)).dictionary_encode() for name, text in texts.items()}
        said = _counted(jobs, manifest.classes) if tested.is_segmentation else _probable(jobs, manifest.classes)
        scores = {name: pa.array(values) for name, values in said.items()}
        yield pa.table({**columns, **of_draws, **of_images, **scores})


def _probable(jobs: Sequence[FinishedJob], classes: Sequence[str]) -> dict[str, NDArray[Any]]:
    probabilities = np.concatenate([job.test.astype(np.float32) for job in jobs])
    return {probability_of(name): probabilities[:, c] for c, name in enumerate(classes)}


def _counted(jobs: Sequence[FinishedJob], classes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Of each class Dice, and the pixels that it is made of."""
    counts, found = np.concatenate([job.log_test for job in jobs]), dict[str, NDArray[Any]]()
    for c, name in enumerate(classes):
        found[f"dice({name})"] = dice(counts[:, c])
        for place, what in enumerate(("common", "predicted", "true")):
            pixels = np.ma.masked_equal(counts[:, c, place].astype(np.int64), UNKNOWN)
            found[f"{what}({name})"] = pixels
    return found
