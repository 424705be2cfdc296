"""Parts of an extraction: what each owns, which may write at once, and what a bucket holds in the end."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme_cache import (
    CacheAccessError,
    CacheLockedError,
    CorruptCacheError,
    EmbeddingCache,
    Fingerprint,
    Part,
    check_unlocked,
    locks,
    parts,
    verify_cache,
)

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
MakeCache = Callable[..., Path]
Spawn = Callable[..., "Popen[str]"]
URL = "s3://bucket/deep/x.zarr"

BE_A_PART = """
import sys, time
from dvme_cache import EmbeddingCache, Part
with EmbeddingCache.writing_part(sys.argv[1], Part.parse(sys.argv[2])) as (cache, let_others_begin):
    if sys.argv[4] == "working":
        let_others_begin()
    print("locked", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def working(spawn: Spawn, path: Path, part: str, seconds: float = 60, stage: str = "working") -> Popen[str]:
    """A process that is a part, and no longer beginning."""
    child = spawn(BE_A_PART, path, part, seconds, stage)
    assert child.stdout is not None
    assert child.stdout.readline() == "locked\n"
    return child


def lay_out(cache: EmbeddingCache, ids: Sequence[bytes], fingerprint: Fingerprint) -> Any:
    """130 rows, labels, and backbone m in three shards: what `fill` writes before it commits."""
    rows = cache.samples.add(ids, [f"{row}.png" for row in range(len(ids))])
    cache.update_columns(rows, {"label": ["cat"] * len(ids)})
    return cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})


def commit(embeddings: Any, part: Part, features_of: Features) -> None:
    """Commit what a part owns, as `fill` does."""
    for rows in embeddings.pending_shards(part.shards(embeddings.n_shards)):
        embeddings.commit(rows, features_of(rows), {100: "broken"} if 100 in rows else {})


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "3", "a/b", "", "3/", "/4", "-1/4", "1/0", "0/0", "3/16 ", "1.0/2", "٣/٤", "1/" + "9" * 5000]
)
def test_part__what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no part|there is no part .*; parts are 1/4 to"):
        Part.parse(text)


@pytest.mark.parametrize(("n_shards", "n_parts"), [(10, 3), (3, 3), (2, 5), (0, 2), (7, 1)])
def test_part__every_shard_is_owned_once(n_shards: int, n_parts: int) -> None:
    each = [Part.parse(f"{number}/{n_parts}") for number in range(1, n_parts + 1)]
    assert sorted(shard for part in each for shard in part.shards(n_shards)) == list(range(n_shards))
    for part in each:
        assert list(part.shards(n_shards)) == [shard for shard in range(n_shards) if part.owns(shard)]
        np.testing.assert_array_equal(np.flatnonzero(part.owns(np.arange(n_shards))), list(part.shards(n_shards)))
    assert list(Part(3, 16).shards(40)) == [2, 18, 34]
    assert str(Part.parse("03/16")) == "3/16"


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("embeddings/m/features/c/1/.0.aa.partial", True),
        ("embeddings/m/features/c/2/.0.aa.partial", False),
        ("embeddings/m/state/c/.1.aa.partial", True),
        ("embeddings/m/state/c/.4.aa.partial", True),
        ("embeddings/m/reason/c/.0.aa.partial", False),
        ("embeddings/m/reason/c/.other.aa.partial", False),
        ("embeddings/m/features/.zarr.json.aa.partial", True),
        ("copies/embeddings/m/.zarr.json.aa.partial", True),
        ("samples/content_id/c/0/.0.aa.partial", True),
        ("tables/00000001/label/c/.0.aa.partial", True),
    ],
)
def test_part__removes_what_no_other_part_can_be_writing(key: str, may: bool) -> None:
    assert Part(2, 3).may_remove(key) is may


def test_writing_part__leaves_what_others_have_aside(make_cache: MakeCache) -> None:
    path = make_cache(200, "m")
    own, other, shared = (
        path / f"embeddings/m/state/c/.{0}.0a.partial",
        path / f"embeddings/m/state/c/.{1}.0a.partial",
        path / "samples/.zarr.json.0a.partial",
    )
    for place in (own, other, shared):
        place.parent.mkdir(exist_ok=True)
        place.touch()
    with EmbeddingCache.writing_part(path, Part(1, 2)):
        assert (own.exists(), other.exists(), shared.exists()) == (False, True, False)
    with EmbeddingCache.writing(path):
        assert not other.exists()


@pytest.mark.parametrize("location", ["path", URL])
def test_writing_part__two_at_once_make_what_one_writer_makes(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    full_once: Path,
    ids: Ids,
    features_of: Features,
    fingerprint: Fingerprint,
    monkeypatch: pytest.MonkeyPatch,
    location: str,
) -> None:
    """The second begins, finds all laid out, and commits while the first one lives, and after it."""
    s3 = request.getfixturevalue("s3") if location == URL else None
    place: Any = location if s3 else tmp_path / "x.zarr"
    with ExitStack() as stack:
        first, first_begun = stack.enter_context(EmbeddingCache.writing_part(place, Part(1, 2)))
        table = lay_out(first, ids(range(130)), fingerprint)
        first_begun()
        with EmbeddingCache.writing_part(place, Part(2, 2)) as (second, second_begun):
            commit(lay_out(second, ids(range(130)), fingerprint), Part(2, 2), features_of)
            second_begun()
            for other in (Part(1, 2), Part(1, 3), Part(3, 4)):
                with pytest.raises(CacheLockedError, match=r"part [12]/2, process"):
                    stack.enter_context(EmbeddingCache.writing_part(place, other))
            with pytest.raises(
                CacheLockedError, match=f"{re.escape(str(place))} is being written by part [12]/2, process"
            ):
                stack.enter_context(EmbeddingCache.writing(place))
        commit(table, Part(1, 2), features_of)
    assert _everything(place, s3) == _everything(full_once, None)
    with EmbeddingCache.writing(place) as cache:
        assert verify_cache(cache).findings == []


def _everything(place: Any, s3: Any) -> dict[str, bytes]:
    """Key to bytes."""
    if s3 is None:
        return {f"{path.relative_to(place)}": path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="bucket", Prefix="")["Contents"]]
    prefix = URL.removeprefix("s3://bucket/") + "/"
    assert all(key.startswith(prefix) for key in keys), "every lease is let go"
    return {key.removeprefix(prefix): s3.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}


def test_one_writer__is_refused_while_a_part_lives(make_cache: MakeCache, spawn: Spawn) -> None:
    path = make_cache(3)
    child = working(spawn, path, "3/16")
    who = rf"{path} is being written by part 3/16, process {child.pid} on \S+ \(since [^)]+\); wait for it, or"
    for attempt in (lambda: check_unlocked(path), lambda: EmbeddingCache.writing(path).__enter__()):
        with pytest.raises(CacheLockedError, match=who):
            attempt()
    assert EmbeddingCache.open(path).n_rows == 3, "reading needs no lock"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    check_unlocked(path)
    with EmbeddingCache.writing(path):
        pass


def test_one_writer__waits_for_parts(make_cache: MakeCache, spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LOOK_EVERY_S", 0.02)
    path = make_cache(3)
    child = working(spawn, path, "3/16", 0.5)
    with EmbeddingCache.writing(path, wait=True):
        assert child.wait() == 0


def test_one_part__beside_others(make_cache: MakeCache, spawn: Spawn) -> None:
    path = make_cache(3)
    child = working(spawn, path, "3/16")
    check_unlocked(path, Part(4, 16))
    with EmbeddingCache.writing_part(path, Part(4, 16)):
        pass
    same = rf"^{path} is being written by part 3/16, process {child.pid} on"
    other = "^parts of 8 cannot run beside parts of 16, whose shards they share: " + same.removeprefix("^")
    for part, refusal in ((Part(3, 16), same), (Part(2, 8), other)):
        for attempt in (
            lambda part=part: check_unlocked(path, part),
            lambda part=part: EmbeddingCache.writing_part(path, part).__enter__(),
        ):
            with pytest.raises(CacheLockedError, match=refusal):
                attempt()


def test_one_part__waits_for_its_like(make_cache: MakeCache, spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LOOK_EVERY_S", 0.02)
    path = make_cache(3)
    child = working(spawn, path, "1/2", 0.5)
    with EmbeddingCache.writing_part(path, Part(1, 2), wait=True):
        assert child.wait() == 0


def test_one_part__waits_for_one_that_is_beginning(make_cache: MakeCache, spawn: Spawn) -> None:
    """Nobody has to ask for it: it takes a moment. Who would be the one writer is refused meanwhile."""
    path = make_cache(3)
    child = working(spawn, path, "1/2", 0.8, "beginning")
    check_unlocked(path, Part(2, 2))
    with pytest.raises(CacheLockedError, match=f"part 1/2, process {child.pid}"):
        check_unlocked(path)
    with EmbeddingCache.writing_part(path, Part(2, 2)):
        assert child.wait() == 0


def test_one_part__is_refused_beside_the_one_writer(make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BELIEVED_AFTER_S", 0.1)
    path = make_cache(3)
    with EmbeddingCache.writing(path):
        for attempt in (
            lambda: check_unlocked(path, Part(1, 2)),
            lambda: EmbeddingCache.writing_part(path, Part(1, 2)).__enter__(),
        ):
            with pytest.raises(CacheLockedError, match=f"is being written by process {os.getpid()} on"):
                attempt()


def test_beginners__a_lock_is_believed_when_it_says_the_same_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may say nothing yet, or who died with it."""
    patience, now = parts._Beginners(wait=False), 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    writer = {"process": "1", "host": "a", "since": "then"}
    for holder in (writer, writer | {"part": "1/2"}, {}, writer):
        assert patience(holder)
        now += 4.9
        assert patience(holder)
        now += 0.2
        assert patience(holder) == ("part" in holder)
    assert parts._Beginners(wait=True)(writer)


@pytest.mark.parametrize("text", ["", "torn {", "[]"])
def test_one_writer__a_parts_lock_that_says_nothing(make_cache: MakeCache, text: str) -> None:
    path = make_cache(3)
    with EmbeddingCache.writing_part(path, Part(1, 2)) as (_, let_others_begin):
        let_others_begin()
        (path.parent / f".{path.name}.parts/1-of-2.lock").write_text(text)
        with pytest.raises(CacheLockedError, match="is being written by another process"):
            EmbeddingCache.writing(path).__enter__()


def test_one_writer__files_that_are_no_locks(make_cache: MakeCache) -> None:
    path = make_cache(3)
    folder = path.parent / f".{path.name}.parts"
    folder.mkdir()
    for name in ("notes.txt", "5-of-4.lock", "0-of-0.lock", "1-of-2.lock.old"):
        (folder / name).touch()
    with EmbeddingCache.writing(path):
        pass
    (folder / "1-of-2.lock").mkdir()
    check_unlocked(path)
    with pytest.raises(CacheAccessError, match=r"1-of-2\.lock cannot be locked \(Is a directory\); write elsewhere"):
        EmbeddingCache.writing(path).__enter__()


def test_writing_part__a_dead_parts_lease_is_taken_over(
    s3: Any, monkeypatch: pytest.MonkeyPatch, fill: Callable[[Path | str], None]
) -> None:
    """Watched for as long as a lease lasts, by who waits; the dead part, should it wake up, writes nothing."""
    fill(URL)
    for module in (locks, parts):
        monkeypatch.setattr(module, "ASK_EVERY_S", 0.02)
    with ExitStack() as stack:
        asleep, let_others_begin = stack.enter_context(EmbeddingCache.writing_part(URL, Part(1, 2)))
        let_others_begin()
        with pytest.raises(CacheLockedError, match=r"part 1/2, process .*; if it is gone, run again in 90 s"):
            EmbeddingCache.writing(URL).__enter__()
        (check,) = asleep.store.files.before_write  # type: ignore[attr-defined]
        check.__self__.stop()
        monkeypatch.setattr(locks, "LEASE_S", 0.2)
        with EmbeddingCache.writing(URL, wait=True):
            assert [item["Key"] for item in s3.list_objects_v2(Bucket="bucket", Prefix="deep/.")["Contents"]] == [
                "deep/.x.zarr.lock"
            ]
        with pytest.raises(CacheLockedError, match="another writer took over; what was committed is kept"):
            asleep.embeddings("m").state.delete(0)
        before = asleep.store.files.before_write  # type: ignore[attr-defined]
        assert before == [check]
    found = s3.list_objects_v2(Bucket="bucket", Prefix="deep/.")
    assert "Contents" not in found


def test_writing_part__rows_that_were_added_since_another_began(
    tmp_path: Path, ids: Ids, features_of: Features, fingerprint: Fingerprint
) -> None:
    """Arrays grow beneath a part that lives, in whose last shard lie the new rows; it leaves them for its next run."""
    failed = {90: "torn", 100: "broken"}

    def commit_all(embeddings: Any, shards: range | None) -> None:
        for rows in embeddings.pending_shards(shards):
            embeddings.commit(rows, features_of(rows), {row: failed[row] for row in rows.tolist() if row in failed})

    with EmbeddingCache.writing(tmp_path / "whole.zarr") as cache:
        cache.samples.add(ids(range(100)), [f"{row}.png" for row in range(100)])
        commit_all(lay_out(cache, ids(range(130)), fingerprint), None)
    path = tmp_path / "x.zarr"
    with EmbeddingCache.writing_part(path, Part(2, 2)) as (older, let_others_begin):
        table = lay_out(older, ids(range(100)), fingerprint)
        let_others_begin()
        with EmbeddingCache.writing_part(path, Part(1, 2)) as (newer, let_next_begin):
            grown = lay_out(newer, ids(range(130)), fingerprint)
            let_next_begin()
            commit_all(table, Part(2, 2).shards(table.n_shards))
            commit_all(grown, Part(1, 2).shards(grown.n_shards))
            assert (table.reasons() != "").sum() == 1
    seen = EmbeddingCache.open(path).embeddings("m")
    assert np.flatnonzero(seen.states() == 0).tolist() == list(range(100, 128))
    assert verify_cache(EmbeddingCache.open(path)).findings == []
    with EmbeddingCache.writing_part(path, Part(2, 2)) as (cache, let_others_begin):
        table = lay_out(cache, ids(range(130)), fingerprint)
        let_others_begin()
        commit_all(table, Part(2, 2).shards(table.n_shards))
    for folder in ("embeddings", "samples"):
        assert _everything(path / folder, None) == _everything(tmp_path / "whole.zarr" / folder, None)


def test_reasons__of_shards_that_a_part_owns(full: Path) -> None:
    """What other parts have to mend is not looked at."""
    (full / "embeddings/m/state/c/0").write_bytes(b"torn")
    (full / "embeddings/m/reason/c/1").write_bytes(b"torn")
    table = EmbeddingCache.open(full).embeddings("m")
    assert table.states(range(1, 3)).tolist() == [0] * 64 + [1] * 36 + [2] + [1] * 29
    assert (table.reasons(range(2, 3)) == "").all()
    for shards in (range(1, 2), None):
        with pytest.raises(CorruptCacheError):
            table.reasons(shards)


def test_reasons__committed_while_they_are_read(
    full: Path, features_of: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a row that failed is embedded after all between two reads, nothing is said to be gone."""
    table = EmbeddingCache.open(full).embeddings("m")
    left, read = [64, 10], table._reasons_of
    with EmbeddingCache.writing(full) as cache:
        writer = cache.embeddings("m")
        writer.commit(np.array([10, 11]), features_of([10, 11]), {10: "torn", 11: "torn"})
        writer.commit(np.array([64, 65]), features_of([64, 65]), {64: "torn"})

        def commit_first(shard: int) -> Any:
            if left:
                row = left.pop()
                writer.commit(np.array([row]), features_of([row]), {})
            return read(shard)

        monkeypatch.setattr(table, "_reasons_of", commit_first)
        reasons = table.reasons()
    assert {row: reason for row, reason in enumerate(reasons) if reason} == {11: "torn", 100: "broken"}
