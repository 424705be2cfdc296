"""What survives a writer that is killed: at any fsync of a whole run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme_cache import EmbeddingCache, Fingerprint, MissingEmbeddingsError, count_states, verify_cache

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
Spawn = Callable[..., "Popen[str]"]

# Forks a writer for every n-th fsync of a run and lets it be killed there, n being a second argument;
# `path.with_suffix(".log")` has the state transitions it knows to be durable. No zarr call before a fork: zarr's
# event loop thread would not survive.
DIE_AT_FSYNCS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from dvme_cache import EmbeddingCache, Fingerprint, content_id, samples, tables
samples.ROWS_PER_SAMPLE_CHUNK = tables.ROWS_PER_SAMPLE_CHUNK = 100

def write(path, die_at):
    calls = 0
    def fsync(descriptor):
        nonlocal calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    os.fsync = fsync
    log = os.open(path.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    with EmbeddingCache.writing(path) as cache:
        os.write(log, b"created\\n")
        cache.samples.add([content_id(f"image {row}".encode()) for row in range(130)],
                          [f"{row}.png" for row in range(130)])
        os.write(log, b"added\\n")
        cache.update_columns(np.arange(130), {"label": ["cat"] * 130})
        os.write(log, b"labelled\\n")
        fingerprint = Fingerprint({"weights": "abc", "size": 224})
        embeddings = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
        for start, stop in ((0, 20), (20, 64), (64, 128), (128, 130)):
            rows = np.arange(start, stop)
            features = np.array([[1 + row + axis / 7 for axis in range(3)] for row in rows]).astype("float32")
            embeddings.commit(rows, features, {5: "broken"} if start == 0 else {})
            os.write(log, f"{stop}\\n".encode())

def fork(die_at):
    child = os.fork()
    if child == 0:
        write(Path(sys.argv[1]) / f"{die_at:03d}.zarr", die_at)
        os._exit(0)
    return child

step = int(sys.argv[2])
die_at, children = 1, [fork(1)]
while True:
    children.append(fork(die_at + step))
    status = os.waitpid(children.pop(0), 0)[1]
    if not os.WIFSIGNALED(status):
        assert status == 0, status
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    die_at += step
os.waitpid(children.pop(), 0)
print(die_at)
"""


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_writing__killed_at_any_fsync_is_resumed_row_exactly(
    step: int,
    tmp_path: Path,
    spawn: Spawn,
    ids: Ids,
    features_of: Features,
    fingerprint: Fingerprint,
) -> None:
    """A reader sees only whole transitions and no damage, the next writer goes on.

    The short form tries every seventh fsync: an odd step, so that files and their folders take turns.
    """
    output, _ = spawn(DIE_AT_FSYNCS, tmp_path, step).communicate()
    deaths = range(1, int(output), step)
    assert deaths[-1] > 150
    stops, n_torn = [0, 20, 64, 128, 130], 0
    for number, die_at in enumerate(deaths):
        path = tmp_path / f"{die_at:03d}.zarr"
        log = path.with_suffix(".log").read_text().split()
        if not path.exists():
            assert log == []
            continue
        cache = EmbeddingCache.open(path)
        assert cache.n_rows in ({130} if "added" in log else {0, 130})
        assert cache.samples.content_ids == ids(range(cache.n_rows))
        assert cache.samples.paths == [f"{row}.png" for row in range(cache.n_rows)]
        labels = cache.column("label").tolist()
        assert labels == ["cat"] * 130 or ("labelled" not in log and set(labels) <= {""})

        known = max([0, *(int(line) for line in log if line.isdigit())])
        committed = 0
        if "m" in cache.backbones:
            embeddings = cache.embeddings("m")
            committed = int((embeddings.states() != 0).sum())
            assert committed in stops[stops.index(known) :][:2], "what it knew of, or also what it was writing"
            assert not embeddings.states()[committed:].any()
            done = np.setdiff1d(np.arange(committed), [5])
            np.testing.assert_array_equal(embeddings.read(done), features_of(done))
            if committed:
                assert embeddings.reasons()[5] == "broken"
            if committed < 130:
                with pytest.raises(MissingEmbeddingsError):
                    embeddings.read(np.array([committed]))
        assert verify_cache(cache).is_sound, "an interrupted write is no damage"
        n_torn += 0 < committed < 130
        if number % 5:
            continue  # every fifth one is resumed, to save time

        with EmbeddingCache.writing(path) as cache:
            assert not list(path.rglob("*.partial"))
            assert cache.samples.add(ids(range(130)), [f"{row}.png" for row in range(130)]).tolist() == [*range(130)]
            cache.update_columns(np.arange(130), {"label": ["cat"] * 130})
            embeddings = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
            pending = list(embeddings.pending_shards())
            assert [row for rows in pending for row in rows.tolist()] == [*range(committed, 130)]
            for rows in pending:
                embeddings.commit(rows, features_of(rows), {5: "broken"} if 5 in rows else {})
        cache = EmbeddingCache.open(path)
        good = np.setdiff1d(np.arange(130), [5])
        np.testing.assert_array_equal(cache.embeddings("m").read(good), features_of(good))
        assert count_states(cache.embeddings("m").states()) == {"pending": 0, "done": 129, "failed": 1}
        assert cache.column("label").tolist() == ["cat"] * 130
        assert verify_cache(cache).is_sound
    assert n_torn >= 10 // step + 1, "killed in the middle of the commits"
