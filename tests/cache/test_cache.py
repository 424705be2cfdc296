"""The cache as a whole: opening, backbones, columns, rows of several backbones, pruning, and plain zarr as a reader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme_cache import (
    CacheLockedError,
    CacheNotFoundError,
    CorruptCacheError,
    EmbeddingCache,
    Embeddings,
    Fingerprint,
    FingerprintMismatchError,
    MissingEmbeddingsError,
    count_states,
    verify_cache,
)
from dvme_cache import cache as module
from dvme_cache.samples import PRUNED_PATH
from dvme_cache.store import CacheStore

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
MakeCache = Callable[..., Path]
FailFsync = Callable[[int], AbstractContextManager[None]]


@pytest.mark.parametrize("name", ["missing.zarr", "no/parent/either.zarr"])
def test_open__missing_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(CacheNotFoundError, match=f"there is no cache at {tmp_path / name}; run dvme extract") as caught:
        EmbeddingCache.open(tmp_path / name)
    assert isinstance(caught.value, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []


def test_open__is_read_only(make_cache: MakeCache, ids: Ids) -> None:
    cache = EmbeddingCache.open(str(make_cache(2)))
    with pytest.raises(ValueError, match="read-only"):
        cache.samples.add(ids([9]), ["9.png"])
    assert EmbeddingCache.open(cache.location).n_rows == 2


def test_writing__creates_the_missing_parents(tmp_path: Path, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "a" / "b" / "data.zarr", Path("c/d.zarr"), Path("e.zarr")):
        with EmbeddingCache.writing(path) as cache:
            assert (cache.n_rows, cache.backbones, cache.tables.columns) == (0, [], [])
            cache.samples.add(ids([1]), ["1.png"])
        assert EmbeddingCache.open(path).n_rows == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".e.zarr.lock", "a", "c", "e.zarr"]
    attributes = json.loads((tmp_path / "e.zarr" / "zarr.json").read_text())["attributes"]
    assert {"format": "dvme-cache", "format_version": 2, "seal": attributes["seal"]} == attributes


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


def test_backbones__half_laid_out_is_not_there(make_cache: MakeCache, fingerprint: Fingerprint) -> None:
    """A crash before it is registered: invisible, and laid out anew, with other dimensions if need be."""
    path = make_cache(5, "m")
    with EmbeddingCache.writing(path) as cache:
        half = {"fingerprint": Fingerprint({"size": 1}), "provenance": {}, "dim": 7, "dtype": "float32", "n_rows": 5}
        Embeddings.create(cache.store, "embeddings/half", **half)
    assert EmbeddingCache.open(path).backbones == ["m"]
    with pytest.raises(MissingEmbeddingsError, match=r"has no half embeddings \(it has: m\); run dvme extract"):
        EmbeddingCache.open(path).embeddings("half")
    with EmbeddingCache.writing(path) as cache:
        embeddings = cache.ensure_embeddings("half", fingerprint, dim=2, dtype="float16", provenance={})
        assert (embeddings.dim, embeddings.dtype) == (2, "float16")
        assert count_states(embeddings.states())["pending"] == 5
    assert verify_cache(EmbeddingCache.open(path)).findings == []


def test_ensure_embeddings__without_a_name_is_refused(full: Path, fingerprint: Fingerprint) -> None:
    """The folder of such a backbone would be that of all of them."""
    with EmbeddingCache.writing(full) as cache:
        with pytest.raises(ValueError, match="name"):
            cache.ensure_embeddings("", fingerprint, dim=3, dtype="float32", provenance={})
        with pytest.raises(ValueError, match="name"):
            cache.update_columns(np.array([0]), {"": ["x"]})
    cache = EmbeddingCache.open(full)
    assert (cache.backbones, cache.tables.columns) == (["m"], ["label"])
    assert verify_cache(cache).findings == []


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
    assert message.endswith("; extract into another cache, or delete these and start over")
    EmbeddingCache.open(path).check_fingerprint("another", other)


def test_ensure_embeddings__again_keeps_the_rows(
    make_cache: MakeCache, fingerprint: Fingerprint, features_of: Features
) -> None:
    with EmbeddingCache.writing(make_cache(5, "m")) as cache:
        cache.embeddings("m").commit(np.arange(5), features_of(range(5)), {})
        again = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={"device": "other"})
        np.testing.assert_array_equal(again.read(np.arange(5)), features_of(range(5)))
        assert again.provenance == {"device": "cpu"}


def test_ensure_embeddings__by_threads_at_a_time(make_cache: MakeCache, fingerprint: Fingerprint) -> None:
    """None is forgotten, whoever registers last."""
    path, names = make_cache(5), [f"backbone {number}" for number in range(8)]
    layout: dict[str, Any] = {"dim": 4, "dtype": "float32", "provenance": {}}
    with EmbeddingCache.writing(path) as cache, ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda name: cache.ensure_embeddings(name, fingerprint, **layout), names))
        assert [table.name for table in tables] == names
    assert set(names) <= set(EmbeddingCache.open(path).backbones)


def fail(*_: object) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_remove_embeddings__starts_over(
    make_cache: MakeCache,
    fingerprint: Fingerprint,
    features_of: Features,
    is_interrupted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = make_cache(5, "m", "n")
    with EmbeddingCache.writing(path) as cache:
        for name in ("m", "n"):
            cache.embeddings(name).commit(np.arange(5), features_of(range(5)), {})
        reader = EmbeddingCache.open(path)
        if is_interrupted:
            with monkeypatch.context() as patch:
                patch.setattr(CacheStore, "delete_tree", fail)
                with pytest.raises(OSError, match="Input/output error"):
                    cache.remove_embeddings("m")
            assert (path / "embeddings" / "m" / "features" / "c").exists()
        else:
            cache.remove_embeddings("m")
            assert not list(path.rglob("m"))
        cache.remove_embeddings("never there")
        assert cache.backbones == EmbeddingCache.open(path).backbones == ["n"]
        for seen in (cache, EmbeddingCache.open(path), reader):
            with pytest.raises((MissingEmbeddingsError, CorruptCacheError)):
                seen.embeddings("m").read(np.arange(5))
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


def test_update_columns__writes_nothing_where_nothing_changes(make_cache: MakeCache) -> None:
    path = make_cache(4)
    with EmbeddingCache.writing(path) as cache:
        cache.update_columns(np.arange(4), {"label": ["a", "b", "c", "d"], "split": [""] * 4})
        files = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
        cache.update_columns(np.array([2, 0]), {"label": ["c", "a"]})
        cache.update_columns(np.array([1]), {"split": np.array([""], dtype=object)})
        assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == files
        cache.update_columns(np.array([1]), {"split": ["test"]})
    assert EmbeddingCache.open(path).column("split").tolist() == ["", "test", "", ""]
    assert EmbeddingCache.open(path).column("label").tolist() == ["a", "b", "c", "d"]


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
    assert sorted(name for name, _ in root.members()) == ["copies", "embeddings", "samples", "tables"]


def test_format__the_copies_are_a_group_of_their_own(make_cache: MakeCache, ids: Ids) -> None:
    path = make_cache(130, "m")
    with EmbeddingCache.writing(path) as cache:
        cache.update_columns(np.arange(130), {"label": ["cat"] * 130})
    copies = zarr.open_group(path / "copies", mode="r")
    assert [row.tobytes() for row in np.asarray(copies["samples/content_id"])] == ids(range(130))
    assert set(np.asarray(copies["tables/00000001/label"])) == {"cat"}
    assert copies["embeddings/m/features"].shape == (130, 3)


def test_count_states__by_hand() -> None:
    assert count_states(np.array([0, 1, 1, 2, 1], dtype=np.uint8)) == {"pending": 1, "done": 3, "failed": 1}


@pytest.fixture(scope="module")
def partly(scratch: Path, ids: Ids, fingerprint: Fingerprint, features_of: Features) -> Path:
    """300 rows; `wide` lacks rows 7, 150 and those above 279; `half`, float16 in other shards, lacks every ninth."""
    path = scratch / "partly" / "data.zarr"
    broken = {"wide": {7: "broken", 150: "torn"}, "half": dict.fromkeys(range(0, 300, 9), "broken")}
    with EmbeddingCache.writing(path) as cache:
        cache.samples.add(ids(range(300)), [f"{row}.png" for row in range(300)])
        for name, dim, dtype, size, stop in (("wide", 5, "float32", None, 280), ("half", 2, "float16", 32, 300)):
            options = {"dim": dim, "dtype": dtype, "provenance": {}, "rows_per_shard": size}
            embeddings = cache.ensure_embeddings(name, fingerprint, **options)
            for shard in embeddings.pending_shards():
                rows = shard[shard < stop]
                if len(rows):
                    reasons = {row: broken[name][row] for row in rows.tolist() if row in broken[name]}
                    embeddings.commit(rows, features_of(rows, dim, dtype), reasons)
    return path


COMMON = [row for row in range(280) if row % 9 and row not in (7, 150)]


def test_complete_rows__by_hand(partly: Path) -> None:
    cache = EmbeddingCache.open(partly)
    assert cache.complete_rows(["wide"]).tolist() == [row for row in range(280) if row not in (7, 150)]
    assert cache.complete_rows(["half"]).tolist() == [row for row in range(300) if row % 9]
    assert cache.complete_rows(["half", "wide"]).tolist() == COMMON
    assert cache.complete_rows([]).tolist() == [*range(300)]
    with pytest.raises(MissingEmbeddingsError, match=r"has no other embeddings \(it has: half, wide\)"):
        cache.complete_rows(["half", "other"])


@given(
    st.lists(st.sampled_from(COMMON), max_size=40),
    st.sampled_from([["wide"], ["wide", "half"], ["half", "wide"], ["half", "wide", "half"], []]),
)
def test_read_aligned__equals_a_loop_over_rows(
    partly: Path, features_of: Features, rows: list[int], backbones: list[str]
) -> None:
    cache = EmbeddingCache.open(partly)
    read = cache.read_aligned(backbones, np.array(rows, dtype=np.int64))
    sizes = {"wide": (5, "float32"), "half": (2, "float16")}
    for name, features in zip(backbones, read, strict=True):
        dim, dtype = sizes[name]
        assert features.shape == (len(rows), dim)
        assert features.dtype == dtype
        for row, vector in zip(rows, features, strict=True):
            assert vector.tobytes() == features_of([row], dim, dtype).tobytes()


def test_read_aligned__a_row_that_one_of_them_lacks(partly: Path) -> None:
    cache = EmbeddingCache.open(partly)
    for rows in ([1, 9], [7, 8], [280]):
        with pytest.raises(MissingEmbeddingsError, match=r"1 of [12] rows have no (wide|half) embedding"):
            cache.read_aligned(["wide", "half"], np.array(rows))


@pytest.mark.parametrize("n_bytes", [1, 24, 25, 100, 24 * len(COMMON), 1 << 26])
def test_scan__every_common_row_once_in_order_and_bounded(
    partly: Path, features_of: Features, monkeypatch: pytest.MonkeyPatch, n_bytes: int
) -> None:
    """A row of both is 5 x 4 + 2 x 2 = 24 bytes."""
    monkeypatch.setattr(module, "SCAN_BYTES", n_bytes)
    seen: list[int] = []
    for rows, (wide, half) in EmbeddingCache.open(partly).scan(["wide", "half"]):
        assert 1 <= len(rows) <= max(1, n_bytes // 24)
        assert wide.nbytes + half.nbytes <= max(24, n_bytes)
        np.testing.assert_array_equal(wide, features_of(rows, 5))
        np.testing.assert_array_equal(half, features_of(rows, 2, "float16"))
        seen += rows.tolist()
    assert seen == COMMON


def test_scan__nothing_in_common(make_cache: MakeCache) -> None:
    assert list(EmbeddingCache.open(make_cache(5, "m", "n")).scan(["m", "n"])) == []


def remains(path: Path, rows: list[int]) -> dict[str, NDArray[Any]]:
    """What plain zarr finds of the rows, anywhere in the cache; features apart."""
    found: dict[str, NDArray[Any]] = {}
    for group in ("", "copies/"):
        root = zarr.open_group(path / group, mode="r")
        found[f"{group}id"] = np.asarray(root["samples/content_id"])[rows]
        found[f"{group}path"] = np.asarray(root["samples/path"])[rows]
        for generation in zarr.open_group(path / group / "tables", mode="r").group_keys():
            found[f"{group}{generation}/label"] = np.asarray(root[f"tables/{generation}/label"])[rows]
    for name in ("features", "checksum", "state", "reason"):
        found[name] = np.asarray(zarr.open_array(path / "embeddings" / "m" / name, mode="r"))[rows]
    return found


def assert_erased(path: Path, rows: list[int]) -> None:
    for name, values in remains(path, rows).items():
        what = {
            "id": 0xFF,
            "path": PRUNED_PATH,
            "label": "",
            "features": np.nan,
            "checksum": 0,
            "state": 0,
            "reason": "",
        }
        np.testing.assert_array_equal(values, np.full_like(values, what[name.rpartition("/")[2]]), name)


@pytest.mark.parametrize("rows", [[0], [5, 70, 100], [128, 129], list(range(64, 128)), list(range(130))])
def test_prune__nothing_is_left_of_a_row_and_all_of_the_others(
    full: Path, features_of: Features, ids: Ids, rows: list[int]
) -> None:
    with EmbeddingCache.writing(full) as cache:
        cache.prune(np.array(rows))
    assert_erased(full, rows)
    cache, others = EmbeddingCache.open(full), np.setdiff1d(np.arange(130), rows)
    assert verify_cache(cache).findings == []
    assert np.flatnonzero(cache.samples.is_pruned).tolist() == rows
    assert cache.column("label")[others].tolist() == ["cat"] * len(others)
    assert [cache.samples.content_ids[row] for row in others] == [ids(range(130))[row] for row in others]
    done = np.setdiff1d(others, [100])
    np.testing.assert_array_equal(cache.embeddings("m").read(done), features_of(done))
    assert cache.embeddings("m").reasons()[100] == ("" if 100 in rows else "broken")
    stored = b"".join(file.read_bytes() for file in (full / "embeddings").rglob("c/**/*") if file.is_file())
    for row in rows:
        assert features_of([row]).tobytes() not in stored
        with pytest.raises(MissingEmbeddingsError):
            cache.embeddings("m").read(np.array([row]))


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_prune__failing_at_any_sync_is_finished_by_the_same_call(
    step: int, make_cache: MakeCache, features_of: Features, fail_fsync: FailFsync
) -> None:
    """Part of a shard, and a whole one in which a row failed."""
    full, rows = make_cache(68, "m"), [5, *range(64, 68)]
    with EmbeddingCache.writing(full) as cache:
        cache.update_columns(np.arange(68), {"label": ["cat"] * 68})
        for shard in cache.embeddings("m").pending_shards():
            cache.embeddings("m").commit(shard, features_of(shard), {66: "broken"} if 66 in shard else {})
    others, is_done, at = np.setdiff1d(np.arange(68), rows), False, 1 - step
    while not is_done:
        at += step
        path = Path(shutil.copytree(full, full.with_name(f"{at}.zarr")))
        try:
            with fail_fsync(at), EmbeddingCache.writing(path) as cache:
                cache.prune(np.array(rows))
            is_done = True
        except OSError:
            cache = EmbeddingCache.open(path)
            np.testing.assert_array_equal(cache.embeddings("m").read(others), features_of(others))
            with EmbeddingCache.writing(path) as cache:
                cache.prune(np.setdiff1d(rows, np.flatnonzero(cache.samples.is_pruned)))
        assert_erased(path, rows)
        np.testing.assert_array_equal(EmbeddingCache.open(path).embeddings("m").read(others), features_of(others))
        shutil.rmtree(path)
    assert at > 30, "the failures were reached"


def test_ensure_embeddings__how_a_further_kind_is_read_is_kept_and_costs_no_row(
    full: Path, fingerprint: Fingerprint, features_of: Features
) -> None:
    policy = fingerprint.with_fields({"decoding.dicom": "first window"})
    rows = np.arange(64)
    for made in (policy, fingerprint, policy):
        with EmbeddingCache.writing(full) as cache:
            embeddings = cache.ensure_embeddings("m", made, dim=3, dtype="float32", provenance={})
            np.testing.assert_array_equal(embeddings.read(rows), features_of(rows))
        assert EmbeddingCache.open(full).embeddings("m").fingerprint == policy
    assert verify_cache(EmbeddingCache.open(full)).findings == []
    other = fingerprint.with_fields({"decoding.dicom": "no window"})
    with EmbeddingCache.writing(full) as cache, pytest.raises(FingerprintMismatchError, match=r"decoding\.dicom"):
        cache.ensure_embeddings("m", other, dim=3, dtype="float32", provenance={})
