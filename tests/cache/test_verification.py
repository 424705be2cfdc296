"""`verify` finds everything that is not as it was committed, and names it; `repair` mends what can be mended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme_cache import (
    CorruptCacheError,
    EmbeddingCache,
    Finding,
    Fingerprint,
    NotACacheError,
    Repair,
    RowState,
    Verification,
    repair_cache,
    verify_cache,
)
from dvme_cache.sealing import sealed

Features = Callable[..., NDArray[Any]]
FailFsync = Callable[[int], AbstractContextManager[None]]
MakeCache = Callable[..., Path]
SHARD_FILES = [f"embeddings/m/{key}" for key in ("features/c/1/0", "checksum/c/1", "state/c/1", "reason/c/1")]
METADATA = ["", "samples/", "samples/content_id/", "samples/path/", "tables/", "tables/00000001/"]
METADATA += ["tables/00000001/label/", "embeddings/", "embeddings/m/"]
METADATA += [f"embeddings/m/{array}/" for array in ("features", "checksum", "reason", "state")]
SMALL_CHUNKS = [f"{array}/{chunk}" for array in ("samples/path/c", "tables/00000001/label/c") for chunk in (0, 1)]
SMALL_CHUNKS += ["samples/content_id/c/0/0", "samples/content_id/c/1/0"]
SMALL_FILES = [*(f"{node}zarr.json" for node in METADATA), *SMALL_CHUNKS]
EMBEDDING_FILES = 3 * 3 + 1
"""Features, checksums and states of three shards, and the one chunk of reasons that is not empty."""


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x01
    file.write_bytes(content)


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def verify(path: Path, **options: Any) -> Verification:
    return verify_cache(EmbeddingCache.open(path), **options)


def repair(path: Path) -> Repair:
    with EmbeddingCache.writing(path) as cache:
        return repair_cache(cache)


def found(findings: Sequence[Finding]) -> dict[str, str]:
    """Key to kind, each key once."""
    assert len({finding.key for finding in findings}) == len(findings)
    return {finding.key: finding.kind for finding in findings}


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_verify__a_sound_cache(full: Path) -> None:
    told: list[tuple[int, int]] = []
    verification = verify(full, tell=lambda done, total: told.append((done, total)))
    assert (verification.findings, verification.is_sound, verification.n_rows_checked) == ([], True, 129)
    assert verification.n_files == 2 * len(SMALL_FILES) + EMBEDDING_FILES == len(content(full))
    assert verification.n_bytes == sum(len(data) for data in content(full).values())
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_verify__counts_what_is_not_there(full: Path, ids: Callable[..., list[bytes]]) -> None:
    """Rows that were never extracted, or of which every file is gone; not those that were taken out."""
    assert verify(full).n_rows_pending == 0
    with EmbeddingCache.writing(full) as cache:
        cache.samples.add(ids(range(200, 205)), [f"{row}.png" for row in range(200, 205)])
    assert verify(full).n_rows_pending == 5
    for key in SHARD_FILES:
        (full / key).unlink()
    verification = verify(full)
    assert (verification.n_rows_pending, verification.n_rows_checked, verification.findings) == (69, 66, [])
    with EmbeddingCache.writing(full) as cache:
        cache.prune(np.array([64, 131]))
    assert verify(full).n_rows_pending == 67


def test_verify__an_empty_cache(tmp_path: Path) -> None:
    with EmbeddingCache.writing(tmp_path / "x.zarr") as cache:
        assert verify_cache(cache).findings == []
    assert verify(tmp_path / "x.zarr").n_rows_checked == 0


def test_verify__names_that_need_encoding(make_cache: MakeCache, features_of: Features) -> None:
    names = ["timm:a/b", "m", "%", "zarr.json", ".hidden.partial", "copies", "tables"]
    path = make_cache(70, *names)
    with EmbeddingCache.writing(path) as cache:
        cache.update_columns(np.arange(70), {name: ["x"] * 70 for name in (*names, "c", "a b")})
        for name in names:
            cache.embeddings(name).commit(np.arange(64), features_of(range(64)), {3: "broken"})
    verification = verify(path)
    assert verification.findings == []
    assert verification.n_rows_checked == 63 * len(names)
    flip(path / "embeddings" / "timm%3Aa%2Fb" / "features" / "c" / "0" / "0")
    (finding,) = verify(path).findings
    assert (finding.key, finding.backbone) == ("embeddings/timm%3Aa%2Fb/features/c/0/0", "timm:a/b")
    assert repair(path).n_rows_lost == {"timm:a/b": 1}


def test_verify__a_backbone_named_like_a_folder_of_chunks(make_cache: MakeCache) -> None:
    assert verify(make_cache(5, "c")).findings == []


@pytest.mark.parametrize(
    ("prefix", "damage", "kind"),
    [
        ("", flip, "damaged"),
        ("copies/", Path.unlink, "missing"),
        pytest.param("", Path.unlink, "missing", marks=pytest.mark.slow),
        pytest.param("copies/", flip, "damaged", marks=pytest.mark.slow),
    ],
)
def test_verify__every_small_file_in_each_of_its_places(
    full: Path, prefix: str, damage: Callable[[Path], None], kind: str
) -> None:
    before, findings = content(full), []
    for key in SMALL_FILES:
        damage(full / prefix / key)
        verification = verify(full)
        assert not verification.is_sound
        (finding,) = verification.findings
        state = "is gone" if kind == "missing" else "is torn or flipped"
        assert finding == Finding(f"{prefix}{key}", kind, f"{prefix}{key} {state}; the other copy is served")
        (full / prefix / key).write_bytes(before[f"{prefix}{key}"])
        findings.append(finding)
    for key in SMALL_FILES:
        damage(full / prefix / key)
    mended = repair(full)
    assert sorted(mended.mended, key=str) == sorted(findings, key=str)
    assert (mended.left, mended.n_rows_lost) == ([], {})
    assert content(full) == before, "mended from the other place, byte by byte"


# Every array, every damage, both chunks; every two of them in the long form.
CHUNK_DAMAGES = [
    pytest.param(key, damage, marks=[] if (index + number) % 2 else [pytest.mark.slow])
    for index, key in enumerate(SMALL_CHUNKS)
    for number, damage in enumerate((flip, tear, Path.unlink))
]


@pytest.mark.parametrize(("key", "damage"), CHUNK_DAMAGES)
def test_verify__a_chunk_of_which_both_copies_are_damaged(full: Path, key: str, damage: Callable[[Path], None]) -> None:
    for place in (key, f"copies/{key}"):
        damage(full / place)
    verification, kind = verify(full), "missing" if damage is Path.unlink else "damaged"
    array = key.partition("/c/")[0]
    assert found(verification.findings) == {key: kind, f"copies/{key}": kind, array: "damaged"}
    assert all("and so is its copy" in finding.what for finding in verification.findings[:2])
    assert f"{array} is damaged" in verification.findings[2].what
    left = repair(full).left
    is_label = array.startswith("tables")
    assert {finding.key for finding in left} == (set() if is_label else {key, f"copies/{key}", array})
    cache = EmbeddingCache.open(full)
    if is_label:
        assert cache.tables.columns == [], "the user can give them again"
        assert verify(full).findings == []


def test_repair__keeps_the_columns_that_can_be_read(full: Path) -> None:
    with EmbeddingCache.writing(full) as cache:
        cache.update_columns(np.arange(130), {"split": ["train"] * 130, "group": ["g"] * 130})
    for place in ("", "copies/"):
        flip(full / f"{place}tables/00000002/split/c/0")
        (full / f"{place}tables/00000002/group/zarr.json").unlink()
    assert not repair(full).left
    cache = EmbeddingCache.open(full)
    assert cache.tables.columns == ["label"]
    assert cache.column("label").tolist() == ["cat"] * 130
    assert verify(full).findings == []


@pytest.mark.parametrize("node", ["", "samples/", "tables/", "embeddings/"])
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_verify__metadata_without_which_nothing_can_be_looked_at(
    full: Path, node: str, damage: Callable[[Path], None]
) -> None:
    for place in ("", "copies/"):
        damage(full / place / node / "zarr.json")
    with pytest.raises((CorruptCacheError, NotACacheError), match=str(full / node)):
        verify(full)
    with pytest.raises((CorruptCacheError, NotACacheError), match=str(full / node)):
        repair(full)


# Of the nodes that are alike, samples/*, tables/* and embeddings/m/*, each damage meets one at least.
NODE_DAMAGES = [
    pytest.param(node, damage, marks=[] if damage is (flip, Path.unlink)[index % 2] else [pytest.mark.slow])
    for index, node in enumerate(node for node in METADATA if node.count("/") > 1)
    for damage in (flip, Path.unlink)
]


@pytest.mark.parametrize(("node", "damage"), NODE_DAMAGES)
def test_verify__metadata_of_which_both_copies_are_damaged(
    full: Path, node: str, damage: Callable[[Path], None]
) -> None:
    """What hangs on it is told, too; a repair forgets columns, which the user can give again, and leaves the rest."""
    for place in ("", "copies/"):
        damage(full / place / node / "zarr.json")
    verification = verify(full)
    places, kind = {f"{node}zarr.json", f"copies/{node}zarr.json"}, "missing" if damage is Path.unlink else "damaged"
    assert dict.fromkeys(places, kind).items() <= found(verification.findings).items()
    assert not verification.is_sound
    left = {finding.key for finding in repair(full).left}
    if node.startswith("tables/"):
        assert left == set()
        assert verify(full).findings == []
    else:
        assert places <= left
        assert {finding.key for finding in verify(full).findings} == left


@pytest.mark.parametrize(
    ("damage", "kinds", "n_lost"),
    [
        (tear, ["damaged", "damaged", "damaged", "damaged"], [1, 1, 1, 1]),
        (flip, ["damaged", "damaged", "damaged", "damaged"], [1, 1, 1, 1]),
        (Path.unlink, ["missing", "missing", "unfinished", "damaged"], [63, 63, 1, 1]),
    ],
)
def test_verify__every_file_of_a_shard(
    full: Path, features_of: Features, damage: Callable[[Path], None], kinds: list[str], n_lost: list[int]
) -> None:
    """`tear` takes the last byte, which is the file's own checksum: no row is lost but the failed one's."""
    for key, kind, n_rows in zip(SHARD_FILES, kinds, n_lost, strict=True):
        path = Path(shutil.copytree(full, full.with_name("damaged.zarr")))
        damage(path / key)
        verification = verify(path)
        (finding,) = verification.findings
        assert (finding.key, finding.kind, finding.backbone) == (key, kind, "m")
        assert finding.what.startswith(key)
        assert verification.is_sound == (kind == "unfinished")
        mended = repair(path)
        is_only_its_own_checksum = damage is tear and key in SHARD_FILES[:2]
        assert mended == Repair([finding], [], {"m": 0 if is_only_its_own_checksum else n_rows})
        assert verify(path).findings == []
        cache = EmbeddingCache.open(path)
        done = cache.complete_rows(["m"])
        np.testing.assert_array_equal(cache.embeddings("m").read(done), features_of(done))
        shutil.rmtree(path)


def test_repair__several_at_once(full: Path, features_of: Features) -> None:
    for key in ("samples/zarr.json", "copies/zarr.json", "embeddings/m/reason/zarr.json", SHARD_FILES[0]):
        flip(full / key)
    (full / "embeddings/m/features/c/2/0").unlink()
    (full / "copies/tables/zarr.json").unlink()
    assert len(verify(full).findings) == 6
    mended = repair(full)
    assert (len(mended.mended), mended.left, mended.n_rows_lost) == (6, [], {"m": 3})
    assert verify(full).findings == []
    cache = EmbeddingCache.open(full)
    assert cache.complete_rows(["m"]).tolist() == [row for row in range(128) if row not in (96, 100)]
    with EmbeddingCache.writing(full) as cache:
        for rows in cache.embeddings("m").pending_shards():
            cache.embeddings("m").commit(rows, features_of(rows), {})
        np.testing.assert_array_equal(cache.embeddings("m").read(np.array([96, 128, 129])), features_of([96, 128, 129]))


def test_repair__a_sound_cache_changes_no_byte(full: Path) -> None:
    before = content(full)
    assert repair(full) == Repair([], [], {})
    assert content(full) == before


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("key", ["samples/zarr.json", SHARD_FILES[0], SHARD_FILES[2]])
def test_repair__failing_at_any_sync_is_finished_by_the_next(
    full: Path, fail_fsync: FailFsync, key: str, step: int
) -> None:
    """Every write syncs a file, then its folder: every third sync is now a file's, now a folder's."""
    flip(full / key)
    finished = Path(shutil.copytree(full, full.with_name("finished.zarr")))
    repair(finished)
    for at in range(1, 20, step):
        path = Path(shutil.copytree(full, full.with_name(f"{at}.zarr")))
        try:
            with fail_fsync(at):
                repair(path)
        except OSError:
            EmbeddingCache.open(path)
            repair(path)
        else:
            break
        assert verify(path).findings == []
        caches = (EmbeddingCache.open(path), EmbeddingCache.open(finished))
        assert len({cache.embeddings("m").states().tobytes() for cache in caches}) == 1
        assert len({cache.embeddings("m").read(cache.complete_rows(["m"])).tobytes() for cache in caches}) == 1
    assert at > 2


def test_verify__sample(full: Path) -> None:
    """So many embeddings are compared; everything that is small is always checked."""
    told: list[int] = []
    for sample, n_checked in ((0, 0), (1, 1), (40, 40), (129, 129), (500, 129)):
        verification = verify(full, sample=sample, tell=lambda done, _: told.append(done))
        assert (verification.n_rows_checked, verification.findings) == (n_checked, [])
    assert told == [1, 2, 3] * 5
    flip(full / "copies/samples/zarr.json")
    assert found(verify(full, sample=0).findings) == {"copies/samples/zarr.json": "damaged"}


def test_verify__sample_meets_a_flipped_bit_as_often_as_it_should(full: Path) -> None:
    """A flip in one of 129 rows, a sample of 43: seen by a third of the seeds, so by 5 of 15 or thereabouts."""
    flip(full / SHARD_FILES[0])
    verifications = [verify(full, sample=43, seed=seed) for seed in range(15)]
    seen = [not verification.is_sound for verification in verifications]
    assert 2 <= sum(seen) <= 9
    assert seen[:5] == [not verify(full, sample=43, seed=seed).is_sound for seed in range(5)], "the seed decides"
    for verification in verifications:
        assert found(verification.findings) in ({}, {SHARD_FILES[0]: "damaged"})
    assert not verify(full, sample=129).is_sound


@pytest.mark.parametrize("key", SHARD_FILES[:3])
@pytest.mark.parametrize("n_bytes", [0, 20, -1])
def test_verify__sample_sees_every_file_that_is_torn(full: Path, key: str, n_bytes: int) -> None:
    (full / key).write_bytes((full / key).read_bytes()[:n_bytes])
    for seed in range(3):
        verification = verify(full, sample=1, seed=seed)
        assert found(verification.findings) == {key: "damaged"}
        assert not verification.is_sound


@pytest.mark.parametrize("key", SHARD_FILES[:2])
def test_verify__sample_sees_every_file_that_is_gone(full: Path, key: str) -> None:
    (full / key).unlink()
    for seed in range(5):
        assert found(verify(full, sample=1, seed=seed).findings) == {key: "missing"}


def test_verify__rows_of_another_shard(full: Path) -> None:
    for array in ("features", "checksum"):
        chunk = "/0" if array == "features" else ""
        shutil.copy(full / f"embeddings/m/{array}/c/0{chunk}", full / f"embeddings/m/{array}/c/1{chunk}")
    (finding,) = verify(full).findings
    assert (finding.key, finding.kind, finding.n_rows) == (SHARD_FILES[0], "mismatched", 63)
    assert repair(full).n_rows_lost == {"m": 63}
    assert verify(full).findings == []


def test_verify__foreign_files_are_told_and_never_touched(full: Path) -> None:
    foreign = ["notes.txt", "samples/notes.txt", "embeddings/notes.txt", "embeddings/m/notes.txt", "copies/notes.txt"]
    foreign += ["embeddings/m/features/notes.txt", "tables/00000001/notes/c/0", "elsewhere/zarr.json", "tables/x/c/0"]
    for key in foreign:
        (full / key).parent.mkdir(parents=True, exist_ok=True)
        (full / key).write_bytes(b"mine")
    verification = verify(full)
    assert found(verification.findings) == dict.fromkeys(foreign, "foreign")
    assert verification.is_sound
    before = content(full)
    assert repair(full) == Repair([], [], {})
    assert content(full) == before


def test_verify__leftovers_are_told_and_removed(full: Path, fingerprint: Fingerprint) -> None:
    with EmbeddingCache.writing(full) as cache:
        cache.ensure_embeddings("gone", fingerprint, dim=2, dtype="float16", provenance={})
        cache._group("embeddings").attrs.put({"backbones": ["m"]})  # a removal that is killed after its first step
        (full / "embeddings/m/features/c/0/.0.0123.partial").write_bytes(b"torn")
        verification = verify_cache(cache)
        assert verification.is_sound
        assert set(found(verification.findings).values()) == {"leftover"}
        keys = set(found(verification.findings))
        nodes = {f"gone/{array}zarr.json" for array in ("", "features/", "checksum/", "reason/", "state/")}
        expected = {f"{place}embeddings/{node}" for place in ("", "copies/") for node in nodes}
        assert keys == expected | {"embeddings/m/features/c/0/.0.0123.partial"}
        mended = repair_cache(cache)
    assert {finding.key for finding in mended.mended} == keys
    assert (mended.left, mended.n_rows_lost) == ([], {})
    assert not [key for key in content(full) if "gone" in key or "partial" in key]
    assert verify(full).findings == []


def test_verify__an_interrupted_append_and_replacement_are_nothing(full: Path, fail_fsync: FailFsync) -> None:
    """Rows that do not count yet, and a generation nobody points to."""
    with EmbeddingCache.writing(full) as cache:
        with fail_fsync(16), pytest.raises(OSError, match="No space"):
            cache.samples.add([bytes([7] * 16)], ["new.png"])
        with fail_fsync(12), pytest.raises(OSError, match="No space"):
            cache.update_columns(np.array([0]), {"label": ["dog"]})
        assert cache.n_rows == 130
        assert list(full.glob("tables/00000002/*"))
    verification = verify(full)
    assert verification.is_sound
    assert set(found(verification.findings).values()) <= {"unfinished"}


def with_newer_copy(path: Path) -> dict[str, bytes]:
    """Let the copy of the samples' metadata say 131 rows, where the first place says 130: both soundly sealed."""
    document = json.loads((path / "samples/zarr.json").read_text())
    document["attributes"]["n_rows"] = 131
    (path / "copies/samples/zarr.json").write_bytes(sealed("samples/zarr.json", json.dumps(document).encode()))
    return content(path)


def test_verify__two_sound_copies_that_differ(full: Path) -> None:
    """As after a kill between the two writes: the first place counts, and the next write makes them equal."""
    before = with_newer_copy(full)
    verification = verify(full)
    assert verification.is_sound
    (finding,) = verification.findings
    assert (finding.key, finding.kind) == ("samples/zarr.json", "unfinished")
    assert EmbeddingCache.open(full).n_rows == 130
    mended = repair(full)
    assert (mended.left, content(full)) == ([], before), "nobody knows which is right: both are left alone"
    with EmbeddingCache.writing(full) as cache:
        cache.samples.add([bytes([7] * 16)], ["new.png"])
    assert verify(full).findings == []


def test_repair__claims_nothing_that_it_left_alone(full: Path) -> None:
    with_newer_copy(full)
    assert repair(full).mended == []


def test_verify__a_failed_row_is_no_finding_and_is_not_compared(full: Path) -> None:
    assert EmbeddingCache.open(full).embeddings("m").states()[100] == RowState.FAILED
    assert verify(full).n_rows_checked == 129
