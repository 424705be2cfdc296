"""Embeddings: only committed rows are served, bit-exact, each proven, and damage is named."""

from __future__ import annotations

import tempfile
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

from dvme_cache import (
    CorruptCacheError,
    EmbeddingCache,
    Embeddings,
    Fingerprint,
    MissingEmbeddingsError,
    RowState,
    content_id,
    count_states,
)
from dvme_cache import embeddings as module
from dvme_cache.files import LocalFiles
from dvme_cache.integrity import erase_rows, salvage_shard
from dvme_cache.samples import SampleTable
from dvme_cache.shards import ROWS_AT_ONCE, finite_rows
from dvme_cache.store import CacheStore

Features = Callable[..., NDArray[Any]]
MakeCache = Callable[..., Path]
FINGERPRINT = Fingerprint({"size": 224})


def laid_out(folder: Path, n_rows: int, dim: int = 3, dtype: str = "float32") -> Embeddings:
    """Empty embeddings of n_rows images, below an empty folder."""
    store = CacheStore(LocalFiles(folder))
    SampleTable.create(store)
    samples = SampleTable(zarr.open_group(store, path="samples", mode="r+"))
    samples.add([content_id(f"image {row}".encode()) for row in range(n_rows)], [f"{row}.png" for row in range(n_rows)])
    sizes = {"dim": dim, "dtype": dtype, "n_rows": n_rows}
    Embeddings.create(store, "embeddings/m", fingerprint=FINGERPRINT, provenance={}, **sizes)
    return Embeddings(zarr.open_group(store, path="embeddings/m", mode="r+"), samples, "m")


def stored(embeddings: Embeddings) -> NDArray[Any]:
    """Everything that is on disk, read past the checks."""
    return np.asarray(embeddings._array("features")[...])


def flip(place: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int(place * (len(content) - 1))] ^= 0x01
        file.write_bytes(content)

    return damage


def truncate(keep: float) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)]) and None


def test_create__rows_are_pending_and_nan(make_cache: MakeCache, fingerprint: Fingerprint) -> None:
    embeddings = EmbeddingCache.open(make_cache(130, "m", dim=5)).embeddings("m")
    assert (embeddings.n_rows, embeddings.dim, embeddings.dtype, embeddings.shard_rows) == (130, 5, "float32", 64)
    assert (embeddings.n_shards, embeddings.window(0), embeddings.window(2)) == (3, slice(0, 64), slice(128, 130))
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


def test_read__refuses_rows_without_an_embedding(tmp_path: Path, features_of: Features) -> None:
    embeddings = laid_out(tmp_path, 100)
    embeddings.commit(np.array([4, 5]), features_of([4, 5]), {5: "truncated file"})
    np.testing.assert_array_equal(embeddings.read(np.array([4])), features_of([4]))
    with pytest.raises(MissingEmbeddingsError, match="2 of 3 rows have no m embedding; run dvme extract first"):
        embeddings.read(np.array([4, 5, 6]))
    with pytest.raises(MissingEmbeddingsError, match="1 of 1 rows"):
        embeddings.read(np.array([99]))
    for row in (100, -1):
        with pytest.raises(IndexError, match=f"rows {row} to {row} are asked for, and the cache has rows 0 to 99"):
            embeddings.read(np.array([row]))


@pytest.mark.parametrize("rows", [np.arange(130) < 2, np.array([0.0, 1.0]), np.array(["0"])])
def test_read__refuses_what_is_no_row_number(full_once: Path, rows: NDArray[Any]) -> None:
    """A mask read as numbers would give rows 0 and 1 many times over."""
    with pytest.raises(TypeError, match=r"rows are .*, not row numbers; np.flatnonzero\(mask\) gives those of a mask"):
        EmbeddingCache.open(full_once).embeddings("m").read(rows)


@given(st.lists(st.integers(0, 129).filter(lambda row: row != 100), max_size=40))
def test_read__follows_the_order_asked_for(full_once: Path, features_of: Features, rows: list[int]) -> None:
    features = EmbeddingCache.open(full_once).embeddings("m").read(np.array(rows, dtype=np.int64))
    assert features.shape == (len(rows), 3)
    for row, vector in zip(rows, features, strict=True):
        assert vector.tobytes() == features_of([row]).tobytes()


def test_read__by_several_threads(full: Path, features_of: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARALLEL_FROM_BYTES", 0)
    monkeypatch.setattr(module, "LOCAL_READERS", 3)
    embeddings, rows = EmbeddingCache.open(full).embeddings("m"), np.setdiff1d(np.arange(130), [100])[::-1]
    np.testing.assert_array_equal(embeddings.read(rows), features_of(rows))
    flip(0.4)(full / "embeddings/m/features/c/1/0")
    with pytest.raises(CorruptCacheError, match="m/features is damaged"):
        embeddings.read(rows)


def test_read__sees_what_was_committed_since(full: Path, features_of: Features) -> None:
    """What an open reader remembers of a shard is looked up anew before it says no, or that bytes are bad."""
    reader = EmbeddingCache.open(full).embeddings("m")
    np.testing.assert_array_equal(reader.read(np.array([70])), features_of([70]))
    with EmbeddingCache.writing(full) as cache:
        cache.embeddings("m").commit(np.array([70, 100]), features_of([1070, 1100]), {})
    np.testing.assert_array_equal(reader.read(np.array([100, 70, 71])), features_of([1100, 1070, 71]))
    assert reader.reasons().tolist() == [""] * 130


@pytest.mark.parametrize("dim", [3, 8192])
def test_commit__part_of_a_shard_then_the_rest_is_bit_exact(tmp_path: Path, dim: int) -> None:
    embeddings = laid_out(tmp_path, 130, dim=dim)
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
def test_commit__refuses_rows_of_two_shards(tmp_path: Path, rows: list[int], features_of: Features) -> None:
    embeddings = laid_out(tmp_path, 130)
    with pytest.raises(ValueError, match=f"rows {rows[0]} to {rows[-1]} span more than one shard of 64 rows"):
        embeddings.commit(np.array(rows), features_of(rows), {})
    assert count_states(embeddings.states())["pending"] == 130


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_commit__refuses_values_that_are_not_finite(tmp_path: Path, value: float, features_of: Features) -> None:
    embeddings, features = laid_out(tmp_path, 70), features_of([0, 1])
    features[1, 2] = value
    with pytest.raises(ValueError, match="not finite"):
        embeddings.commit(np.array([0, 1]), features, {0: "another row's reason does not excuse it"})
    assert count_states(embeddings.states())["pending"] == 70
    embeddings.commit(np.array([0, 1]), features, {1: "not finite"})
    assert embeddings.states()[:2].tolist() == [RowState.DONE, RowState.FAILED]


def test_commit__float16_is_stored_as_given(tmp_path: Path) -> None:
    embeddings = laid_out(tmp_path, 3, dtype="float16")
    values = np.array([[6.1e-5, -0.0, 65504.0], [1 / 3, 2**-24, 1.0]], dtype=np.float16)
    embeddings.commit(np.array([0, 2]), values, {})
    assert embeddings.dtype == "float16"
    assert embeddings.read(np.array([0, 2])).tobytes() == values.tobytes()
    assert np.isnan(stored(embeddings)[1]).all()


def test_commit__refuses_values_beyond_float16(tmp_path: Path) -> None:
    embeddings = laid_out(tmp_path, 3, dtype="float16")
    with pytest.raises(ValueError, match="not finite"):
        embeddings.commit(np.array([0]), np.full((1, 3), 1e6, dtype=np.float32), {})


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (2, 1), (6,), (1, 3)])
def test_commit__refuses_features_of_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    embeddings = laid_out(tmp_path, 70)
    with pytest.raises(ValueError, match="features have shape"):
        embeddings.commit(np.array([0, 1]), np.ones(shape, dtype=np.float32), {})
    assert count_states(embeddings.states())["pending"] == 70


def test_commit__failed_rows_keep_their_reason_until_a_retry_succeeds(tmp_path: Path, features_of: Features) -> None:
    embeddings = laid_out(tmp_path, 70)
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
        embeddings.commit(old, features_of(old), {9: "broken"})
        for at in range(1, 100):
            try:
                with fail_fsync(at):
                    embeddings.commit(rows, features_of(rows), {12: "broken"})
            except OSError:
                for seen in (embeddings, EmbeddingCache.open(path).embeddings("m")):
                    states = seen.states()[10:64]
                    assert not states.any() or states.all(), "a shard is committed as a whole"
                    np.testing.assert_array_equal(seen.read(old[:9]), features_of(old[:9]))
                    assert seen.reasons()[9] == "broken"
            else:
                break
        assert at == 9, "features, checksums, reasons and states, each a file and its folder"
        assert count_states(embeddings.states()) == {"pending": 6, "done": 62, "failed": 2}
    assert not list(path.rglob("*.partial"))


@settings(max_examples=settings.default.max_examples // 8)
@given(st.integers(1, 200), st.data())
def test_pending_shards__are_exactly_the_rows_not_committed(scratch: Path, n_rows: int, data: st.DataObject) -> None:
    subset = st.sets(st.integers(0, n_rows - 1))
    committed, unreadable = data.draw(subset), data.draw(subset)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        embeddings = laid_out(Path(folder), n_rows)
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
        assert embeddings.read(np.array(done, dtype=np.int64))[:, 0].tolist() == done


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
        for name, absent in (("features", np.nan), ("checksum", 0), ("reason", ""), ("state", 0)):
            array = np.asarray(zarr.open_array(path / "embeddings" / "m" / name, mode="r"))
            assert len(array) == 130, "for readers that know only Zarr"
            np.testing.assert_array_equal(array[100:], np.full_like(array[100:], absent))
        for rows in embeddings.pending_shards():
            embeddings.commit(rows, features_of(rows), {})
    after = EmbeddingCache.open(path).embeddings("m")
    good = np.setdiff1d(np.arange(130), [70])
    np.testing.assert_array_equal(after.read(good), features_of(good))
    assert after.states()[old].tolist() == [2 if row == 70 else 1 for row in old]


FILES = {
    "embeddings/m/features": "c/1/0",
    "embeddings/m/checksum": "c/1",
    "embeddings/m/state": "c/1",
    "embeddings/m/reason": "c/1",
    "samples/content_id": "c/0/0",
    "samples/path": "c/1",
    "tables/00000001/label": "c/1",
}
DAMAGES = {
    "flip-first": flip(0),
    "flip-middle": flip(0.4),
    "flip-near-the-end": flip(0.97),
    "flip-last": flip(1),
    "empty": truncate(0),
    "half": truncate(0.5),
    "tail-lost": truncate(0.99),
}


def read_all(path: Path) -> None:
    cache = EmbeddingCache.open(path)
    embeddings = cache.embeddings("m")
    embeddings.read(np.flatnonzero(embeddings.states() == RowState.DONE))
    assert embeddings.reasons()[100] == "broken"
    assert len(cache.samples.content_ids) == 130
    assert cache.samples.paths[0] == "0.png"
    assert cache.column("label")[0] == "cat"


@pytest.mark.parametrize("array", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_read__damaged_file_is_named_unless_a_copy_is_sound(full: Path, array: str, damage: str) -> None:
    """The crc32c behind a shard of features is for zarr and `verify`: rows are proven one by one."""
    key = f"{array}/{FILES[array]}"
    DAMAGES[damage](full / key)
    if (full / "copies" / key).exists():
        read_all(full)
        DAMAGES[damage](full / "copies" / key)
    if (array, damage) == ("embeddings/m/features", "flip-last"):
        read_all(full)
        return
    with pytest.raises(CorruptCacheError, match=f"{full}/{array} is damaged"):
        read_all(full)


def test_read__damage_elsewhere_does_not_hide_sound_rows(full: Path, features_of: Features) -> None:
    """A flipped bit costs one row, not its shard."""
    flip(0.4)(full / "embeddings/m/features/c/1/0")
    embeddings = EmbeddingCache.open(full).embeddings("m")
    bad = 64 + int(0.4 * (64 * 12 + 3)) // 12
    sound = np.setdiff1d(np.arange(130), [bad, 100])
    np.testing.assert_array_equal(embeddings.read(sound), features_of(sound))
    with pytest.raises(CorruptCacheError, match=f"1 rows of shard 1 are not what was committed, the first is {bad}"):
        embeddings.read(np.array([0, 64, bad]))


@pytest.mark.parametrize("array", ["embeddings/m/features", "embeddings/m/checksum"])
def test_read__deleted_file_is_named(full: Path, array: str) -> None:
    (full / array / FILES[array]).unlink()
    with pytest.raises(CorruptCacheError, match=f"{full}/embeddings/m/features is damaged"):
        read_all(full)


@pytest.mark.parametrize("array", ["samples/content_id", "samples/path", "tables/00000001/label"])
def test_read__deleted_file_is_served_from_its_copy_or_named(full: Path, array: str) -> None:
    (full / array / FILES[array]).unlink()
    read_all(full)
    (full / "copies" / array / FILES[array]).unlink()
    with pytest.raises(CorruptCacheError, match=f"{full}/{array} is damaged"):
        read_all(full)


def test_read__deleted_shard_is_numbered(full: Path) -> None:
    (full / "embeddings/m/features/c/1/0").unlink()
    with pytest.raises(
        CorruptCacheError, match=r"embeddings/m/features is damaged \(embeddings/m/features/c/1/0 is gone"
    ):
        EmbeddingCache.open(full).embeddings("m").read(np.array([0, 64, 99, 129]))


def test_states__without_their_file_are_pending_again(full: Path, features_of: Features) -> None:
    (full / "embeddings/m/state/c/1").unlink()
    with EmbeddingCache.writing(full) as cache:
        embeddings = cache.embeddings("m")
        assert [rows.tolist() for rows in embeddings.pending_shards()] == [list(range(64, 128))]
        embeddings.commit(np.arange(64, 128), features_of(range(64, 128)), {})
        np.testing.assert_array_equal(embeddings.read(np.arange(130)), features_of(range(130)))
        assert set(embeddings.reasons()) == {""}


@pytest.mark.parametrize("array", ["features", "checksum", "state", "reason"])
def test_commit__into_a_damaged_shard_names_the_array(full: Path, array: str, features_of: Features) -> None:
    flip(0.4)(full / "embeddings" / "m" / array / FILES[f"embeddings/m/{array}"])
    with EmbeddingCache.writing(full) as cache, pytest.raises(CorruptCacheError, match=f"m/{array} is damaged"):
        cache.embeddings("m").commit(np.array([100]), features_of([100]), {})


@pytest.mark.parametrize("is_failed", [False, True])
def test_commit__float32_of_a_whole_shard(tmp_path: Path, features_of: Features, is_failed: bool) -> None:
    """Rows that need no copying are written from where they lie, and left as they were."""
    embeddings, features = laid_out(tmp_path, 64), features_of(range(64))
    reasons = {7: "broken"} if is_failed else {}
    embeddings.commit(np.arange(64), features, reasons)
    np.testing.assert_array_equal(features, features_of(range(64)))
    good = np.setdiff1d(np.arange(64), [*reasons])
    np.testing.assert_array_equal(embeddings.read(good), features_of(good))
    assert np.isnan(stored(embeddings)).any() == is_failed


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_commit__rows_that_are_not_finite_fail_where_a_reason_is_given(
    tmp_path: Path, features_of: Features, dtype: str
) -> None:
    embeddings, features = laid_out(tmp_path, 64, dtype=dtype), features_of(range(64)).astype(np.float32)
    features[3, 1], features[9, 2], features[20, 0] = np.inf, np.nan, 1e5  # the last overflows float16 alone
    embeddings.commit(np.arange(64), features, {9: "broken"}, not_finite="too large")
    wanted = {3: "too large", 9: "broken"} | ({20: "too large"} if dtype == "float16" else {})
    assert {row: reason for row, reason in enumerate(embeddings.reasons()) if reason} == wanted
    good = np.setdiff1d(np.arange(64), [*wanted])
    assert np.flatnonzero(embeddings.states() == RowState.DONE).tolist() == good.tolist()
    np.testing.assert_array_equal(embeddings.read(good), features[good].astype(dtype))
    assert np.isnan(stored(embeddings)[[*wanted]]).all()


def test_finite_rows__every_float16() -> None:
    everything = np.arange(65_536, dtype=np.uint16).view(np.float16).reshape(-1, 1)
    np.testing.assert_array_equal(finite_rows(everything), np.isfinite(everything)[:, 0])
    pairs = np.concatenate([everything, everything[::-1]], axis=1)
    np.testing.assert_array_equal(finite_rows(pairs), np.isfinite(pairs).all(axis=1))


@pytest.mark.parametrize("row", [0, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_finite_rows__wherever_the_element_is(row: int, dtype: str) -> None:
    features = np.ones((2 * ROWS_AT_ONCE + 1, 2), dtype=dtype)
    assert finite_rows(features).all()
    assert finite_rows(features[:0]).shape == (0,)
    features[row, 1] = np.inf
    assert np.flatnonzero(~finite_rows(features)).tolist() == [row]


def test_write__many_shards_equal_one_commit_after_the_other(
    make_cache: MakeCache, features_of: Features, tmp_path: Path
) -> None:
    path = make_cache(1000, "m", "n")
    rows = np.setdiff1d(np.arange(1000), [0, 63, 64, 500, 999])
    with EmbeddingCache.writing(path) as cache:
        cache.embeddings("m").write(rows, features_of(rows))
        one_by_one = cache.embeddings("n")
        for shard in range(one_by_one.n_shards):
            part = rows[rows // one_by_one.shard_rows == shard]
            one_by_one.commit(part, features_of(part), {})
    for file in (path / "embeddings" / "m").rglob("c/*"):
        twin = path / "embeddings" / "n" / file.relative_to(path / "embeddings" / "m")
        assert file.is_dir() or file.read_bytes() == twin.read_bytes()
    np.testing.assert_array_equal(EmbeddingCache.open(path).embeddings("m").read(rows), features_of(rows))


def test_write__refuses_what_is_not_finite(make_cache: MakeCache, features_of: Features) -> None:
    rows = np.arange(200)
    features = features_of(rows)
    features[150, 1] = np.nan
    with EmbeddingCache.writing(make_cache(200, "m")) as cache:
        with pytest.raises(ValueError, match="not finite"):
            cache.embeddings("m").write(rows, features)
        assert (cache.embeddings("m").states()[128:192] == RowState.PENDING).all()


def test_commit__bytes_are_always_finite_and_blank_is_zero(tmp_path: Path) -> None:
    """Rows of bytes, which are no numbers each: what failed, is pending, or was erased is all zeros."""
    embeddings = laid_out(tmp_path, 70, dim=5, dtype="uint8")
    features = np.arange(64 * 5, dtype=np.uint8).reshape(64, 5) | 1
    embeddings.commit(np.arange(64), features, {3: "broken"})
    embeddings.commit(np.arange(65, 70), features[:5], {})
    good = np.delete(np.arange(64), 3)
    found = embeddings.read(good)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, features[good])
    on_disk = stored(embeddings)
    assert not on_disk[[3, 64]].any()
    assert embeddings.states()[[3, 64, 65]].tolist() == [RowState.FAILED, RowState.PENDING, RowState.DONE]
    np.testing.assert_array_equal(on_disk[65:], features[:5])
    (file,) = tmp_path.rglob("features/c/0/0")
    flip(0.5)(file)
    assert salvage_shard(embeddings, 0) == 1
    erase_rows(embeddings, np.array([0, 65]))
    on_disk = stored(embeddings)
    lost = np.flatnonzero(embeddings.states()[:64] == RowState.PENDING)
    assert len(lost) == 2
    assert not on_disk[[*lost, 3, 64, 65]].any()
    kept = np.setdiff1d(good, lost)
    np.testing.assert_array_equal(embeddings.read(kept), features[kept])
