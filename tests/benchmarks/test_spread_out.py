"""Extraction on a Ray cluster of two workers of one core, against one process with two threads."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clusters import a_cluster

import dvme

BACKBONE, N_IMAGES, SHARD_ROWS, REPEATS = "efficientnet-lite0", 800, 32, 3
FROM = 0.25
"""Of the images, from which on it is timed: by then the workers are up, and each has loaded the backbone."""


def images_per_second(manifest: Path, cache: Path, engine: str) -> float:
    """Start-up apart."""
    marks: list[tuple[float, int]] = []

    def tell(stage: str, done: int, total: int) -> None:
        if stage == BACKBONE and done >= FROM * total:
            marks.append((time.perf_counter(), done))

    runtime = dvme.Runtime(engine=engine, device="cpu")
    dvme.extract(manifest, cache, backbones=[BACKBONE], rows_per_shard=SHARD_ROWS, runtime=runtime, progress=tell)
    (began, first), (ended, last) = marks[0], marks[-1]
    assert last == N_IMAGES
    return (last - first) / (ended - began)


@pytest.mark.bench
def test_extract__two_workers_against_two_threads(
    solar_cells: list[tuple[Path, str]], write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = write_manifest([(path,) for path, _ in solar_cells[:N_IMAGES]], ["image"])
    speeds: dict[str, list[float]] = {"local": [], "ray": []}
    with a_cluster():
        for repeat in range(REPEATS):
            for engine, found in speeds.items():
                found.append(images_per_second(manifest, tmp_path / f"{engine}{repeat}.zarr", engine))
    ratios = [local / ray for local, ray in zip(speeds["local"], speeds["ray"], strict=True)]
    print(
        f"\nextract, {N_IMAGES} images, lite0, start-up apart: one process {statistics.median(speeds['local']):.1f}/s, "
        f"two Ray workers {statistics.median(speeds['ray']):.1f}/s; {statistics.median(ratios):.2f} times as long "
        f"({min(ratios):.2f} to {max(ratios):.2f}); load {os.getloadavg()[0]:.1f}"
    )
    assert statistics.median(ratios) < 1.5
