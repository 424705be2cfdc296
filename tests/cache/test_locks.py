"""One writer at a time, readers at any time; a lock that dies with its process. Leases are in test_remote.py."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme_cache import CacheLockedError, EmbeddingCache, MissingEmbeddingsError, RowState, verify_cache
from dvme_cache.files import LocalFiles
from dvme_cache.locks import writer_lock

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
MakeCache = Callable[..., Path]
Spawn = Callable[..., "Popen[str]"]

HOLD_LOCK = """
import sys, time
from dvme_cache import EmbeddingCache, content_id
with EmbeddingCache.writing(sys.argv[1]) as cache:
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
    cache.samples.add([content_id(b"the first writer's")], ["first.png"])
"""

# Commits rows 0 to 639 in ascending order and in pieces of 16, so that every shard is rewritten four times. Eight times
# it waits until a reader has seen something new, so that a slow reader sees more than the beginning and the end.
WRITE_SLOWLY = """
import sys
import numpy as np
from dvme_cache import EmbeddingCache
with EmbeddingCache.writing(sys.argv[1]) as cache:
    embeddings = cache.embeddings("m")
    print("started", flush=True)
    for start in range(0, 640, 16):
        if start % 80 == 64:
            sys.stdin.readline()
        rows = np.arange(start, start + 16)
        features = np.array([[1 + row + axis / 7 for axis in range(3)] for row in rows]).astype("float32")
        embeddings.commit(rows, features, {start: "broken"})
"""


def holding(spawn: Spawn, path: Path, seconds: float) -> Popen[str]:
    child = spawn(HOLD_LOCK, path, seconds)
    assert child.stdout is not None
    assert child.stdout.readline() == "locked\n"
    return child


def lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def test_writing__refused_with_the_holder_until_it_is_killed(make_cache: MakeCache, spawn: Spawn, ids: Ids) -> None:
    path = make_cache(3)
    child = holding(spawn, path, 60)
    holder = rf"process {child.pid} on {re.escape(socket.gethostname())} \(since \d{{4}}-\d\d-\d\dT[\d:]+\+00:00\)"
    with (
        pytest.raises(CacheLockedError, match=rf"{path} is being written by {holder}; wait for it, or"),
        EmbeddingCache.writing(path),
    ):
        pass
    assert EmbeddingCache.open(path).n_rows == 3, "reading needs no lock"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with EmbeddingCache.writing(path) as cache:
        cache.samples.add(ids([9]), ["9.png"])
    assert EmbeddingCache.open(path).n_rows == 4
    assert lock_file(path).read_text() == "", "nobody holds it"


def test_writing__waits_for_the_other_writer(make_cache: MakeCache, spawn: Spawn, ids: Ids) -> None:
    path = make_cache(3)
    holding(spawn, path, 0.3)
    with EmbeddingCache.writing(path, wait=True) as cache:
        assert cache.samples.paths[3:] == ["first.png"], "what it committed is there"
        cache.samples.add(ids([9]), ["9.png"])
    assert EmbeddingCache.open(path).n_rows == 5


def test_writing__waits_for_a_writer_that_dies(make_cache: MakeCache, spawn: Spawn) -> None:
    path = make_cache(3)
    child = holding(spawn, path, 0.3)
    os.kill(child.pid, signal.SIGKILL)
    with EmbeddingCache.writing(path, wait=True) as cache:
        assert cache.n_rows == 3


@pytest.mark.parametrize("name", ["link.zarr", "linked/data.zarr", "a/../data.zarr", "data.zarr/"])
def test_writing__two_names_of_one_folder_are_one_lock(
    make_cache: MakeCache, ids: Ids, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = make_cache(3)
    (path.parent / "a").mkdir()
    (path.parent / "link.zarr").symlink_to("data.zarr")
    (path.parent / "linked").symlink_to(".")
    other = f"{path.parent}/{name}"
    with EmbeddingCache.writing(path):
        with pytest.raises(CacheLockedError), EmbeddingCache.writing(other):
            pass
        monkeypatch.chdir(path.parent)
        with pytest.raises(CacheLockedError), EmbeddingCache.writing(name):
            pass
    with EmbeddingCache.writing(name) as cache:
        assert cache.location == name, "as it was given"
        cache.samples.add(ids([9]), ["9.png"])
        with pytest.raises(CacheLockedError), EmbeddingCache.writing(path):
            pass
    assert EmbeddingCache.open(path).n_rows == 4
    assert verify_cache(EmbeddingCache.open(other)).findings == []


@pytest.mark.parametrize("text", ["", "torn {", "[]", '{"process": "1"}'])
def test_writing__a_lock_file_that_says_nothing(make_cache: MakeCache, text: str) -> None:
    path = make_cache(3)
    with EmbeddingCache.writing(path):
        lock_file(path).write_text(text)
        with (
            pytest.raises(CacheLockedError, match=f"{path} is being written by another process; wait for it"),
            EmbeddingCache.writing(path),
        ):
            pass
    with EmbeddingCache.writing(path):
        assert str(os.getpid()) in lock_file(path).read_text(), "a stale text locks nobody out"


def test_writer_lock__before_the_cache_exists(tmp_path: Path, spawn: Spawn) -> None:
    """Two processes that create the same cache: one lays it out, the other is refused."""
    path = tmp_path / "deep" / "x.zarr"
    with writer_lock(LocalFiles(path)):
        assert not path.exists()
        with pytest.raises(CacheLockedError), EmbeddingCache.writing(path):
            pass
        assert not path.exists()
    with EmbeddingCache.writing(path):
        assert EmbeddingCache.open(path).n_rows == 0


def test_open__readers_during_a_write_see_only_committed_rows(
    make_cache: MakeCache, spawn: Spawn, features_of: Features
) -> None:
    path = make_cache(640, "m")
    child = spawn(WRITE_SLOWLY, path)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    old, n_seen, counts = EmbeddingCache.open(path).embeddings("m"), 0, set()
    n_waits = 8
    while n_seen < 640:
        is_over = child.poll() is not None
        new = EmbeddingCache.open(path)
        states = new.embeddings("m").states()
        n_committed = int((states != RowState.PENDING).sum())
        assert n_committed >= n_seen
        assert n_committed % 16 == 0
        assert (states[:n_committed] == np.where(np.arange(n_committed) % 16, RowState.DONE, RowState.FAILED)).all()
        done = np.flatnonzero(states == RowState.DONE)
        for reader in (new.embeddings("m"), old):
            np.testing.assert_array_equal(reader.read(done), features_of(done))
        assert verify_cache(new, sample=20).is_sound
        if n_committed > n_seen and n_waits > 0:
            child.stdin.write("go on\n")
            n_waits -= 1
        n_seen = n_committed
        counts.add(n_seen)
        assert n_seen == 640 or not is_over
    assert child.wait() == 0
    assert len(counts) >= 8, "seen while it was written"
    with pytest.raises(MissingEmbeddingsError):
        old.read(np.array([16]))
