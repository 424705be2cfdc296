"""The cache as a whole: opening, locking, backbones, columns, and what survives a killed writer."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme_cache import (
    CacheError,
    CacheLockedError,
    CacheNotFoundError,
    EmbeddingCache,
    Fingerprint,
    FingerprintMismatchError,
    MissingEmbeddingsError,
    NotACacheError,
    count_states,
)
from dvme_cache.cache import _decoded, _encoded

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
MakeCache = Callable[..., Path]
Spawn = Callable[..., "Popen[str]"]

HOLD_LOCK = """
import sys, time
from dvme_cache import EmbeddingCache
with EmbeddingCache.writing(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""

# Forks a writer for every n-th fsync of a run and lets it be killed there; `path.with_suffix(".log")` has the
# state transitions it knows to be durable. No zarr call before a fork: zarr's event loop thread would not survive.
DIE_AT_EVERY_FSYNC = """
import os, signal, sys
from pathlib import Path
import numpy as np
from dvme_cache import EmbeddingCache, Fingerprint, content_id

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

die_at = 1
while True:
    child = os.fork()
    if child == 0:
        write(Path(sys.argv[1]) / f"{die_at:03d}.zarr", die_at)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        assert status == 0, status
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    die_at += 1
print(die_at)
"""


@pytest.mark.parametrize("name", ["missing.zarr", "no/parent/either.zarr"])
def test_open__missing_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(CacheNotFoundError, match=f"there is no cache at {tmp_path / name}; run dvme extract") as caught:
        EmbeddingCache.open(tmp_path / name)
    assert isinstance(caught.value, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []


def plain_folder(path: Path) -> None:
    path.mkdir()
    (path / "photo.png").write_bytes(b"x")


def foreign_array(path: Path) -> None:
    zarr.create_array(path, shape=(3,), dtype="float32")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (plain_folder, "is not a dvme cache .it has no zarr.json"),
        (lambda path: path.write_text("a file"), "is not a dvme cache .it has no zarr.json"),
        (zarr.create_group, "is a Zarr group but not a dvme cache"),
        (lambda path: zarr.create_group(path, zarr_format=2), "is not a dvme cache"),
        (
            lambda path: zarr.create_group(path, attributes={"format": "dvme-cache", "format_version": 2}),
            "has cache format 2, this dvme reads format 1; update dvme",
        ),
        pytest.param(foreign_array, "not a dvme cache"),
    ],
    ids=["folder", "file", "zarr-group", "zarr-2", "newer", "zarr-array"],
)
def test_open__something_else(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "other"
    make(path)
    before = sorted(path.rglob("*"))
    with pytest.raises(NotACacheError, match=f"{path}.*{message}"):
        EmbeddingCache.open(path)
    with pytest.raises(NotACacheError, match=message), EmbeddingCache.writing(path):
        pass
    assert sorted(path.rglob("*")) == before, "left as it was"


def test_open__damaged_metadata(make_cache: MakeCache) -> None:
    path = make_cache(2)
    (path / "zarr.json").write_text("{")
    with pytest.raises(CacheError, match=str(path)):
        EmbeddingCache.open(path)


def test_open__is_read_only(make_cache: MakeCache, ids: Ids) -> None:
    cache = EmbeddingCache.open(str(make_cache(2)))
    with pytest.raises(ValueError, match="read-only"):
        cache.samples.add(ids([9]), ["9.png"])
    assert EmbeddingCache.open(cache.path).n_rows == 2


def test_writing__creates_the_missing_parents(tmp_path: Path, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "a" / "b" / "data.zarr", Path("c/d.zarr"), Path("e.zarr")):
        with EmbeddingCache.writing(path) as cache:
            assert (cache.n_rows, cache.backbones, cache.tables.columns) == (0, [], [])
            cache.samples.add(ids([1]), ["1.png"])
        assert EmbeddingCache.open(path).n_rows == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".e.zarr.lock", "a", "c", "e.zarr"]
    attributes = json.loads((tmp_path / "e.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes == {"format": "dvme-cache", "format_version": 1}


def test_writing__locked_by_another_process_until_it_is_killed(make_cache: MakeCache, spawn: Spawn, ids: Ids) -> None:
    path = make_cache(3)
    child = spawn(HOLD_LOCK, path)
    assert child.stdout is not None
    assert child.stdout.readline() == "locked\n"
    with (
        pytest.raises(CacheLockedError, match=f"{path} is being written by another process"),
        EmbeddingCache.writing(path),
    ):
        pass
    assert EmbeddingCache.open(path).n_rows == 3, "reading needs no lock"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with EmbeddingCache.writing(path) as cache:
        cache.samples.add(ids([9]), ["9.png"])
    assert EmbeddingCache.open(path).n_rows == 4


def test_writing__is_unlocked_after_an_error(make_cache: MakeCache) -> None:
    path = make_cache(3)
    with pytest.raises(KeyError), EmbeddingCache.writing(path):
        raise KeyError
    with EmbeddingCache.writing(path) as cache:
        with pytest.raises(CacheLockedError), EmbeddingCache.writing(path):
            pass
        assert cache.n_rows == 3


def test_writing__removes_what_killed_writers_left(make_cache: MakeCache) -> None:
    path = make_cache(3, "m")
    left = path / "embeddings" / "m" / "features" / ".zarr.json.0123.partial"
    left.write_bytes(b"torn")
    assert EmbeddingCache.open(path).backbones == ["m"]
    assert left.exists(), "a reader removes nothing"
    with EmbeddingCache.writing(path):
        assert not left.exists()


def test_writing__killed_at_any_fsync_is_resumed_row_exactly(
    tmp_path: Path,
    spawn: Spawn,
    ids: Ids,
    features_of: Features,
    fingerprint: Fingerprint,
) -> None:
    """SIGKILL at every step: a reader sees only whole transitions, the next writer finishes the rest."""
    output, _ = spawn(DIE_AT_EVERY_FSYNC, tmp_path).communicate()
    n_deaths = int(output) - 1
    assert n_deaths > 60
    stops, n_torn = [0, 20, 64, 128, 130], 0
    for die_at in range(1, n_deaths + 1):
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
        n_torn += 0 < committed < 130
        if die_at % 3:
            continue  # every third one is resumed, to save time

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
    assert n_torn >= 10, "killed in the middle of the commits"


NAMES = ["timm:resnet18.a1_in1k", "hf-hub:a/b", "m", "100%3A", "%2F", "weird %25:/ñ", "a.b"]


def test_backbones__keep_their_names(make_cache: MakeCache, features_of: Features) -> None:
    path = make_cache(5, *NAMES)
    assert EmbeddingCache.open(path).backbones == sorted(NAMES)
    with EmbeddingCache.writing(path) as cache:
        for index, name in enumerate(NAMES):
            cache.embeddings(name).commit(np.arange(5), features_of(range(index, index + 5)), {})
    for index, name in enumerate(NAMES):
        embeddings = EmbeddingCache.open(path).embeddings(name)
        assert embeddings.name == name
        np.testing.assert_array_equal(embeddings.read(np.arange(5)), features_of(range(index, index + 5)))


@given(st.text("%:/25AFa", max_size=12))
def test_encoded__round_trips_as_one_folder(name: str) -> None:
    assert _decoded(_encoded(name)) == name
    assert not set(_encoded(name)) & set("/:")


def test_backbones__half_laid_out_is_not_there(make_cache: MakeCache, fingerprint: Fingerprint) -> None:
    """A crash before the attributes: the group is invisible and laid out anew, with other dimensions if need be."""
    path = make_cache(5, "m")
    group = zarr.open_group(path / "embeddings" / "half", mode="w")
    group.create_array("features", shape=(5, 7), dtype="float32")[...] = 1.0
    assert EmbeddingCache.open(path).backbones == ["m"]
    with pytest.raises(MissingEmbeddingsError, match=r"has no half embeddings \(it has: m\); run dvme extract"):
        EmbeddingCache.open(path).embeddings("half")
    with EmbeddingCache.writing(path) as cache:
        embeddings = cache.ensure_embeddings("half", fingerprint, dim=2, dtype="float16", provenance={})
        assert (embeddings.dim, embeddings.dtype) == (2, "float16")
        assert count_states(embeddings.states())["pending"] == 5


def test_embeddings__of_an_unknown_backbone(make_cache: MakeCache) -> None:
    with pytest.raises(MissingEmbeddingsError, match=r"has no m embeddings \(it has: none\)"):
        EmbeddingCache.open(make_cache(1)).embeddings("m")


def test_ensure_embeddings__of_another_fingerprint(make_cache: MakeCache) -> None:
    path = make_cache(5, "m")
    other = Fingerprint({"weights": "abc", "size": 256, "pool": "avg"})
    with EmbeddingCache.writing(path) as cache, pytest.raises(FingerprintMismatchError) as caught:
        cache.ensure_embeddings("m", other, dim=3, dtype="float32", provenance={})
    message = str(caught.value)
    assert f"{path} holds m embeddings made differently" in message
    assert "size: cached 224, asked 256" in message
    assert "pool: cached None, asked 'avg'" in message
    assert "weights" not in message
    assert "--replace" in message
    EmbeddingCache.open(path).check_fingerprint("another", other)


def test_ensure_embeddings__again_keeps_the_rows(
    make_cache: MakeCache, fingerprint: Fingerprint, features_of: Features
) -> None:
    with EmbeddingCache.writing(make_cache(5, "m")) as cache:
        cache.embeddings("m").commit(np.arange(5), features_of(range(5)), {})
        again = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={"device": "other"})
        np.testing.assert_array_equal(again.read(np.arange(5)), features_of(range(5)))
        assert again.provenance == {"device": "cpu"}


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_remove_embeddings__starts_over(
    make_cache: MakeCache, fingerprint: Fingerprint, features_of: Features, is_interrupted: bool
) -> None:
    path = make_cache(5, "m", "n")
    with EmbeddingCache.writing(path) as cache:
        for name in ("m", "n"):
            cache.embeddings(name).commit(np.arange(5), features_of(range(5)), {})
        if is_interrupted:
            (path / "embeddings" / "m" / "zarr.json").unlink()  # its first step
        else:
            cache.remove_embeddings("m")
            assert not (path / "embeddings" / "m").exists()
        cache.remove_embeddings("never there")
        assert cache.backbones == EmbeddingCache.open(path).backbones == ["n"]
        with pytest.raises(MissingEmbeddingsError):
            cache.embeddings("m")
        embeddings = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
        assert count_states(embeddings.states()) == {"pending": 5, "done": 0, "failed": 0}
        np.testing.assert_array_equal(cache.embeddings("n").read(np.arange(5)), features_of(range(5)))


def test_n_bytes__counts_the_shards(make_cache: MakeCache, features_of: Features) -> None:
    path = make_cache(64, "m", dim=1000)
    with EmbeddingCache.writing(path) as cache:
        cache.embeddings("m").commit(np.arange(64), features_of(range(64), dim=1000), {})
        assert 0 <= cache.n_bytes("m") - 64 * 1000 * 4 < 5000, "the features and some metadata"
        assert cache.n_bytes("never there") == 0


def test_update_columns__merges(make_cache: MakeCache, ids: Ids) -> None:
    path = make_cache(4)
    with EmbeddingCache.writing(path) as cache:
        assert cache.column("label").tolist() == ["", "", "", ""]
        cache.update_columns(np.array([0, 2]), {"label": ["cat", "dog"], "split": ["train", ""]})
        cache.update_columns(np.array([2, 1]), {"patient": ["p2", "p1"], "label": ["owl", "ü"]})
        cache.samples.add(ids([4]), ["4.png"])
        cache.update_columns(np.array([4]), {"split": ["test"]})
        cache.update_columns(np.array([], dtype=np.int64), {"empty": []})
    cache = EmbeddingCache.open(path)
    assert cache.tables.columns == ["label", "split", "patient", "empty"]
    assert cache.column("label").tolist() == ["cat", "ü", "owl", "", ""]
    assert cache.column("split").tolist() == ["train", "", "", "", "test"]
    assert cache.column("patient").tolist() == ["", "p1", "p2", "", ""]
    assert cache.column("empty").tolist() == [""] * 5


def test_update_columns__touches_no_embedding(make_cache: MakeCache, features_of: Features) -> None:
    path = make_cache(4, "m")
    with EmbeddingCache.writing(path) as cache:
        cache.embeddings("m").commit(np.arange(4), features_of(range(4)), {})
        files = {file: file.stat().st_mtime_ns for file in (path / "embeddings").rglob("*")}
        cache.update_columns(np.arange(4), {"label": ["a", "b", "c", "d"]})
    assert {file: file.stat().st_mtime_ns for file in (path / "embeddings").rglob("*")} == files


def test_format__zarr_alone_can_read_it(make_cache: MakeCache, features_of: Features, ids: Ids) -> None:
    path = make_cache(130, "timm:m")
    with EmbeddingCache.writing(path) as cache:
        cache.update_columns(np.arange(130), {"label": ["cat"] * 130})
        cache.embeddings("timm:m").commit(np.arange(64), features_of(range(64)), {7: "broken"})

    root = zarr.open_group(path, mode="r")
    expected = np.full((130, 3), np.nan, dtype=np.float32)
    expected[:64] = features_of(range(64))
    expected[7] = np.nan
    np.testing.assert_array_equal(np.asarray(root["embeddings/timm%3Am/features"]), expected)
    assert np.asarray(root["embeddings/timm%3Am/state"]).tolist() == [1] * 7 + [2] + [1] * 56 + [0] * 66
    assert np.asarray(root["embeddings/timm%3Am/reason"])[7] == "broken"
    assert [row.tobytes() for row in np.asarray(root["samples/content_id"])] == ids(range(130))
    generation = root["tables"].attrs["current"]
    assert set(np.asarray(root[f"tables/{generation}/label"])) == {"cat"}


def test_format__zarr_alone_can_list_it(make_cache: MakeCache) -> None:
    root = zarr.open_group(make_cache(3, "m"), mode="r")
    assert sorted(name for name, _ in root.members()) == ["embeddings", "samples", "tables"]


def test_count_states__by_hand() -> None:
    assert count_states(np.array([0, 1, 1, 2, 1], dtype=np.uint8)) == {"pending": 1, "done": 3, "failed": 1}
