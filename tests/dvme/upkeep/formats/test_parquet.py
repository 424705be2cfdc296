"""Parquet in bounded memory, which pyarrow's own iterator over a whole file does not keep to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from dvme.upkeep.formats import read_bundle, write_bundle
from dvme.upkeep.formats.bundle import Bundle

N_ROWS, DIM = 60_000, 128


def test_features__no_more_than_a_few_row_groups_are_held(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    """15 MB of features in row groups of 1 MB."""
    write_bundle(tmp_path / "x.parquet", make_bundle(N_ROWS, {"x": (DIM, "float16")}))
    bundle = read_bundle(tmp_path / "x.parquet")
    before = pa.total_allocated_bytes()
    n_rows, most = 0, 0
    for block in bundle.embeddings["x"].blocks():
        n_rows += len(block)
        most = max(most, pa.total_allocated_bytes() - before)
    assert n_rows == N_ROWS
    assert most < 6e6
