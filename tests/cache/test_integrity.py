"""Shards under the magnifying glass: every kind of damage is found, nothing bad is served, the rest is kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme_cache import (
    CacheError,
    CorruptCacheError,
    EmbeddingCache,
    Embeddings,
    Fingerprint,
    MissingEmbeddingsError,
    RowState,
    check_shard,
    content_id,
    remains_of,
    repair_cache,
    salvage_damaged,
    salvage_shard,
    verify_cache,
)

Features = Callable[..., NDArray[Any]]
FailFsync = Callable[[int], AbstractContextManager[None]]
M = Path("embeddings", "m")
KEYS = {"features": "features/c/1/0", "checksum": "checksum/c/1", "state": "state/c/1", "reason": "reason/c/1"}
ROW_BYTES = {"features": 12, "checksum": 4, "state": 1}
SHARD = range(64, 128)
"""Shard 1, whose row 100 failed."""
FEW = settings.default.max_examples // 8
"""Examples of a test that copies a cache for each of them."""


def flip_bit(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def flip(file: Path) -> None:
    flip_bit(file, 8 * (file.stat().st_size // 2))


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy beside the original, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        yield Path(shutil.copytree(path, Path(folder, "data.zarr")))


def salvage(path: Path, shard: int = 1) -> int:
    with EmbeddingCache.writing(path) as cache:
        return salvage_shard(cache.embeddings("m"), shard)


def repair(path: Path) -> None:
    with EmbeddingCache.writing(path) as cache:
        assert repair_cache(cache).left == []


def prune(path: Path, row: int) -> None:
    with EmbeddingCache.writing(path) as cache:
        cache.prune(np.array([row]))


def served(embeddings: Embeddings, features_of: Features) -> list[int]:
    """Rows that can be read, together or one by one, each of them bit for bit what was committed for its image."""
    rows = []
    for start in range(0, embeddings.n_rows, 16):
        together = np.arange(start, min(start + 16, embeddings.n_rows))
        for part in (together, *together[:, None]):
            try:
                features = embeddings.read(part)
            except (CorruptCacheError, MissingEmbeddingsError):
                continue
            assert features.tobytes() == features_of(part).tobytes(), f"rows {part} are served and are wrong"
            rows += part.tolist()
            if part is together:
                break
    return rows


def all_but(*lost: int) -> list[int]:
    """Every row that was committed but those lost."""
    return [row for row in range(130) if row not in {100, *lost}]


def check_kept(path: Path, features_of: Features, lost: Sequence[int], *, is_failure_kept: bool = True) -> None:
    """The cache is sound; the lost rows, and only they, are to be extracted again."""
    cache = EmbeddingCache.open(path)
    embeddings = cache.embeddings("m")
    assert verify_cache(cache).findings == []
    assert served(embeddings, features_of) == all_but(*lost)
    assert embeddings.states()[100] == (RowState.FAILED if is_failure_kept else RowState.PENDING)
    assert embeddings.reasons().tolist() == ["broken" if row == 100 and is_failure_kept else "" for row in range(130)]
    pending = [row for rows in embeddings.pending_shards() for row in rows.tolist()]
    assert pending == sorted([*lost, *([] if is_failure_kept else [100])])


def test_check_shard__sound(full: Path) -> None:
    embeddings = EmbeddingCache.open(full).embeddings("m")
    for shard in range(3):
        assert check_shard(embeddings, shard) == check_shard(embeddings, shard, is_quick=True) == []


@pytest.mark.parametrize(
    ("array", "damage", "kind", "what", "n_rows"),
    [
        ("features", tear, "damaged", "embeddings/m/features/c/1/0 is torn: 386 of 772 bytes", 31),
        ("features", flip, "damaged", "embeddings/m/features/c/1/0 is flipped: its checksum does not match", 1),
        ("features", Path.unlink, "missing", "embeddings/m/features/c/1/0 is gone", 63),
        ("checksum", tear, "damaged", "embeddings/m/checksum/c/1 is torn: 130 of 260 bytes", 31),
        ("checksum", flip, "damaged", "embeddings/m/checksum/c/1 is flipped: its checksum does not match", 1),
        ("checksum", Path.unlink, "missing", "embeddings/m/checksum/c/1 is gone", 63),
        ("state", tear, "damaged", "embeddings/m/state/c/1 is torn: 34 of 68 bytes", 64),
        ("state", flip, "damaged", "embeddings/m/state/c/1 is flipped: its checksum does not match", 64),
        ("state", Path.unlink, "unfinished", "embeddings/m/state/c/1 is not there, though its rows are", 63),
        ("reason", tear, "damaged", "embeddings/m/reason/c/1: the reasons of 1 failed rows are lost", 1),
        ("reason", flip, "damaged", "embeddings/m/reason/c/1: the reasons of 1 failed rows are lost", 1),
        ("reason", Path.unlink, "damaged", "embeddings/m/reason/c/1: the reasons of 1 failed rows are lost", 1),
    ],
)
def test_check_shard__names_the_file_and_what_is_wrong(
    full: Path, array: str, damage: Callable[[Path], None], kind: str, what: str, n_rows: int
) -> None:
    damage(full / M / KEYS[array])
    embeddings = EmbeddingCache.open(full).embeddings("m")
    (finding,) = check_shard(embeddings, 1)
    assert (finding.key, finding.kind) == (f"embeddings/m/{KEYS[array]}", kind)
    assert finding.what.startswith(what)
    assert (finding.n_rows, finding.backbone, finding.is_damage) == (n_rows, "m", kind != "unfinished")
    assert check_shard(embeddings, 0) == check_shard(embeddings, 2) == []
    quick = [found.key for found in check_shard(embeddings, 1, is_quick=True)]
    assert quick == ([] if (array, damage) == ("features", flip) else [finding.key])


def test_check_shard__one_finding_a_file(full: Path) -> None:
    tear(full / M / KEYS["features"])
    (full / M / KEYS["checksum"]).unlink()
    (full / M / KEYS["reason"]).unlink()
    findings = check_shard(EmbeddingCache.open(full).embeddings("m"), 1)
    assert {finding.key: finding.kind for finding in findings} == {
        "embeddings/m/features/c/1/0": "damaged",
        "embeddings/m/checksum/c/1": "missing",
        "embeddings/m/reason/c/1": "damaged",
    }


def test_check_shard__a_whole_file_of_other_rows(full: Path) -> None:
    shutil.copy(full / M / "features/c/0/0", full / M / KEYS["features"])
    (finding,) = check_shard(EmbeddingCache.open(full).embeddings("m"), 1)
    what = "embeddings/m/features/c/1/0: 63 rows are not what was committed for them"
    assert (finding.kind, finding.n_rows, finding.what) == ("mismatched", 63, what)


@settings(max_examples=FEW)
@given(bit=st.integers(0, 8 * (64 * 12 + 4) - 1))
@example(bit=8 * 36 * 12)  # of row 100, which failed
@example(bit=8 * 64 * 12)  # of the file's own checksum
def test_salvage_shard__a_flipped_bit_of_features_costs_its_row(
    full_once: Path, features_of: Features, bit: int
) -> None:
    with copied(full_once) as path:
        flip_bit(path / M / KEYS["features"], bit)
        lost = [row for row in [64 + bit // 8 // 12] if row in SHARD and row != 100]
        assert served(EmbeddingCache.open(path).embeddings("m"), features_of) == all_but(*lost)
        assert salvage(path) == len(lost)
        check_kept(path, features_of, lost)


@settings(max_examples=FEW)
@given(bit=st.integers(0, 8 * (64 * 4 + 4) - 1))
def test_salvage_shard__a_flipped_bit_of_checksums_costs_its_row(
    full_once: Path, features_of: Features, bit: int
) -> None:
    with copied(full_once) as path:
        flip_bit(path / M / KEYS["checksum"], bit)
        lost = [row for row in [64 + bit // 8 // 4] if row in SHARD and row != 100]
        assert salvage(path) == len(lost)
        check_kept(path, features_of, lost)


@settings(max_examples=FEW)
@given(st.sampled_from(["features", "checksum"]), st.data())
def test_salvage_shard__a_tear_costs_the_rows_behind_it(
    full_once: Path, features_of: Features, array: str, data: st.DataObject
) -> None:
    with copied(full_once) as path:
        file = path / M / KEYS[array]
        n_bytes = data.draw(st.integers(0, file.stat().st_size - 1))
        file.write_bytes(file.read_bytes()[:n_bytes])
        lost = [row for row in SHARD if row >= 64 + n_bytes // ROW_BYTES[array] and row != 100]
        assert salvage(path) == len(lost)
        check_kept(path, features_of, lost)


@pytest.mark.parametrize("array", ["features", "checksum"])
def test_salvage_shard__a_file_that_is_gone(full: Path, features_of: Features, array: str) -> None:
    (full / M / KEYS[array]).unlink()
    assert salvage(full) == 63
    check_kept(full, features_of, [row for row in SHARD if row != 100])
    assert (full / M / KEYS["reason"]).exists()


@pytest.mark.parametrize("damage", [Path.unlink, tear, flip, lambda file: file.write_bytes(b"")])
def test_salvage_shard__without_states_the_rows_prove_themselves(
    full: Path, features_of: Features, damage: Callable[[Path], None]
) -> None:
    """Only that a row failed is not known any more: it is tried again."""
    damage(full / M / KEYS["state"])
    assert salvage(full) == 1
    check_kept(full, features_of, [], is_failure_kept=False)


def test_salvage_shard__without_states_the_last_shard_ends_where_the_images_do(
    full: Path, features_of: Features
) -> None:
    (full / M / "state/c/2").unlink()
    assert salvage(full, 2) == 0
    check_kept(full, features_of, [])


@pytest.mark.parametrize("damage", [Path.unlink, tear, flip])
def test_salvage_shard__without_reasons_failed_rows_are_tried_again(
    full: Path, features_of: Features, damage: Callable[[Path], None]
) -> None:
    damage(full / M / KEYS["reason"])
    assert salvage(full) == 1
    check_kept(full, features_of, [], is_failure_kept=False)


def test_salvage_shard__a_sound_shard_loses_nothing(full: Path, features_of: Features) -> None:
    before = {file: file.read_bytes() for file in (full / "embeddings").rglob("*") if file.is_file()}
    for shard in range(3):
        assert salvage(full, shard) == 0
    assert {file: file.read_bytes() for file in (full / "embeddings").rglob("*") if file.is_file()} == before


def test_salvage_damaged__every_shard_that_is_not_sound(full: Path, features_of: Features) -> None:
    with EmbeddingCache.writing(full) as cache:
        before = {file: file.stat().st_mtime_ns for file in full.rglob("*")}
        assert salvage_damaged(cache.embeddings("m")) == 0
        assert {file: file.stat().st_mtime_ns for file in full.rglob("*")} == before
        flip_bit(full / M / "features/c/0/0", 8 * 3 * 12)
        (full / M / "features/c/2/0").unlink()
        flip(full / M / "state/c/1")
        assert salvage_damaged(cache.embeddings("m")) == 1 + 2 + 1
    check_kept(full, features_of, [3, 128, 129], is_failure_kept=False)


@pytest.mark.parametrize("mend", [salvage, repair, lambda path: prune(path, 129)])
def test_reasons__are_kept_where_images_were_added_since(
    full: Path, features_of: Features, ids: Callable[..., list[bytes]], mend: Callable[[Path], object]
) -> None:
    """The array of reasons is shorter than the samples until the next extraction."""
    with EmbeddingCache.writing(full) as cache:
        embeddings = cache.embeddings("m")
        embeddings.commit(np.array([129]), features_of([129]), {129: "torn"})
        cache.samples.add(ids(range(500, 520)), [f"{row}.png" for row in range(500, 520)])
    for shard in (1, 2):
        flip_bit(full / M / f"features/c/{shard}/0", 0)
    before = EmbeddingCache.open(full).embeddings("m").reasons().tolist()
    assert [row for row, reason in enumerate(before) if reason] == [100, 129]
    mend(full)
    embeddings = EmbeddingCache.open(full).embeddings("m")
    is_pruned = EmbeddingCache.open(full).samples.is_pruned[129]
    assert embeddings.reasons()[100] == "broken"
    assert embeddings.reasons()[129] == ("" if is_pruned else "torn")
    assert embeddings.n_rows == 150


def test_salvage_shard__touches_no_other_shard(full: Path) -> None:
    others = {
        file: file.stat().st_mtime_ns
        for file in full.rglob("*")
        if file.is_file() and file not in {full / M / key for key in KEYS.values()}
    }
    flip_bit(full / M / KEYS["features"], 0)
    assert salvage(full) == 1
    assert {file: file.stat().st_mtime_ns for file in others} == others


def test_remains_of__by_hand(full: Path, features_of: Features) -> None:
    flip_bit(full / M / KEYS["features"], 8 * 3 * 12)
    kept = remains_of(EmbeddingCache.open(full).embeddings("m"), 1)
    assert kept.n_lost == 1
    assert kept.states.tolist() == [2 if row == 100 else 0 if row == 67 else 1 for row in SHARD]
    good = [place for place, row in enumerate(SHARD) if row not in (67, 100)]
    np.testing.assert_array_equal(kept.features[good], features_of([SHARD[place] for place in good]))
    assert np.isnan(kept.features[[3, 36]]).all()
    assert (kept.checksums != 0).nonzero()[0].tolist() == good


def swap_rows(path: Path) -> None:
    """Rows 70 and 71 change places, with their checksums; the files' own checksums are right."""
    with EmbeddingCache.writing(path) as cache:
        embeddings = cache.embeddings("m")
        for array in (embeddings.features, embeddings.checksum):
            rows = array.read(1)
            assert rows is not None
            swapped = rows.copy()
            swapped[[6, 7]] = rows[[7, 6]]
            array.write(1, swapped)


def test_read__rows_that_changed_places_are_not_served(full: Path, features_of: Features) -> None:
    swap_rows(full)
    assert served(EmbeddingCache.open(full).embeddings("m"), features_of) == all_but(70, 71)
    assert salvage(full) == 2
    check_kept(full, features_of, [70, 71])


def other_cache(path: Path, features_of: Features, fingerprint: Fingerprint, first_image: int) -> Path:
    """130 rows of which row r shows image r + first_image; its features are those of image r + 1000."""
    with EmbeddingCache.writing(path) as cache:
        images = [content_id(f"image {row + first_image}".encode()) for row in range(130)]
        cache.samples.add(images, [f"{row}.png" for row in range(130)])
        embeddings = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
        for rows in embeddings.pending_shards():
            embeddings.commit(rows, features_of(rows + 1000), {100: "broken"} if 100 in rows else {})
    return path


@pytest.fixture(params=["of-another-shard", "of-other-images", "of-another-fingerprint"])
def impostor(request: pytest.FixtureRequest, full: Path, features_of: Features, fingerprint: Fingerprint) -> Path:
    """A folder laid out as `embeddings/m`, with sound files of shard 1 that belong elsewhere."""
    if request.param == "of-another-shard":
        folder = Path(shutil.copytree(full / M, full.with_name("m")))
        for key in KEYS.values():
            if (source := folder / key.replace("/1", "/0")).exists():
                shutil.copy(source, folder / key)
        return folder
    is_other_model = request.param == "of-another-fingerprint"
    made_by = Fingerprint({"weights": "abd", "size": 224}) if is_other_model else fingerprint
    return other_cache(full.with_name("other.zarr"), features_of, made_by, 0 if is_other_model else 5000) / M


@pytest.mark.parametrize(
    "arrays", [["features"], ["features", "checksum"], ["features", "checksum", "state"], [*KEYS]], ids="+".join
)
def test_read__a_shard_that_belongs_elsewhere_is_not_served(
    full: Path, features_of: Features, impostor: Path, arrays: list[str]
) -> None:
    for array in arrays:
        shutil.copy(impostor / KEYS[array], full / M / KEYS[array])
    embeddings, elsewhere = EmbeddingCache.open(full).embeddings("m"), [row for row in range(130) if row not in SHARD]
    assert served(embeddings, features_of) == elsewhere
    assert any(finding.kind == "mismatched" for finding in check_shard(embeddings, 1))
    assert salvage(full) >= 63
    embeddings = EmbeddingCache.open(full).embeddings("m")
    assert served(embeddings, features_of) == elsewhere
    assert verify_cache(EmbeddingCache.open(full)).findings == []
    assert not (embeddings.states()[64:128] == RowState.DONE).any()


def test_read__checksums_that_belong_elsewhere(full: Path, features_of: Features, impostor: Path) -> None:
    shutil.copy(impostor / KEYS["checksum"], full / M / KEYS["checksum"])
    rows = [row for row in range(130) if row not in SHARD]
    assert served(EmbeddingCache.open(full).embeddings("m"), features_of) == rows


def test_check_shard__a_row_that_is_not_finite_is_not_proven(full: Path, features_of: Features) -> None:
    """Its checksum may be right: whoever wrote it, no model gives such an embedding."""
    with EmbeddingCache.writing(full) as cache:
        embeddings = cache.embeddings("m")
        features = features_of(range(64, 128))
        features[5, 1] = np.nan
        embeddings.features.write(1, features)
        embeddings.checksum.write(1, embeddings.checksums_of(features, slice(64, 128)))
        (finding,) = check_shard(embeddings, 1)
        assert (finding.kind, finding.n_rows) == ("mismatched", 1)
        assert salvage_shard(embeddings, 1) == 1
    check_kept(full, features_of, [69])


def test_salvage_shard__what_did_not_count_does_not_come_to_count(
    full: Path, features_of: Features, fail_fsync: FailFsync
) -> None:
    """The rows of a commit that was killed are proven, and yet pending: the states decide."""
    flip_bit(full / M / KEYS["features"], 8 * 36 * 12)
    with EmbeddingCache.writing(full) as cache:
        embeddings = cache.embeddings("m")
        with fail_fsync(5), pytest.raises(OSError, match="No space"):
            embeddings.commit(np.array([100]), features_of([100]), {})
        assert embeddings.states()[100] == RowState.FAILED
        flip_bit(full / M / KEYS["features"], 0)
        assert salvage_shard(embeddings, 1) == 1
    check_kept(full, features_of, [64])


def test_salvage_shard__no_row_that_counts_is_bad_once_a_row_was_overwritten(full: Path, fail_fsync: FailFsync) -> None:
    flip_bit(full / M / KEYS["features"], 8 * 30 * 12)
    files = [full / M / KEYS[array] for array in ("features", "checksum")]
    before, n_overwritten = [file.read_bytes() for file in files], 0
    for at in range(1, 20):
        try:
            with fail_fsync(at):
                salvage(full)
        except OSError:
            if [file.read_bytes() for file in files] != before:
                n_overwritten += 1
                findings = check_shard(EmbeddingCache.open(full).embeddings("m"), 1)
                assert sum(finding.n_rows for finding in findings) == 0
        else:
            break
    assert n_overwritten > 0


def test_check_shard__a_commit_that_was_killed_before_its_states(
    full: Path, features_of: Features, fail_fsync: FailFsync
) -> None:
    """Nothing of it counts and nothing is damage; its rows prove themselves and can be kept."""
    for name in ("features", "checksum", "state"):
        (full / M / name / "c" / ("2/0" if name == "features" else "2")).unlink()
    with EmbeddingCache.writing(full) as cache:
        embeddings = cache.embeddings("m")
        assert check_shard(embeddings, 2) == []
        with fail_fsync(5), pytest.raises(OSError, match="No space"):
            embeddings.commit(np.array([128, 129]), features_of([128, 129]), {})
        assert embeddings.states()[128:].tolist() == [0, 0]
        (finding,) = check_shard(embeddings, 2)
        assert (finding.kind, finding.n_rows, finding.is_damage) == ("unfinished", 2, False)
        assert salvage_shard(embeddings, 2) == 0
    check_kept(full, features_of, [])


def test_check_shard__a_retry_that_was_interrupted_is_no_damage(
    full: Path, features_of: Features, fail_fsync: FailFsync
) -> None:
    """Until the row counts it has failed, and why it failed is known."""
    with EmbeddingCache.writing(full) as cache:
        embeddings = cache.embeddings("m")
        for at in range(1, 20):
            try:
                with fail_fsync(at):
                    embeddings.commit(np.array([100]), features_of([100]), {})
            except OSError:
                assert check_shard(embeddings, 1) == []
                is_done = embeddings.states()[100] == RowState.DONE
                assert embeddings.reasons()[100] == ("" if is_done else "broken")
            else:
                break
        assert at > 6
        assert embeddings.reasons()[100] == ""


def state_flipped(path: Path) -> None:
    flip(path / M / KEYS["state"])


def features_flipped(path: Path) -> None:
    flip_bit(path / M / KEYS["features"], 8 * 30 * 12)


def checksum_gone(path: Path) -> None:
    (path / M / KEYS["checksum"]).unlink()


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", [features_flipped, checksum_gone, state_flipped])
def test_salvage_shard__failing_at_any_sync_is_finished_by_the_next(
    full: Path, features_of: Features, fail_fsync: FailFsync, damage: Callable[[Path], None], step: int
) -> None:
    """Every write syncs a file, then its folder: every third sync is now a file's, now a folder's."""
    damage(full)
    finished = Path(shutil.copytree(full, full.with_name("finished.zarr")))
    salvage(finished)
    expected = served(EmbeddingCache.open(finished).embeddings("m"), features_of)
    assert set(all_but()) - set(SHARD) <= set(expected) < set(range(130))
    for at in range(1, 20, step):
        path = Path(shutil.copytree(full, full.with_name(f"{at}.zarr")))
        try:
            with fail_fsync(at):
                salvage(path)
        except OSError:
            embeddings = EmbeddingCache.open(path).embeddings("m")
            assert set(served(embeddings, features_of)) <= set(all_but()), "nothing bad is served meanwhile"
            salvage(path)
        else:
            break
        assert served(EmbeddingCache.open(path).embeddings("m"), features_of) == expected
        assert verify_cache(EmbeddingCache.open(path)).findings == []
    assert at >= 4, "states, features and checksums, or their removal, each with its folder"


def unchanged(file: Path, data: st.DataObject) -> None:
    """Some files survive."""


def bit_flipped(file: Path, data: st.DataObject) -> None:
    flip_bit(file, data.draw(st.integers(0, 8 * file.stat().st_size - 1)))


def cut_short(file: Path, data: st.DataObject) -> None:
    file.write_bytes(file.read_bytes()[: data.draw(st.integers(0, file.stat().st_size - 1))])


def zeros_within(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + 50] = bytes(len(content[start : start + 50]))
    file.write_bytes(content)


def grown(file: Path, data: st.DataObject) -> None:
    file.write_bytes(file.read_bytes() + data.draw(st.binary(min_size=1, max_size=9)))


def gone(file: Path, data: st.DataObject) -> None:
    file.unlink()


def read_everything(path: Path, features_of: Features, *, is_repaired: bool) -> None:
    """Every value is right, or there is an error of this package that says why not; a repair may forget labels."""
    try:
        cache = EmbeddingCache.open(path)
    except CacheError:
        return
    expected: list[tuple[Callable[[], Any], list[list[Any]]]] = [
        (lambda: cache.samples.content_ids, [[content_id(f"image {row}".encode()) for row in range(130)]]),
        (lambda: cache.samples.paths, [[f"{row}.png" for row in range(130)]]),
        (lambda: cache.column("label").tolist(), [["cat"] * 130, *([[""] * 130] if is_repaired else [])]),
        (lambda: cache.backbones, [["m"]]),
    ]
    for read, allowed in expected:
        try:
            assert read() in allowed
        except CacheError:
            continue
    try:
        embeddings = cache.embeddings("m")
        served(embeddings, features_of)
        reasons = embeddings.reasons()
    except CacheError:
        return
    assert set(np.flatnonzero(reasons != "")) <= {100}


@settings(max_examples=2 * FEW)
@given(data=st.data())
def test_read__whatever_happens_to_the_files_is_right_or_refused(
    full_once: Path, features_of: Features, data: st.DataObject
) -> None:
    """Then the same once more after a repair, where a cache that can be opened can be verified and repaired."""
    with copied(full_once) as path:
        keys = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        chosen = data.draw(st.sets(st.sampled_from(keys), min_size=1, max_size=3))
        if data.draw(st.booleans()):  # and both of two copies
            chosen |= {key.removeprefix("copies/") for key in chosen} | {f"copies/{key}" for key in chosen}
        for key in sorted(chosen & set(keys)):
            damage = data.draw(st.sampled_from([unchanged, bit_flipped, cut_short, zeros_within, grown, gone]))
            damage(path / key, data)
        read_everything(path, features_of, is_repaired=False)
        try:
            with EmbeddingCache.writing(path) as cache:
                repair = repair_cache(cache)
        except CacheError:
            return
        read_everything(path, features_of, is_repaired=True)
        assert verify_cache(EmbeddingCache.open(path)).is_sound == (not repair.left)
