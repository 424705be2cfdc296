"""Many processes on one cache: writers in turn, one of them killed, and readers all the while."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dvme_cache.verification
from dvme_cache import EmbeddingCache, RowState, verify_cache
from dvme_cache.layout import encoded

CROWD = Path(__file__).parent / "scripts" / "crowd.py"
N_READERS = 2
WAITED_S = 1.5  # more than it takes to load a backbone and to find that another process writes
BACKBONE, N_IMAGES = "efficientnet-lite0@size=64", 24

Processes = Any
Campaign = Callable[[int, int], int]

pytestmark = pytest.mark.machine


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the processes know: images, labels, and the features that follow from them."""
    for module in (dvme_cache.samples, dvme_cache.tables, dvme_cache.verification):
        monkeypatch.setattr(module, "ROWS_PER_SAMPLE_CHUNK", module.ROWS_PER_SAMPLE_CHUNK)  # the script sets it
    return runpy.run_path(str(CROWD))


def test_writing__many_writers_and_readers_on_one_cache(
    processes: Processes, campaign: Campaign, tmp_path: Path, crowd: dict[str, Any]
) -> None:
    """A new cache per round; in each, one of four writers is killed and started again."""
    n_rounds, rng = campaign(2, 20), random.Random(0)
    n_killed, n_passes, n_read, duration = 0, 0, 0, 1.0
    for number in range(n_rounds):
        path, stop = tmp_path / f"{number}.zarr", tmp_path / f"{number}.stop"
        victim, started = rng.randrange(crowd["N_WRITERS"]), time.monotonic()
        is_clocked = bool(number % 2)
        change = None if is_clocked else rng.randint(1, 120)
        readers = [processes.start(CROWD, "read", path, stop) for _ in range(N_READERS)]
        writers = [
            processes.start(
                CROWD,
                "write",
                path,
                writer,
                rng.randrange(1 << 30),
                kill_before=change if writer == victim else None,
                watched=tmp_path,
            )
            for writer in range(crowd["N_WRITERS"])
        ]
        if is_clocked:
            time.sleep(rng.uniform(0, duration / 2))
            processes.kill(writers[victim])
        ended = processes.wait(writers[victim])
        n_killed += ended.is_killed
        assert ended.is_killed or ended.exit_code == 0, ended.stderr
        writers[victim] = processes.start(CROWD, "write", path, victim, number)
        for writer in writers:
            ended = processes.wait(writer)
            assert ended.exit_code == 0, ended.stderr
        duration = time.monotonic() - started
        stop.touch()
        for reader in readers:
            ended = processes.wait(reader)
            assert ended.exit_code == 0, ended.stderr
            counts = json.loads(ended.stdout)
            n_passes, n_read = n_passes + counts["passes"], n_read + counts["rows"]
        _check_end(path, crowd)
    assert n_killed > 0
    assert n_passes > 2 * n_rounds
    print(
        f"\nconcurrency: {n_rounds} rounds of {crowd['N_WRITERS']} writers and {N_READERS} readers, {n_killed} writers "
        f"killed; 0 rows lost, 0 duplicated; {n_read:,} rows read meanwhile in {n_passes} passes, all of them right"
    )


def test_extract__two_at_once_on_one_cache(
    processes: Processes, solar_cells: list[tuple[Path, str]], tmp_path: Path
) -> None:
    """Without --wait the second is refused; with it, it waits and has nothing left to do. The first notices nothing."""
    manifest, cache = tmp_path / "manifest.csv", tmp_path / "cache.zarr"
    manifest.write_text("\n".join(["image", *(str(path) for path, _ in solar_cells[:N_IMAGES])]))
    command = ["extract", manifest, cache, "--backbones", BACKBONE, "--shard-rows", 8, "--json"]
    first = processes.start("dvme", *command)
    while not (cache / "embeddings" / encoded(BACKBONE)).exists():
        assert _is_running(first), processes.stderr_of(first)
        time.sleep(0.002)
    os.kill(first, signal.SIGSTOP)
    refused = processes.run("dvme", *command)
    assert (refused.exit_code, refused.stdout, len(refused.errors)) == (1, "", 1), refused.stderr
    assert f"process {first}" in refused.errors[0]
    assert "--wait" in refused.errors[0]
    second = processes.start("dvme", *command, "--wait")
    time.sleep(WAITED_S)
    assert _is_running(second)
    os.kill(first, signal.SIGCONT)
    outcomes = [processes.wait(pid).report["outcomes"][0] for pid in (first, second)]
    assert [(outcome["computed"], outcome["reused"]) for outcome in outcomes] == [(N_IMAGES, 0), (0, N_IMAGES)]
    assert verify_cache(EmbeddingCache.open(cache)).findings == []


def _check_end(path: Path, crowd: dict[str, Any]) -> None:
    """Every image once, with its label and every embedding that a writer promised, and no trace of the kill."""
    cache = EmbeddingCache.open(path)
    digests = cache.samples.content_ids
    assert sorted(digests) == sorted(crowd["IDS"])
    numbers = [crowd["NUMBER_OF"][digest] for digest in digests]
    assert cache.samples.paths == [f"{number}.png" for number in numbers]
    assert cache.column("label").tolist() == [crowd["LABELS"][number] for number in numbers]
    for name in crowd["DTYPES"]:
        embeddings = cache.embeddings(name)
        done = np.flatnonzero(embeddings.states() == RowState.DONE)
        writers = [writer for writer, names in enumerate(crowd["BACKBONES_OF"]) if name in names]
        promised = {number for writer in writers for number in crowd["images_of"](writer)}
        assert promised <= {numbers[row] for row in done}
        expected = crowd["features_of"]([digests[row] for row in done], name)
        np.testing.assert_array_equal(embeddings.read(done), expected)
    assert verify_cache(cache).findings == []


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
