"""Embeddings: only committed rows are served, bit-exact, and damage is named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from dvme_cache import (
    CorruptCacheError,
    EmbeddingCache,
    Embeddings,
    Fingerprint,
    MissingEmbeddingsError,
    RowState,
    count_states,
)

Features = Callable[..., NDArray[Any]]
MakeCache = Callable[..., Path]


def in_memory(n_rows: int, dim: int = 3, dtype: str = "float32") -> Embeddings:
    parent = zarr.create_group(MemoryStore())
    fields = Fingerprint({"size": 224})
    Embeddings.create(parent, "m", fingerprint=fields, provenance={}, dim=dim, dtype=dtype, n_rows=n_rows)
    group = parent["m"]
    assert isinstance(group, zarr.Group)
    return Embeddings(group, n_rows, "m")


def stored(embeddings: Embeddings) -> NDArray[Any]:
    """Everything that is on disk, read past the checks."""
    return np.asarray(embeddings._array("features")[...])


def test_create__rows_are_pending_and_nan(make_cache: MakeCache, fingerprint: Fingerprint) -> None:
    embeddings = EmbeddingCache.open(make_cache(130, "m", dim=5)).embeddings("m")
    assert (embeddings.n_rows, embeddings.dim, embeddings.dtype, embeddings.shard_rows) == (130, 5, "float32", 64)
    assert embeddings.fingerprint == fingerprint
    assert embeddings.provenance == {"device": "cpu"}
    assert count_states(embeddings.states()) == {"pending": 130, "done": 0, "failed": 0}
    assert embeddings.reasons().tolist() == [""] * 130
    assert stored(embeddings).shape == (130, 5)
    assert np.isnan(stored(embeddings)).all()
    assert [(rows[0], rows[-1], len(rows)) for rows in embeddings.pending_shards()] == [
        (0, 63, 64),
        (64, 127, 64),
        (128, 129, 2),
    ]


def test_read__refuses_rows_without_an_embedding(features_of: Features) -> None:
    embeddings = in_memory(100)
    embeddings.commit(np.array([4, 5]), features_of([4, 5]), {5: "truncated file"})
    np.testing.assert_array_equal(embeddings.read(np.array([4])), features_of([4]))
    with pytest.raises(MissingEmbeddingsError, match="2 of 3 rows have no m embedding; run dvme extract"):
        embeddings.read(np.array([4, 5, 6]))
    with pytest.raises(IndexError):
        embeddings.read(np.array([100]))


def test_read__follows_the_order_asked_for(features_of: Features) -> None:
    embeddings = in_memory(200)
    for rows in embeddings.pending_shards():
        embeddings.commit(rows, features_of(rows), {})
    wanted = np.array([199, 0, 64, 0, 63, 128])
    np.testing.assert_array_equal(embeddings.read(wanted), features_of(wanted))
    assert embeddings.read(np.array([], dtype=np.int64)).shape == (0, 3)


@pytest.mark.parametrize("dim", [3, 8192], ids=["one-chunk", "two-chunks"])
def test_commit__part_of_a_shard_then_the_rest_is_bit_exact(dim: int) -> None:
    embeddings = in_memory(130, dim=dim)
    first, rest = np.arange(64, 128, 3), np.setdiff1d(np.arange(64, 128), np.arange(64, 128, 3))
    bits = np.random.default_rng(0).integers(0, 0x7F000000, size=(130, dim), dtype=np.uint32)  # finite, subnormals too
    values = bits.view(np.float32)
    embeddings.commit(first, values[first], {})
    before = embeddings.read(first).tobytes()
    assert before == values[first].tobytes()
    embeddings.commit(rest, values[rest], {})
    assert embeddings.read(first).tobytes() == before
    assert embeddings.read(rest).tobytes() == values[rest].tobytes()
    assert np.isnan(stored(embeddings)[:64]).all()
    assert np.isnan(stored(embeddings)[128:]).all()


@pytest.mark.parametrize("rows", [[0, 64], [63, 64], [64, 129], [0, 64, 129]])
def test_commit__refuses_rows_of_two_shards(rows: list[int], features_of: Features) -> None:
    embeddings = in_memory(130)
    with pytest.raises(ValueError, match=f"rows {rows[0]} to {rows[-1]} span more than one shard of 64 rows"):
        embeddings.commit(np.array(rows), features_of(rows), {})
    assert count_states(embeddings.states())["pending"] == 130


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_commit__refuses_values_that_are_not_finite(value: float, features_of: Features) -> None:
    embeddings, features = in_memory(70), features_of([0, 1])
    features[1, 2] = value
    with pytest.raises(ValueError, match="not finite"):
        embeddings.commit(np.array([0, 1]), features, {0: "another row's reason does not excuse it"})
    assert count_states(embeddings.states())["pending"] == 70
    embeddings.commit(np.array([0, 1]), features, {1: "not finite"})
    assert embeddings.states()[:2].tolist() == [RowState.DONE, RowState.FAILED]


def test_commit__float16_is_stored_as_given() -> None:
    embeddings = in_memory(3, dtype="float16")
    values = np.array([[6.1e-5, -0.0, 65504.0], [1 / 3, 2**-24, 1.0]], dtype=np.float16)
    embeddings.commit(np.array([0, 2]), values, {})
    assert embeddings.dtype == "float16"
    assert embeddings.read(np.array([0, 2])).tobytes() == values.tobytes()
    assert np.isnan(stored(embeddings)[1]).all()


def test_commit__refuses_values_beyond_float16() -> None:
    embeddings = in_memory(3, dtype="float16")
    with pytest.raises(ValueError, match="not finite"):
        embeddings.commit(np.array([0]), np.full((1, 3), 1e6, dtype=np.float32), {})


@pytest.mark.parametrize(
    "shape",
    [
        (2, 4),
        (3, 3),
        pytest.param((2, 1)),
    ],
)
def test_commit__refuses_features_of_another_shape(shape: tuple[int, int]) -> None:
    embeddings = in_memory(70)
    with pytest.raises((ValueError, IndexError)):
        embeddings.commit(np.array([0, 1]), np.ones(shape, dtype=np.float32), {})
    assert count_states(embeddings.states())["pending"] == 70


def test_commit__failed_rows_keep_their_reason_until_a_retry_succeeds(features_of: Features) -> None:
    embeddings = in_memory(70)
    rows = np.array([0, 1, 2, 3])
    embeddings.commit(rows, features_of(rows), {1: "truncated PNG", 3: "käputt: 空"})
    assert embeddings.states()[:5].tolist() == [1, 2, 1, 2, 0]
    assert embeddings.reasons()[:5].tolist() == ["", "truncated PNG", "", "käputt: 空", ""]
    assert np.isnan(stored(embeddings)[[1, 3]]).all()

    assert [rows.tolist() for rows in embeddings.pending_shards()] == [list(range(4, 64)), list(range(64, 70))]
    retried = [rows.tolist() for rows in embeddings.pending_shards(retry_failed=True)]
    assert retried == [[1, 3, *range(4, 64)], list(range(64, 70))]

    embeddings.commit(np.array([1, 3]), features_of([1, 3]), {3: "still broken"})
    assert embeddings.states()[:4].tolist() == [1, 1, 1, 2]
    assert embeddings.reasons()[:4].tolist() == ["", "", "", "still broken"]
    np.testing.assert_array_equal(embeddings.read(np.array([0, 1, 2])), features_of([0, 1, 2]))
    assert np.isnan(stored(embeddings)[3]).all()


def test_commit__failing_at_any_write_commits_all_or_nothing(
    make_cache: MakeCache, features_of: Features, fail_fsync: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = make_cache(70, "m")
    rows, old = np.arange(10, 64), np.arange(10)
    with EmbeddingCache.writing(path) as cache:
        embeddings = cache.embeddings("m")
        embeddings.commit(old, features_of(old), {})
        for at in range(1, 100):
            try:
                with fail_fsync(at):
                    embeddings.commit(rows, features_of(rows), {12: "broken"})
            except OSError:
                states = embeddings.states()[10:64]
                assert not states.any() or states.all(), "a shard is committed as a whole"
                np.testing.assert_array_equal(embeddings.read(old), features_of(old))
            else:
                break
        assert at == 7, "features, reasons and states, each a file and its folder"
        assert count_states(embeddings.states()) == {"pending": 6, "done": 63, "failed": 1}
    assert not list(path.rglob("*.partial"))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 200), st.data())
def test_pending_shards__are_exactly_the_rows_not_committed(n_rows: int, data: st.DataObject) -> None:
    subset = st.sets(st.integers(0, n_rows - 1))
    committed, unreadable = data.draw(subset), data.draw(subset)
    embeddings = in_memory(n_rows)
    for start in range(0, n_rows, 64):
        rows = [row for row in range(start, min(start + 64, n_rows)) if row in committed]
        if rows:
            features = np.array([[row, -row, 0.5] for row in rows], dtype=np.float32)
            embeddings.commit(np.array(rows), features, {row: f"why {row}" for row in rows if row in unreadable})

    done = sorted(committed - unreadable)
    for retry_failed, absent in ((False, set(range(n_rows)) - committed), (True, set(range(n_rows)) - set(done))):
        shards = [rows.tolist() for rows in embeddings.pending_shards(retry_failed=retry_failed)]
        assert [row for shard in shards for row in shard] == sorted(absent)
        assert all(len({row // 64 for row in shard}) == 1 for shard in shards)
        assert len({shard[0] // 64 for shard in shards}) == len(shards)
    reasons = [f"why {row}" if row in committed & unreadable else "" for row in range(n_rows)]
    assert embeddings.reasons().tolist() == reasons
    assert embeddings.read(np.array(done))[:, 0].tolist() == done


def test_grow__appended_samples_are_pending_and_old_rows_stay(
    make_cache: MakeCache, features_of: Features, ids: Callable[..., list[bytes]], fingerprint: Fingerprint
) -> None:
    path = make_cache(100, "m")
    old = np.arange(100)
    with EmbeddingCache.writing(path) as cache:
        for rows in cache.embeddings("m").pending_shards():
            cache.embeddings("m").commit(rows, features_of(rows), {70: "broken"} if 70 in rows else {})
        cache.samples.add(ids(range(95, 130)), [f"{row}.png" for row in range(95, 130)])

    before = EmbeddingCache.open(path).embeddings("m")
    assert count_states(before.states()) == {"pending": 30, "done": 99, "failed": 1}, "not grown yet"
    assert before.reasons()[69:72].tolist() == ["", "broken", ""]
    with EmbeddingCache.writing(path) as cache:
        embeddings = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
        assert [rows.tolist() for rows in embeddings.pending_shards()] == [list(range(100, 128)), [128, 129]]
        assert np.isnan(stored(embeddings)[100:]).all()
        for rows in embeddings.pending_shards():
            embeddings.commit(rows, features_of(rows), {})
    after = EmbeddingCache.open(path).embeddings("m")
    good = np.setdiff1d(np.arange(130), [70])
    np.testing.assert_array_equal(after.read(good), features_of(good))
    assert after.states()[old].tolist() == [2 if row == 70 else 1 for row in old]


FILES = {
    "embeddings/m/features": "c/1/0",
    "embeddings/m/state": "c/1",
    "embeddings/m/reason": "c/1",
    "samples/content_id": "c/0/0",
    "samples/path": "c/0",
    "tables/00000001/label": "c/0",
}


def flip(place: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int(place * (len(content) - 1))] ^= 0x01
        file.write_bytes(content)

    return damage


def truncate(keep: float) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)]) and None


def read_all(path: Path) -> None:
    cache = EmbeddingCache.open(path)
    embeddings = cache.embeddings("m")
    embeddings.read(np.flatnonzero(embeddings.states() == RowState.DONE))
    assert embeddings.reasons()[100] == "broken"
    assert len(cache.samples.content_ids) == 130
    assert cache.samples.paths[0] == "0.png"
    assert cache.column("label")[0] == "cat"


@pytest.fixture
def full(make_cache: MakeCache, features_of: Features) -> Path:
    """130 rows in 3 shards, row 100 failed, and labels."""
    path = make_cache(130, "m")
    with EmbeddingCache.writing(path) as cache:
        cache.update_columns(np.arange(130), {"label": ["cat"] * 130})
        for rows in cache.embeddings("m").pending_shards():
            cache.embeddings("m").commit(rows, features_of(rows), {100: "broken"} if 100 in rows else {})
    read_all(path)
    return path


@pytest.mark.parametrize("array", FILES)
@pytest.mark.parametrize(
    "damage",
    [flip(0), flip(0.4), flip(0.97), flip(1), truncate(0), truncate(0.5), truncate(0.99)],
    ids=["flip-first", "flip-middle", "flip-index", "flip-last", "empty", "half", "tail-lost"],
)
def test_read__damaged_file_is_named(full: Path, array: str, damage: Callable[[Path], None]) -> None:
    damage(full / array / FILES[array])
    with pytest.raises(CorruptCacheError, match=f"{full}/{array} is damaged"):
        read_all(full)


def test_read__damage_elsewhere_does_not_hide_sound_rows(full: Path, features_of: Features) -> None:
    flip(0.4)(full / "embeddings/m/features/c/1/0")
    sound = np.array([0, 63, 128, 129])
    np.testing.assert_array_equal(EmbeddingCache.open(full).embeddings("m").read(sound), features_of(sound))


@pytest.mark.parametrize(
    "array",
    [
        "embeddings/m/features",
        "samples/content_id",
        *(pytest.param(name) for name in ("samples/path", "tables/00000001/label")),
    ],
)
def test_read__deleted_file_is_named(full: Path, array: str) -> None:
    (full / array / FILES[array]).unlink()
    with pytest.raises(CorruptCacheError, match=f"{full}/{array}"):
        read_all(full)


def test_read__deleted_shard_is_numbered(full: Path) -> None:
    (full / "embeddings/m/features/c/1/0").unlink()
    with pytest.raises(CorruptCacheError, match=r"embeddings/m/features is damaged \(shards \[1\] are gone"):
        EmbeddingCache.open(full).embeddings("m").read(np.array([0, 64, 99, 129]))


def test_states__without_their_file_are_pending_again(full: Path, features_of: Features) -> None:
    (full / "embeddings/m/state/c/1").unlink()
    with EmbeddingCache.writing(full) as cache:
        embeddings = cache.embeddings("m")
        assert [rows.tolist() for rows in embeddings.pending_shards()] == [list(range(64, 128))]
        embeddings.commit(np.arange(64, 128), features_of(range(64, 128)), {})
        np.testing.assert_array_equal(embeddings.read(np.arange(130)), features_of(range(130)))
        assert set(embeddings.reasons()) == {""}


@pytest.mark.parametrize(
    "array",
    [
        "features",
        *(pytest.param(name) for name in ("state", "reason")),
    ],
)
def test_commit__into_a_damaged_shard_names_the_array(full: Path, array: str, features_of: Features) -> None:
    flip(0.4)(full / "embeddings" / "m" / array / FILES[f"embeddings/m/{array}"])
    with EmbeddingCache.writing(full) as cache, pytest.raises(CorruptCacheError, match=f"m/{array} is damaged"):
        cache.embeddings("m").commit(np.array([100]), features_of([100]), {})
