"""Caches in an object store: the same bytes as on a disk, one writer by a lease, and errors of one line.

The service is moto's, on loopback; boto3 and plain zarr look at the same objects without this package.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import zarr
from numpy.typing import NDArray

from dvme_cache import (
    CacheAccessError,
    CacheLockedError,
    CacheNotFoundError,
    CorruptCacheError,
    EmbeddingCache,
    Fingerprint,
    MissingEmbeddingsError,
    NotACacheError,
    count_states,
    locks,
    remote,
    repair_cache,
    verify_cache,
)
from dvme_cache import cache as cache_module
from dvme_cache.locks import Lease
from dvme_cache.remote import RemoteFiles

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
Fill = Callable[[Path | str], None]
URL = "s3://bucket/deep/x.zarr"
GOOD = np.setdiff1d(np.arange(130), [100])


def objects(s3: Any, prefix: str = "deep/x.zarr/") -> dict[str, str]:
    """Key below the prefix to the MD5 of its content, as the service tells."""
    found = s3.list_objects_v2(Bucket="bucket", Prefix=prefix)
    assert not found["IsTruncated"]
    return {item["Key"].removeprefix(prefix): item["ETag"].strip('"') for item in found.get("Contents", [])}


def contents(s3: Any) -> dict[str, bytes]:
    """Key to content, by boto3."""
    return {key: s3.get_object(Bucket="bucket", Key=f"deep/x.zarr/{key}")["Body"].read() for key in objects(s3)}


def digests(path: Path) -> dict[str, str]:
    """The same as `objects` of a folder."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.md5(file.read_bytes()).hexdigest() for file in files}


def upload(s3: Any, path: Path, bucket: str) -> None:
    for key in digests(path):
        s3.put_object(Bucket=bucket, Key=f"deep/x.zarr/{key}", Body=(path / key).read_bytes())


@pytest.fixture
def uploaded(s3: Any, full_once: Path) -> str:
    """The URL of a cache that was written to a disk and copied by boto3."""
    upload(s3, full_once, "bucket")
    return URL


@pytest.fixture(scope="module")
def kept_once(s3_client: Any, full_once: Path) -> None:
    upload(s3_client, full_once, "kept")


@pytest.fixture
def kept(s3: Any, kept_once: None) -> str:
    """The same, for those who only read."""
    return "s3://kept/deep/x.zarr"


def test_writing__the_same_bytes_as_on_a_disk(s3: Any, fill: Fill, full_once: Path) -> None:
    assert not EmbeddingCache.exists(URL)
    fill(URL)
    assert EmbeddingCache.exists(URL)
    assert objects(s3) == digests(full_once)
    assert set(objects(s3, "")) == {f"deep/x.zarr/{key}" for key in digests(full_once)}, "the lease is let go"


def test_open__what_was_copied_from_a_disk(kept: str, features_of: Features, ids: Ids) -> None:
    cache = EmbeddingCache.open(kept + "/")
    assert (cache.location, cache.name, cache.n_rows, cache.backbones) == (kept, "x", 130, ["m"])
    assert cache.samples.content_ids == ids(range(130))
    assert cache.column("label").tolist() == ["cat"] * 130
    embeddings = cache.embeddings("m")
    np.testing.assert_array_equal(embeddings.read(GOOD), features_of(GOOD))
    rows = np.array([129, 0, 64, 0, 63, 128])
    np.testing.assert_array_equal(embeddings.read(rows), features_of(rows))
    assert embeddings.reasons()[100] == "broken"
    with pytest.raises(MissingEmbeddingsError):
        embeddings.read(np.array([100]))
    assert cache.n_bytes("m") > 129 * 12
    assert verify_cache(cache).findings == []


def test_open__copied_to_a_disk(s3: Any, tmp_path: Path, fill: Fill, features_of: Features) -> None:
    fill(URL)
    for key, data in contents(s3).items():
        (tmp_path / "x.zarr" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x.zarr" / key).write_bytes(data)
    cache = EmbeddingCache.open(tmp_path / "x.zarr")
    np.testing.assert_array_equal(cache.embeddings("m").read(GOOD), features_of(GOOD))
    assert verify_cache(cache).findings == []


def test_format__zarr_alone_can_read_it(kept: str, s3_endpoint: str, features_of: Features, ids: Ids) -> None:
    from obstore.store import S3Store

    store = S3Store("kept", prefix="deep/x.zarr", endpoint=s3_endpoint, client_options={"allow_http": True})
    root = zarr.open_group(zarr.storage.ObjectStore(store, read_only=True), mode="r")
    features = np.asarray(root["embeddings/m/features"])
    np.testing.assert_array_equal(features[GOOD], features_of(GOOD))
    assert np.isnan(features[100]).all()
    assert [row.tobytes() for row in np.asarray(root["samples/content_id"])] == ids(range(130))
    assert set(np.asarray(root["tables/00000001/label"])) == {"cat"}
    assert np.asarray(root["embeddings/m/state"])[99:102].tolist() == [1, 2, 1]


def test_writing__names_that_need_encoding(s3: Any, features_of: Features, ids: Ids, fingerprint: Fingerprint) -> None:
    with EmbeddingCache.writing(URL) as cache:
        cache.samples.add(ids(range(3)), ["a b.png", "ü.png", "%.png"])
        cache.update_columns(np.arange(3), {"a b/ü": ["x", "y", "z"]})
        cache.ensure_embeddings("timm:a/b", fingerprint, dim=3, dtype="float32", provenance={})
        cache.embeddings("timm:a/b").commit(np.arange(3), features_of(range(3)), {})
    assert {key.split("/")[1] for key in objects(s3) if key.startswith("embeddings/timm")} == {"timm%3Aa%2Fb"}
    cache = EmbeddingCache.open(URL)
    assert cache.column("a b/ü").tolist() == ["x", "y", "z"]
    assert cache.samples.paths == ["a b.png", "ü.png", "%.png"]
    np.testing.assert_array_equal(cache.embeddings("timm:a/b").read(np.arange(3)), features_of(range(3)))
    assert verify_cache(cache).findings == []


def test_writing__grows_resumes_and_removes(
    uploaded: str, s3: Any, features_of: Features, ids: Ids, fingerprint: Fingerprint
) -> None:
    with EmbeddingCache.writing(uploaded) as cache:
        assert cache.samples.add(ids([129, 500]), ["moved.png", "500.png"]).tolist() == [129, 130]
        cache.update_columns(np.array([130]), {"label": ["dog"]})
        embeddings = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
        assert [rows.tolist() for rows in embeddings.pending_shards()] == [[130]]
        embeddings.commit(np.array([130]), features_of([130]), {})
        cache.ensure_embeddings("m2", fingerprint, dim=2, dtype="float16", provenance={})
    cache = EmbeddingCache.open(uploaded)
    np.testing.assert_array_equal(cache.embeddings("m").read(np.array([128, 130])), features_of([128, 130]))
    assert cache.column("label")[129:].tolist() == ["cat", "dog"]
    assert cache.backbones == ["m", "m2"]
    with EmbeddingCache.writing(uploaded) as cache:
        cache.remove_embeddings("m")
    assert {key.split("/")[1] for key in objects(s3) if key.startswith("embeddings/")} == {"m2", "zarr.json"}
    assert verify_cache(EmbeddingCache.open(uploaded)).findings == []


def test_repair__flipped_bits(uploaded: str, s3: Any, features_of: Features, full_once: Path) -> None:
    keys = ["embeddings/m/features/c/1/0", "samples/path/c/0", "copies/zarr.json"]
    for key in keys:
        data = bytearray((full_once / key).read_bytes())
        data[len(data) // 2] ^= 1
        s3.put_object(Bucket="bucket", Key=f"deep/x.zarr/{key}", Body=bytes(data))
    with EmbeddingCache.writing(uploaded) as cache:
        repair = repair_cache(cache)
    assert {finding.key: finding.kind for finding in repair.mended} == dict.fromkeys(keys, "damaged")
    assert (repair.left, repair.n_rows_lost) == ([], {"m": 1})
    cache = EmbeddingCache.open(uploaded)
    assert verify_cache(cache).findings == []
    done = cache.complete_rows(["m"])
    assert np.setdiff1d(np.arange(130), done).tolist() == [96, 100]
    np.testing.assert_array_equal(cache.embeddings("m").read(done), features_of(done))


def test_read__a_torn_or_missing_shard(uploaded: str, s3: Any, features_of: Features, full_once: Path) -> None:
    torn = (full_once / "embeddings/m/features/c/1/0").read_bytes()[:100]
    s3.put_object(Bucket="bucket", Key="deep/x.zarr/embeddings/m/features/c/1/0", Body=torn)
    s3.delete_object(Bucket="bucket", Key="deep/x.zarr/embeddings/m/features/c/2/0")
    embeddings = EmbeddingCache.open(uploaded).embeddings("m")
    rows = np.array([0, 63, 64, 71])
    np.testing.assert_array_equal(embeddings.read(rows), features_of(rows))
    with pytest.raises(CorruptCacheError, match=rf"{URL}/embeddings/m/features is damaged \(.*c/1/0 is torn"):
        embeddings.read(np.array([0, 72]))
    with pytest.raises(CorruptCacheError, match=r"c/2/0 is gone"):
        embeddings.read(np.array([0, 128]))


def test_read_aligned_and_scan__equal_those_of_a_disk(
    s3: Any, tmp_path: Path, features_of: Features, ids: Ids, fingerprint: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SCAN_BYTES", 24 * 40)
    for location in (tmp_path / "x.zarr", URL):
        with EmbeddingCache.writing(location) as cache:
            cache.samples.add(ids(range(200)), [f"{row}.png" for row in range(200)])
            for name, dim, dtype, step in (("a", 5, "float32", 7), ("b", 2, "float16", 11)):
                embeddings = cache.ensure_embeddings(name, fingerprint, dim=dim, dtype=dtype, provenance={})
                for rows in embeddings.pending_shards():
                    reasons = {row: "broken" for row in rows.tolist() if row % step == 0}
                    embeddings.commit(rows, features_of(rows, dim, dtype), reasons)
    local, remote_cache = EmbeddingCache.open(tmp_path / "x.zarr"), EmbeddingCache.open(URL)
    parts = list(zip(local.scan(["a", "b"]), remote_cache.scan(["a", "b"]), strict=True))
    assert len(parts) == 4
    for (rows, features), (remote_rows, remote_features) in parts:
        np.testing.assert_array_equal(rows, remote_rows)
        for one, other in zip(features, remote_features, strict=True):
            assert one.tobytes() == other.tobytes()
    shuffled = np.random.default_rng(0).choice(local.complete_rows(["a", "b"]), 300)
    for one, other in zip(*(cache.read_aligned(["b", "a"], shuffled) for cache in (local, remote_cache)), strict=True):
        assert one.tobytes() == other.tobytes()


class StoppedError(Exception):
    """Stands for a process that is killed: nothing after it is written."""


def stop_at(patch: pytest.MonkeyPatch, n_writes: int) -> list[str]:
    """Refuse every write from the n-th on; the keys that were written before."""
    written: list[str] = []
    write, one_at_a_time = RemoteFiles.write, threading.Lock()

    def write_or_stop(files: RemoteFiles, key: str, parts: Any) -> None:
        with one_at_a_time:
            if len(written) + 1 >= n_writes:
                raise StoppedError
            write(files, key, parts)
            written.append(key)

    patch.setattr(RemoteFiles, "write", write_or_stop)
    return written


@pytest.mark.parametrize("n_writes", [2, 10, 14, 15, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5, 13))])
def test_writing__creation_killed_at_any_write_is_finished_by_the_next(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_writes: int
) -> None:
    """A cache is there once its root says so; before, a reader finds none and a writer begins anew."""
    with monkeypatch.context() as patch:
        written = stop_at(patch, n_writes)
        with ExitStack() as stack:
            try:
                stack.enter_context(EmbeddingCache.writing(URL))
            except StoppedError:
                assert not EmbeddingCache.exists(URL)
                with pytest.raises(CacheNotFoundError, match=f"there is no cache at {URL}"):
                    EmbeddingCache.open(URL)
            else:
                assert n_writes == 15, "seven documents, each of them twice"
    assert len(written) == n_writes - 1
    for location in (URL, tmp_path / "x.zarr"):
        with EmbeddingCache.writing(location) as cache:
            assert (cache.n_rows, cache.backbones, cache.tables.columns) == (0, [], [])
    assert objects(s3) == digests(tmp_path / "x.zarr")


def test_commit__killed_at_any_write_is_whole_or_not_there(
    uploaded: str, features_of: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, checksums, states: one write each, the last is the commit."""
    with EmbeddingCache.writing(uploaded) as cache:
        embeddings = cache.embeddings("m")
        embeddings.state.delete(2)
        for n_writes in (1, 2, 3):
            with monkeypatch.context() as patch, pytest.raises(StoppedError):  # noqa: PT012
                stop_at(patch, n_writes)
                embeddings.commit(np.array([128, 129]), features_of([128, 129]), {})
            for seen in (embeddings, EmbeddingCache.open(uploaded).embeddings("m")):
                assert count_states(seen.states()) == {"pending": 2, "done": 127, "failed": 1}
        assert verify_cache(EmbeddingCache.open(uploaded)).is_sound
        embeddings.commit(np.array([128, 129]), features_of([128, 129]), {})
    np.testing.assert_array_equal(EmbeddingCache.open(uploaded).embeddings("m").read(GOOD), features_of(GOOD))


def lease(s3: Any) -> dict[str, str]:
    """What the lock object says."""
    found: dict[str, str] = json.loads(s3.get_object(Bucket="bucket", Key="deep/.x.zarr.lock")["Body"].read())
    return found


def lease_of(files: RemoteFiles) -> Lease:
    """The lease that is asked before every write."""
    check: Any = files.before_write[-1]
    assert isinstance(check.__self__, Lease)
    return check.__self__


@contextmanager
def holding() -> Iterator[RemoteFiles]:
    """Be the one writer, of a cache of which there need be nothing."""
    files = RemoteFiles(URL)
    with locks.writer_lock(files):
        yield files


def taken_over(monkeypatch: pytest.MonkeyPatch) -> Lease:
    """Another writer's lease, taken while the first one's counts as dead: for longer than a negative time."""
    other = Lease(URL)
    with monkeypatch.context() as patch:
        patch.setattr(locks, "LEASE_S", -60.0)
        assert any(other.acquire() for _ in range(100)), "a renewal may come in between, but not always"
    return other


def test_lease__a_second_writer_is_refused_with_the_holder(uploaded: str, s3: Any, ids: Ids) -> None:
    with EmbeddingCache.writing(uploaded) as cache:
        holder = lease(s3)
        who = rf"{URL} is being written by process {holder['process']} on {holder['host']} \(since "
        with pytest.raises(CacheLockedError, match=who), EmbeddingCache.writing(uploaded):
            pass
        assert EmbeddingCache.open(uploaded).n_rows == 130, "reading needs no lease"
        cache.samples.add(ids([500]), ["500.png"])
        assert int(lease(s3)["process"]) == os.getpid()
    assert objects(s3, "deep/.x") == {}
    with pytest.raises(KeyError), EmbeddingCache.writing(uploaded):
        raise KeyError
    assert objects(s3, "deep/.x") == {}, "let go after an error, too"


def test_lease__waits_until_it_is_let_go(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "ASK_EVERY_S", 0.01)
    seen: list[bytes | None] = []
    asked, acquire = threading.Semaphore(0), Lease.acquire

    def count(self: Lease) -> bool:
        asked.release()
        return acquire(self)

    monkeypatch.setattr(Lease, "acquire", count)

    def write_later() -> None:
        with locks.writer_lock(RemoteFiles(URL), wait=True):
            seen.append(RemoteFiles(URL).read("a"))

    with holding() as files:
        thread = threading.Thread(target=write_later)
        thread.start()
        assert all(asked.acquire(timeout=10) for _ in range(4)), "the first writer, and three refusals"
        assert seen == []
        files.write("a", [b"the first writer's"])
    thread.join(10)
    assert seen == [b"the first writer's"]


def test_lease__a_dead_writers_is_taken_over(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lease(URL).acquire()
    dead = lease(s3)
    with pytest.raises(CacheLockedError), holding():
        pass
    monkeypatch.setattr(locks, "LEASE_S", -60.0)
    with holding() as files:
        assert lease(s3)["token"] != dead["token"]
        files.write("a", [b"x"])
    assert objects(s3, "deep/.x") == {}


def test_lease__is_watched_for_its_whole_length_by_the_watchers_own_clock(s3: Any) -> None:
    now = 1000.0
    holder, watcher = Lease(URL, clock=lambda: now), Lease(URL, clock=lambda: now)
    assert holder.acquire()
    now += 10_000  # whatever the store's clock says: who just starts has watched nothing yet
    assert not watcher.acquire()
    now += 89
    assert not watcher.acquire()
    holder._renew()
    now += 89
    assert not watcher.acquire(), "it sees the renewal only now"
    now += 89
    assert not watcher.acquire()
    now += 1
    assert watcher.acquire()
    holder._renew()
    with pytest.raises(CacheLockedError, match="another writer took over"):
        holder.check()


def test_lease__a_clock_ahead_takes_nothing_from_a_living_writer(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By it every lease looks dead: it is watched until a renewal is seen."""
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    monkeypatch.setattr(locks, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(locks, "RENEW_EVERY_S", 0.05)
    with holding() as files:
        again = "if it is gone, run again in 90 s: its lease is then watched for as long and taken over"
        with pytest.raises(CacheLockedError, match=again), holding():
            pass
        files.write("a", [b"x"])


def test_lease__a_dead_writers_is_watched_by_who_does_not_wait(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most commands cannot wait, and a dead process is nothing to wait for."""
    wall = time.time
    monkeypatch.setattr(locks, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(locks, "LEASE_S", 0.2)
    assert Lease(URL).acquire()
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    start = time.monotonic()
    with holding() as files:
        assert time.monotonic() - start >= 0.2
        files.write("a", [b"x"])


def test_lease__of_two_that_take_over_one_gets_it(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one saw the dead writer's lease, too, and is refused when it writes its own."""
    assert Lease(URL).acquire()
    fast, slow = Lease(URL), Lease(URL)
    dead = dict(fast._version)
    monkeypatch.setattr(locks, "LEASE_S", -60.0)
    put, is_first = Lease._put, True

    def overtaken(self: Lease, mode: Any) -> None:
        nonlocal is_first
        if self is slow and mode != "create" and is_first:
            is_first = False
            assert fast.acquire()
        put(self, mode)

    monkeypatch.setattr(Lease, "_put", overtaken)
    assert not slow.acquire()
    assert fast._version != dead
    assert lease(s3)["token"] == json.loads(fast._content)["token"]


def count_renewals(patch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Let leases be renewed at once and for ever; released after every renewal."""
    patch.setattr(locks, "RENEW_EVERY_S", 0.02)
    renewals, renew = threading.Semaphore(0), Lease._renew

    def count(self: Lease) -> None:
        renew(self)
        renewals.release()

    patch.setattr(Lease, "_renew", count)
    return renewals


def test_lease__is_renewed_while_its_holder_lives(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = count_renewals(monkeypatch)
    with holding() as files:
        assert all(renewals.acquire(timeout=10) for _ in range(5))
        files.write("a", [b"x"])
    assert objects(s3, "deep/.x") == {}


def test_lease__a_renewal_is_told_from_what_it_renews(s3: Any) -> None:
    """Or a take-over that began before the renewal would succeed after it."""
    mine = Lease(URL)
    assert mine.acquire()
    version = dict(mine._version)
    mine._put(mine._version)
    assert mine._version != version


def lose_answers(patch: pytest.MonkeyPatch) -> None:
    """Every conditional write arrives, its answer does not, and it is sent again, as a client does after a 503."""
    put = obstore.put

    def put_twice(*arguments: Any, **options: Any) -> Any:
        if options.get("mode"):
            put(*arguments, **options)
        return put(*arguments, **options)

    patch.setattr(obstore, "put", put_twice)


def test_lease__made_by_a_write_whose_answer_was_lost(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_answers(monkeypatch)
    with holding() as files:
        files.write("a", [b"x"])
    assert objects(s3, "deep/.x") == {}


def test_lease__renewed_by_a_write_whose_answer_was_lost(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = count_renewals(monkeypatch)
    with holding() as files:
        lose_answers(monkeypatch)
        assert all(renewals.acquire(timeout=10) for _ in range(5))
        files.write("a", [b"x"])
    assert objects(s3, "deep/.x") == {}


CHANGES = [
    lambda files: files.write("a", [b"new"]),
    lambda files: files.delete("a"),
    lambda files: files.delete_tree(""),
]


@pytest.mark.parametrize("change", CHANGES, ids=["write", "delete", "delete-tree"])
def test_lease__a_writer_that_lost_it_stops(
    s3: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[[RemoteFiles], None]
) -> None:
    monkeypatch.setattr(locks, "RENEW_EVERY_S", 0.02)
    with holding() as files:
        files.write("a", [b"old"])
        other = taken_over(monkeypatch)
        assert lease_of(files)._is_lost.wait(10), "its next renewal fails"
        message = "another writer took over; what was committed is kept, run again"
        with pytest.raises(CacheLockedError, match=message):
            change(files)
    assert files.read("a") == b"old"
    assert lease(s3)["token"] == json.loads(other._content)["token"], "it does not let go of what is not its own"


@pytest.mark.parametrize("change", CHANGES, ids=["write", "delete", "delete-tree"])
def test_lease__a_writer_that_lost_it_in_its_sleep_stops_before_its_next_write(
    s3: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[[RemoteFiles], None]
) -> None:
    """The machine sleeps, another takes over, it wakes and writes, before the renewal of every 20 s finds out."""
    with holding() as files:
        files.write("a", [b"old"])
        taken_over(monkeypatch)
        monkeypatch.setattr(locks, "LEASE_S", -60.0)  # so long it slept
        with pytest.raises(CacheLockedError, match="another writer took over"):
            change(files)
    assert files.read("a") == b"old"


def test_lease__a_cache_whose_writer_lost_it_stays_as_it_was(
    uploaded: str, s3: Any, monkeypatch: pytest.MonkeyPatch, features_of: Features
) -> None:
    monkeypatch.setattr(locks, "RENEW_EVERY_S", 0.02)
    before = objects(s3)
    with EmbeddingCache.writing(uploaded) as cache:
        taken_over(monkeypatch)
        assert lease_of(cache.store.files)._is_lost.wait(10)
        with pytest.raises(CacheLockedError, match="another writer took over"):
            cache.embeddings("m").commit(np.array([100]), features_of([100]), {})
        with pytest.raises(CacheLockedError, match="another writer took over"):
            cache.update_columns(np.array([0]), {"label": ["dog"]})
    assert objects(s3) == before


def test_lease__let_go_in_time_or_left_to_its_new_holder(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with holding():
        other = taken_over(monkeypatch)
    assert lease(s3)["token"] == json.loads(other._content)["token"]
    with pytest.raises(CacheLockedError), holding():
        pass


@pytest.mark.parametrize("text", [b"garbage", b"", b"[]", b'"x"', b"\xff"])
def test_lease__a_lock_object_that_says_nothing(s3: Any, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    s3.put_object(Bucket="bucket", Key="deep/.x.zarr.lock", Body=text)
    with pytest.raises(CacheLockedError, match="by another process"), holding():
        pass
    monkeypatch.setattr(locks, "LEASE_S", -60.0)
    with holding() as files:
        files.write("a", [b"x"])


def both_ways(url: str) -> Iterator[BaseException]:
    """What opening and writing raise."""
    for attempt in (EmbeddingCache.open, lambda url: EmbeddingCache.writing(url).__enter__()):
        with pytest.raises((CacheAccessError, CacheNotFoundError, NotACacheError)) as caught:
            attempt(url)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        yield caught.value


@pytest.mark.parametrize(
    "url",
    [
        *(
            "s3://bucket",
            "s3://bucket/",
            "s3://",
            "s3:///x.zarr",
            "ftp://x/y",
            "http://x/y.zarr",
            "file:///x",
            "S4://a/b",
        ),
        *("s3://bucket/x.zarr?version=1", "s3://bucket/x#1.zarr"),  # would lie at x.zarr and x, locked elsewhere
    ],
)
def test_open__no_url_of_a_cache(s3: Any, url: str) -> None:
    for error in both_ways(url):
        assert isinstance(error, CacheAccessError)
        assert f"{url} is not the URL of a cache; write s3://bucket/name.zarr, gs://" in str(error)
    assert objects(s3, "") == {}


def test_open__a_url_of_one_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for error in both_ways("s3:/bucket/x.zarr"):
        assert isinstance(error, CacheAccessError)
        assert "write two slashes" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_open__a_bucket_that_is_not_there(s3: Any) -> None:
    """To read from it is to find no cache; to write to it is an error of access."""
    opening, writing = both_ways("s3://elsewhere/x.zarr")
    assert isinstance(writing, CacheAccessError)
    for error in (opening, writing):
        assert str(error).startswith(("s3://elsewhere/x.zarr cannot be", "there is no cache at s3://elsewhere/x.zarr"))


def test_open__an_endpoint_that_nobody_answers(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRIES", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for error in both_ways(URL):
        assert isinstance(error, CacheAccessError)
        assert f"{URL} cannot be reached or refuses (" in str(error)
        assert "check the URL, the credentials and the endpoint" in str(error)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://127.0.0.1", "http://", "nonsense"])
def test_open__an_endpoint_that_is_none(s3: Any, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for error in both_ways(URL):
        assert isinstance(error, CacheAccessError)
        assert f"AWS_ENDPOINT_URL is '{endpoint}'; it begins with http:// or https://" in str(error)


@pytest.fixture
def forbidding(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A service that refuses everything, as with wrong credentials; the requests that it was sent."""
    asked: list[str] = []

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Of any kind: the service's other methods are the same."""
            asked.append(self.requestline)
            body = b"<Error><Code>InvalidAccessKeyId</Code><Message>No such key.\nReally.</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_open__refused_credentials(forbidding: list[str]) -> None:
    """What is forbidden is asked for once, not until the patience of a retry is over."""
    for error in both_ways(URL):
        assert isinstance(error, CacheAccessError)
        assert f"{URL} cannot be reached or refuses (" in str(error)
    assert len(forbidding) == 2  # one each way


def test_open__nothing_there(s3: Any) -> None:
    assert not EmbeddingCache.exists(URL)
    with pytest.raises(CacheNotFoundError, match=f"there is no cache at {URL}; run dvme extract IMAGES {URL}"):
        EmbeddingCache.open(URL)
    assert objects(s3, "") == {}
    s3.put_object(Bucket="bucket", Key="deep/x.zarr2/zarr.json", Body=b"{}")
    s3.put_object(Bucket="bucket", Key="deep/zarr.json", Body=b"{}")
    assert not EmbeddingCache.exists(URL), "a name that only begins alike"


def test_open__is_read_only(kept: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        EmbeddingCache.open(kept).samples.add([bytes([7] * 16)], ["new.png"])
    assert EmbeddingCache.open(kept).n_rows == 130
