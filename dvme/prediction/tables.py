"""Tables of predictions, written as their lines come, so that none is held whole: CSV, or Parquet by groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.findings import BETWEEN
from dvme.defaults import NO_FINDING
from dvme.errors import DataError
from dvme.files import written_aside
from dvme.heads.saved_head import SavedHead
from dvme.metrics.grades import predicted_classes
from dvme.text import probability_of

if TYPE_CHECKING:
    import pandas as pd

WRITERS = (".csv", ".parquet")
ROWS_OF_GROUP = 1 << 16
"""Lines of a Parquet file that are compressed together, and until then in memory."""


@contextmanager
def table_written(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Give a function that appends lines to a file, which is there once the block is done: whole, or not at all.

    All lines have the columns of the first ones.
    """
    with written_aside(path) as aside:
        if path.suffix.lower() == ".parquet":
            with _parquet_written(aside) as add:
                yield add
            return
        with aside.open("w", encoding="utf-8", newline="") as file:
            is_first = True

            def add_lines(lines: pd.DataFrame) -> None:
                nonlocal is_first
                lines.to_csv(file, index=False, header=is_first)
                is_first = False

            yield add_lines


@contextmanager
def _parquet_written(place: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[pd.DataFrame] = []
    writer: pq.ParquetWriter | None = None

    def write() -> None:
        nonlocal writer
        lines = pd.concat(waiting, ignore_index=True)
        waiting.clear()
        schema = None if writer is None else writer.schema
        table = pa.Table.from_pandas(lines, schema, preserve_index=False)
        writer = writer or pq.ParquetWriter(place, table.schema)
        writer.write_table(table)

    def add(lines: pd.DataFrame) -> None:
        waiting.append(lines)
        if sum(map(len, waiting)) >= ROWS_OF_GROUP:
            write()

    try:
        yield add
        if waiting:
            write()
    finally:
        if writer is not None:
            writer.close()


def decided(saved: SavedHead, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
    """(B, C) what each image is taken for: one class, or findings, each above a half."""
    is_it: NDArray[np.bool_] = probabilities > 0.5
    if not saved.is_multilabel:
        is_it = predicted_classes(probabilities, saved.cuts)[:, None] == np.arange(len(saved.classes))
    return is_it


def lines_of(
    saved: SavedHead,
    named: Mapping[str, Sequence[str]],
    is_it: NDArray[np.bool_],
    probabilities: NDArray[Any],
    submission: Sequence[str] | None,
) -> pd.DataFrame:
    """The lines of B images.

    Args:
        saved: the head.
        named: `image` and `path` of each.
        is_it: (B, C) as `decided` has it.
        probabilities: (B, C).
        submission: names of the only two columns, of the stem and the class; None: all columns.
    """
    import pandas as pd

    names = np.array(saved.classes, dtype=object)
    classes = [BETWEEN.join(names[row]) or NO_FINDING for row in is_it]
    if submission is not None:
        return pd.DataFrame({submission[0]: [_stem(image) for image in named["image"]], submission[1]: classes})
    columns = {probability_of(name): probabilities[:, c] for c, name in enumerate(saved.classes)}
    return pd.DataFrame({**named, "findings" if saved.is_multilabel else "class": classes, **columns})


def check_stems(images: Sequence[str]) -> None:
    """Refuse images that a submission could not tell apart.

    Raises:
        DataError: if two have the same stem.
    """
    if len({_stem(image) for image in images}) < len(images):
        raise DataError(
            "two images have the same file name without folder and suffix; a submission needs distinct ones"
        )


def _stem(image: str) -> str:
    return PurePosixPath(image).stem
