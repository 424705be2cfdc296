"""Metadata of embeddings are read once, and again when any process adds, removes or replaces a backbone."""

from __future__ import annotations

import pickle
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme_cache import EmbeddingCache, Fingerprint, MissingEmbeddingsError
from dvme_cache.files import LocalFiles
from dvme_cache.remote import RemoteFiles

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
MakeCache = Callable[..., Path]
Spawn = Callable[..., "subprocess.Popen[str]"]
ROWS = np.arange(70)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of a folder was read, whole or in part; under `stamped`, only opened."""
    counts: Counter[str] = Counter()

    def counting(read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(self: LocalFiles, key: str, *runs: Any) -> Any:
            counts[key] += 1
            return read(self, key, *runs)

        return counted

    monkeypatch.setattr(LocalFiles, "read", counting(LocalFiles.read))
    monkeypatch.setattr(LocalFiles, "read_into", counting(LocalFiles.read_into))
    stamp = LocalFiles.stamp

    def stamping(self: LocalFiles, key: str) -> object:
        counts[f"stamped {key}"] += 1
        return stamp(self, key)

    monkeypatch.setattr(LocalFiles, "stamp", stamping)
    return counts


@pytest.fixture
def path(make_cache: MakeCache, features_of: Features) -> Path:
    """70 rows in shards of 64 and 6, of the backbones m and n."""
    made = make_cache(70, "m", "n")
    with EmbeddingCache.writing(made) as cache:
        for name in ("m", "n"):
            cache.embeddings(name).write(ROWS, features_of(ROWS))
    return made


def test_embeddings__metadata_are_read_once(path: Path, features_of: Features, reads: Counter[str]) -> None:
    cache = EmbeddingCache.open(path)
    reads.clear()
    cache.read_aligned(["m", "n"], ROWS)
    assert {key: reads[key] for key in reads if "embeddings" in key and key.endswith("zarr.json")} == {
        "embeddings/zarr.json": 2,
        "stamped embeddings/zarr.json": 2,
        **{f"embeddings/{name}/{file}zarr.json": 1 for name in "mn" for file in ("", "features/")},
    }
    reads.clear()
    for _ in range(100):
        for features in cache.read_aligned(["m", "n"], np.array([3, 69])):
            np.testing.assert_array_equal(features, features_of([3, 69]))
    assert reads.pop("stamped embeddings/zarr.json") == 200
    assert reads == {f"embeddings/{name}/features/c/{shard}/0": 100 for name in "mn" for shard in range(2)}
    reads.clear()
    assert cache.complete_rows(["m", "n"]).tolist() == ROWS.tolist()
    assert reads.pop("stamped embeddings/zarr.json") == 2
    assert reads == {f"embeddings/{name}/state/c/{shard}": 1 for name in "mn" for shard in range(2)}
    reads.clear()
    cache.column("label")
    assert reads == {"tables/zarr.json": 1}


def test_embeddings__another_writer(path: Path, features_of: Features, fingerprint: Fingerprint) -> None:
    reader, other = EmbeddingCache.open(path), Fingerprint({"weights": "other"})
    before = reader.embeddings("m")
    with EmbeddingCache.writing(path) as writer:
        writer.remove_embeddings("m")
        with pytest.raises(MissingEmbeddingsError, match="has no m embeddings"):
            reader.embeddings("m")
        added = writer.ensure_embeddings("o", other, dim=2, dtype="float32", provenance={})
        added.write(ROWS, features_of(ROWS, 2))
        np.testing.assert_array_equal(reader.read_aligned(["o"], ROWS)[0], features_of(ROWS, 2))
        layout = {"dtype": "float32", "provenance": {}}
        writer.ensure_embeddings("m", other, dim=5, **layout).write(ROWS, features_of(ROWS, 5))  # type: ignore[arg-type]
        assert (reader.embeddings("m").dim, reader.embeddings("m").fingerprint) == (5, other)
        np.testing.assert_array_equal(reader.embeddings("m").read(ROWS), features_of(ROWS, 5))
        writer.remove_embeddings("m")
        again = writer.ensure_embeddings("m", fingerprint, dim=3, rows_per_shard=8, **layout)  # type: ignore[arg-type]
        again.write(ROWS, features_of(ROWS))
    np.testing.assert_array_equal(reader.embeddings("m").read(ROWS), features_of(ROWS))
    assert (before.shard_rows, reader.embeddings("m").shard_rows) == (64, 8)


def test_embeddings__the_writers_own_changes(
    make_cache: MakeCache, features_of: Features, fingerprint: Fingerprint, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the file system cannot tell two versions of a file apart."""
    monkeypatch.setattr(LocalFiles, "stamp", lambda *_: "the same")
    with EmbeddingCache.writing(make_cache(70, "m")) as cache:
        assert (cache.embeddings("m").n_rows, cache.embeddings("m").n_shards) == (70, 2)
        cache.samples.add(ids(range(70, 200)), [f"{row}.png" for row in range(70, 200)])
        assert (cache.embeddings("m").n_rows, cache.embeddings("m").n_shards) == (200, 4)
        cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
        cache.embeddings("m").write(np.arange(200), features_of(range(200)))
        cache.prune(np.array([5, 199]))
        assert cache.complete_rows(["m"]).tolist() == np.setdiff1d(np.arange(199), [5]).tolist()
        cache.remove_embeddings("m")
        with pytest.raises(MissingEmbeddingsError):
            cache.embeddings("m")
        cache.ensure_embeddings("m", Fingerprint({"a": 1}), dim=4, dtype="float16", provenance={})
        assert (cache.embeddings("m").dim, cache.embeddings("m").dtype) == (4, "float16")


def test_embeddings__what_is_opened_does_not_travel(path: Path, features_of: Features) -> None:
    cache = EmbeddingCache.open(path)
    fresh = len(pickle.dumps(cache))
    cache.read_aligned(["m", "n"], ROWS)
    sent = pickle.dumps(cache)
    assert len(sent) < fresh + 70 * 16 + 500  # the content ids alone
    np.testing.assert_array_equal(pickle.loads(sent).read_aligned(["n"], ROWS)[0], features_of(ROWS))


FORKED = """
import os, sys
import numpy as np
from dvme_cache import EmbeddingCache, Fingerprint

path, rows = sys.argv[1], np.arange(70)
reader = EmbeddingCache.open(path)
reader.read_aligned(["m", "n"], rows)
came, go = os.pipe()
child = os.fork()
if not child:
    os.read(came, 1)  # the parent has replaced m
    opened = reader.embeddings("m")
    right = opened.dim == 2 and (opened.read(rows) == rows[:, None]).all() and reader.embeddings("n").dim == 3
    os._exit(0 if right else 1)
with EmbeddingCache.writing(path) as writer:
    writer.remove_embeddings("m")
    made = writer.ensure_embeddings("m", Fingerprint({"a": 1}), dim=2, dtype="float32", provenance={})
    made.write(rows, np.repeat(rows[:, None], 2, axis=1).astype(np.float32))
os.write(go, b".")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), reader.embeddings("m").dim, flush=True)
"""


def test_embeddings__a_forked_reader_sees_what_its_parent_writes(path: Path, spawn: Spawn) -> None:
    process = spawn(FORKED, path)
    assert process.stdout is not None
    assert process.stdout.read().split() == ["0", "2"]


def test_embeddings__the_list_of_backbones_is_gone(path: Path, features_of: Features) -> None:
    """Its copy serves; nothing tells when it changes, so that nothing is kept."""
    cache = EmbeddingCache.open(path)
    (path / "embeddings" / "zarr.json").unlink()
    np.testing.assert_array_equal(cache.read_aligned(["m"], ROWS)[0], features_of(ROWS))
    with EmbeddingCache.writing(path) as writer:
        writer.remove_embeddings("m")
    with pytest.raises(MissingEmbeddingsError):
        cache.embeddings("m")


@pytest.mark.usefixtures("s3")
def test_states__an_object_store_is_asked_for_all_shards_at_once(
    fill: Callable[[Path | str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("s3://bucket/deep/x.zarr")
    embeddings = EmbeddingCache.open("s3://bucket/deep/x.zarr").embeddings("m")
    together, read, asked = threading.Barrier(3), RemoteFiles.read, list[str]()

    def waiting(self: RemoteFiles, key: str) -> bytes | None:
        asked.append(key)
        together.wait(timeout=20)  # breaks if one of the three comes alone
        return read(self, key)

    monkeypatch.setattr(RemoteFiles, "read", waiting)
    states = embeddings.states()
    assert sorted(asked) == [f"embeddings/m/state/c/{shard}" for shard in range(3)]
    assert states.tolist() == [1] * 100 + [2] + [1] * 29
