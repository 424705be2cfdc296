"""Several backbones of an object store, read together: by how few requests, how many at a time, proven all the same."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from numpy.typing import NDArray

from dvme_cache import CorruptCacheError, EmbeddingCache, Fingerprint, MissingEmbeddingsError
from dvme_cache import cache as cache_module
from dvme_cache import embeddings as embeddings_module
from dvme_cache.embeddings import n_readers
from dvme_cache.files import LocalFiles
from dvme_cache.remote import NEAR_BYTES, RemoteFiles

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
URL, NAMES, N = "s3://kept/three.zarr", ["a", "b", "c"], 200
ROWS = np.arange(N)
SHARDS = range(4)


def commit_all(
    location: Path | str, features_of: Features, ids: Ids, commit_at_once: Callable[[list[Callable[[], None]]], Any]
) -> None:
    """Three backbones of 200 rows in shards of 64, where row 70 of b fails, by some way of calling `commit`."""
    with EmbeddingCache.writing(location) as cache:
        cache.samples.add(ids(range(N)), [f"{row}.png" for row in range(N)])
        cache.update_columns(ROWS, {"label": ["cat"] * N, "group": ["g"] * N})
        commits = []
        for dim, name in enumerate(NAMES, 3):
            made_by = Fingerprint({"weights": name})
            table = cache.ensure_embeddings(name, made_by, dim=dim, dtype="float32", provenance={})
            for rows in table.pending_shards():
                reasons = {70: "broken"} if name == "b" and 70 in rows else {}
                arguments = (rows, features_of(rows, dim), reasons)
                commits.append(lambda table=table, arguments=arguments: table.commit(*arguments))
        commit_at_once(commits)


def in_a_row(commits: list[Callable[[], None]]) -> None:
    for commit in commits:
        commit()


def by_threads(commits: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(RemoteFiles.n_writers) as pool:
        list(pool.map(lambda commit: commit(), commits))


@pytest.fixture(scope="module")
def written_once(s3_client: Any, scratch: Path, features_of: Features, ids: Ids) -> Path:
    """On a disk, and uploaded; what the tests below change there, they put back."""
    path = scratch / "three.zarr"
    commit_all(path, features_of, ids, in_a_row)
    for file in (file for file in path.rglob("*") if file.is_file()):
        s3_client.put_object(Bucket="kept", Key=f"three.zarr/{file.relative_to(path)}", Body=file.read_bytes())
    return path


@pytest.fixture
def written(s3: Any, written_once: Path) -> EmbeddingCache:
    return EmbeddingCache.open(URL)


@contextmanager
def cut(s3: Any, key: str, keep: int = -1) -> Iterator[None]:
    """Without an object, or with no more than its beginning."""
    place = {"Bucket": "kept", "Key": f"three.zarr/{key}"}
    whole = s3.get_object(**place)["Body"].read()
    if keep < 0:
        s3.delete_object(**place)
    else:
        s3.put_object(**place, Body=whole[:keep])
    yield
    s3.put_object(**place, Body=whole)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often (method, key) was asked, counted at the client: `get`, `head`, `list` or `put`."""
    counts: Counter[tuple[str, str]] = Counter()

    def counting(name: str) -> Callable[..., Any]:
        call = getattr(obstore, name)

        def counted(store: Any, path: Any = None, *rest: Any, **options: Any) -> Any:
            counts[name, path] += 1
            return call(store, path, *rest, **options)

        return counted

    for name in ("get", "get_range", "get_ranges", "head", "list", "list_with_delimiter", "put"):
        monkeypatch.setattr(obstore, name, counting(name))
    return counts


def taken(asked: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """What was asked since."""
    found = dict(asked)
    asked.clear()
    return found


def gets(*keys: str) -> dict[tuple[str, str], int]:
    return {("get", key): 1 for key in keys}


def test_read__one_request_for_each_file(written: EmbeddingCache, asked: Counter[tuple[str, str]]) -> None:
    """Of a probe: what the cache, the columns, the states and the embeddings cost, and that nothing is asked twice."""
    cache = EmbeddingCache.open(URL)
    assert taken(asked) == gets("samples/zarr.json", "tables/zarr.json") | {("get", "zarr.json"): 2}
    cache.columns_and_order(["label", "group", "other"])
    columns = [f"tables/00000001/{name}/{file}" for name in ("label", "group") for file in ("zarr.json", "c/0", "c/1")]
    assert taken(asked) == gets("tables/zarr.json", *columns)
    rows = cache.complete_rows(NAMES)
    assert rows.tolist() == [row for row in range(N) if row != 70]
    opened = [f"embeddings/{name}/{file}zarr.json" for name in NAMES for file in ("", "features/")]
    listed = {("get", "embeddings/zarr.json"): 3, ("head", "embeddings/zarr.json"): 3}
    states = [f"embeddings/{name}/state/c/{shard}" for name in NAMES for shard in SHARDS]
    assert taken(asked) == gets(*opened, *states) | listed, "states, and no checksums"
    cache.read_aligned(NAMES, rows)
    kept = {("head", "embeddings/zarr.json"): 3}
    found = taken(asked)
    ids = {key: n for key, n in found.items() if key[1].startswith("samples/content_id")}
    proofs = [f"embeddings/{name}/checksum/c/{shard}" for name in NAMES for shard in SHARDS]
    features = [f"embeddings/{name}/features/c/{shard}/0" for name in NAMES for shard in SHARDS]
    assert found == gets(*proofs, *features) | kept | ids, "neither states nor sizes are asked for again"
    assert set(ids.values()) == {1}
    cache.read_aligned(NAMES, rows)
    assert taken(asked) == gets(*features) | kept, "states, checksums and ids are remembered"


def test_commit__four_requests(written: EmbeddingCache, asked: Counter[tuple[str, str]], features_of: Features) -> None:
    with EmbeddingCache.writing(URL) as cache:
        table = cache.embeddings("a")
        table.stored.load_ids()
        taken(asked)
        table.commit(np.arange(64), features_of(range(64)), {})
        place = "embeddings/a"
        states, checksums = f"{place}/state/c/0", f"{place}/checksum/c/0"
        puts = {("put", key): 1 for key in (states, checksums, f"{place}/features/c/0/0")}
        assert taken(asked) == gets(states, checksums) | puts


def waiting_for(n: int, monkeypatch: pytest.MonkeyPatch, method: str, *ends: str) -> Counter[str]:
    """Let every call of a method, for keys with such an end, wait for n - 1 others; which keys came."""
    together, call, came = threading.Barrier(n), getattr(RemoteFiles, method), Counter[str]()

    def waiting(self: RemoteFiles, key: str, *rest: Any) -> Any:
        if key.endswith(ends):
            came[key] += 1
            together.wait(timeout=20)  # breaks where fewer come at once
        return call(self, key, *rest)

    monkeypatch.setattr(RemoteFiles, method, waiting)
    return came


def test_open__several_backbones_at_once(written: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stamped = waiting_for(3, patch, "stamp", "embeddings/zarr.json")
        read = waiting_for(3, patch, "read", "features/zarr.json")
        tables = written.all_embeddings(NAMES)
    assert [(table.name, table.dim) for table in tables] == [("a", 3), ("b", 4), ("c", 5)]
    assert (stamped.total(), read.total()) == (3, 3)
    with pytest.raises(MissingEmbeddingsError, match="has no other embeddings"):
        EmbeddingCache.open(URL).all_embeddings([*NAMES, "other", "another"])


def test_read__shards_of_all_backbones_at_once(
    written: EmbeddingCache, features_of: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings_module, "n_readers", lambda *_: 12)
    states = waiting_for(12, monkeypatch, "read", *(f"/state/c/{shard}" for shard in SHARDS))
    features = waiting_for(12, monkeypatch, "read_into", "/0")
    rows = written.complete_rows(NAMES)
    for dim, found in enumerate(written.read_aligned(NAMES, rows[::-1]), 3):
        np.testing.assert_array_equal(found, features_of(rows[::-1], dim))
    assert (states.total(), features.total()) == (12, 12)


def test_read__features_and_checksums_at_once(written: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    together, call = threading.Barrier(2), obstore.get

    def waiting(store: Any, key: str, **options: Any) -> Any:
        if "/features/c/" in key or "/checksum/c/" in key:
            together.wait(timeout=20)
        return call(store, key, **options)

    table = written.embeddings("a")
    monkeypatch.setattr(obstore, "get", waiting)
    assert len(table.read(np.arange(64))) == 64


def test_commit__features_and_checksums_at_once_the_states_alone_and_last(
    written: EmbeddingCache, features_of: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, together, write = list[str](), threading.Barrier(2), RemoteFiles.write

    def waiting(self: RemoteFiles, key: str, parts: Any) -> None:
        if "/state/" in key:
            assert len(done) == 2
        else:
            together.wait(timeout=20)
        write(self, key, parts)
        done.append(key)

    with EmbeddingCache.writing(URL) as cache:
        table = cache.embeddings("a")
        monkeypatch.setattr(RemoteFiles, "write", waiting)
        table.commit(np.arange(64), features_of(range(64)), {})
    assert len(done) == 3
    assert done[2] == "embeddings/a/state/c/0"


def test_commit__by_many_threads_leaves_what_one_leaves(
    s3: Any, tmp_path: Path, written_once: Path, features_of: Features, ids: Ids
) -> None:
    commit_all(tmp_path / "many.zarr", features_of, ids, by_threads)
    commit_all("s3://bucket/many.zarr", features_of, ids, by_threads)

    def digests(path: Path) -> dict[str, str]:
        files = (file for file in path.rglob("*") if file.is_file())
        return {str(file.relative_to(path)): hashlib.md5(file.read_bytes()).hexdigest() for file in files}

    listed = s3.list_objects_v2(Bucket="bucket")["Contents"]
    objects = {item["Key"].removeprefix("many.zarr/"): item["ETag"].strip('"') for item in listed}
    assert objects == digests(tmp_path / "many.zarr") == digests(written_once)
    assert EmbeddingCache.open("s3://bucket/many.zarr").embeddings("b").reasons()[70] == "broken"


def test_n_writers__by_the_place(written: EmbeddingCache, full: Path) -> None:
    assert 1 <= EmbeddingCache.open(full).embeddings("m").n_writers <= 2
    assert written.embeddings("a").n_writers >= 8


def test_n_readers__what_is_on_its_way_stays_small() -> None:
    remote, local = RemoteFiles(URL), LocalFiles(Path("x.zarr"))
    assert n_readers(remote, 1000, 1000 << 10) == 64
    assert n_readers(remote, 1000, 1000 << 24) == 16, "256 MiB of parts of 16 MiB"
    assert n_readers(remote, 10, 10 << 30) == 4
    assert n_readers(remote, 3, 0) == 64
    assert (n_readers(local, 1000, 1 << 20), n_readers(local, 1000, 1 << 30)) == (1, 2)


def test_read_aligned__the_rows_that_one_lacks_are_said_before_damage(written: EmbeddingCache, s3: Any) -> None:
    with cut(s3, "embeddings/a/features/c/1/0"):
        with pytest.raises(MissingEmbeddingsError, match="1 of 200 rows have no b embedding"):
            written.read_aligned(NAMES, ROWS)
        with pytest.raises(CorruptCacheError, match=r"a/features is damaged \(embeddings/a/features/c/1/0 is gone"):
            written.read_aligned(NAMES, np.setdiff1d(ROWS, [70]))


def test_read__damage_of_several_shards_is_named_as_one_thread_meets_it(written: EmbeddingCache, s3: Any) -> None:
    with ExitStack() as stack:
        for name, shard in (("c", 0), ("b", 3), ("b", 2)):
            stack.enter_context(cut(s3, f"embeddings/{name}/features/c/{shard}/0"))
        for _ in range(5):
            with pytest.raises(CorruptCacheError, match="embeddings/b/features/c/2/0 is gone"):
                written.read_aligned(NAMES, np.setdiff1d(ROWS, [70]))


@pytest.mark.parametrize("keep", [0, 100, 64 * 12 - 1])
def test_read__a_torn_object_from_before_and_from_behind_its_end(written: EmbeddingCache, s3: Any, keep: int) -> None:
    """Of a range that begins behind the end, S3 says only that it is not satisfiable."""
    with cut(s3, "embeddings/a/features/c/1/0", keep):
        for rows in (np.arange(64, 128), np.array([127]), np.array([64, 127])):
            with pytest.raises(CorruptCacheError, match=f"features/c/1/0 is torn: .*ends at byte {keep}"):
                EmbeddingCache.open(URL).embeddings("a").read(rows)


def test_read__a_row_that_is_replaced_while_it_is_read(
    written: EmbeddingCache, features_of: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer commits between the reader's states and its features."""
    table, is_first, read_into = written.embeddings("a"), True, RemoteFiles.read_into

    def late(self: RemoteFiles, key: str, runs: Any) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            with EmbeddingCache.writing(URL) as cache:
                cache.embeddings("a").commit(np.array([5]), features_of([1005]), {})
        read_into(self, key, runs)

    table.read(np.array([4]))
    monkeypatch.setattr(RemoteFiles, "read_into", late)
    np.testing.assert_array_equal(table.read(np.array([5, 6])), features_of([1005, 6]))
    with EmbeddingCache.writing(URL) as cache:
        cache.embeddings("a").commit(np.array([5]), features_of([5]), {})


def test_read_into__far_ranges_one_by_one_and_near_ones_together(s3: Any, asked: Counter[tuple[str, str]]) -> None:
    files, data = RemoteFiles("s3://bucket/y"), np.random.default_rng(0).bytes(5 * NEAR_BYTES)
    files.write("a", [data])
    taken(asked)
    starts = [0, NEAR_BYTES // 2, 2 * NEAR_BYTES, 4 * NEAR_BYTES, 4 * NEAR_BYTES + 3]
    buffers = [bytearray(10) for _ in starts]
    files.read_into("a", [(start, memoryview(buffer)) for start, buffer in zip(starts, buffers, strict=True)])
    assert [bytes(buffer) for buffer in buffers] == [data[start : start + 10] for start in starts]
    assert taken(asked) == {("get", "a"): 3}
    with pytest.raises(FileNotFoundError):
        files.read_into("b", [(0, memoryview(bytearray(1)))])


def test_scan__the_next_part_is_read_while_one_is_worked_on(
    written: EmbeddingCache, features_of: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SCAN_BYTES", 64 * (12 + 20))
    begun, read_into = threading.Event(), RemoteFiles.read_into

    def noting(self: RemoteFiles, key: str, runs: Any) -> None:
        if "a/features/c/1" in key:
            begun.set()
        read_into(self, key, runs)

    monkeypatch.setattr(RemoteFiles, "read_into", noting)
    parts: Iterator[Any] = written.scan(["a", "c"])
    rows, found = next(parts)
    assert begun.wait(20), "nobody asked for it yet"
    everything = [(rows, found), *parts]
    assert [len(rows) for rows, _ in everything] == [64, 64, 64, 8]
    for rows, (a, c) in everything:
        np.testing.assert_array_equal(a, features_of(rows, 3))
        np.testing.assert_array_equal(c, features_of(rows, 5))


def test_scan__damage_is_raised_at_its_part(written: EmbeddingCache, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SCAN_BYTES", 64 * 12)
    seen = []
    gone = pytest.raises(CorruptCacheError, match="features/c/2/0 is gone")
    with cut(s3, "embeddings/a/features/c/2/0"), gone:
        for rows, _ in written.scan(["a"]):
            seen += rows.tolist()
    assert seen == [*range(128)]


def test_reasons__only_of_shards_where_a_row_failed(written: EmbeddingCache, asked: Counter[tuple[str, str]]) -> None:
    tables = written.all_embeddings(["a", "b"])
    taken(asked)
    assert not tables[0].reasons().any()
    assert not any("reason" in key for _, key in taken(asked))
    assert tables[1].reasons().nonzero()[0].tolist() == [70]
    assert [key for _, key in asked if "/reason/c/" in key] == ["embeddings/b/reason/c/1"]
