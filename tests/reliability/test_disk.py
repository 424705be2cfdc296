"""A disk that is full, and one that is read-only: a real, small tmpfs."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvme_cache import EmbeddingCache, Fingerprint, content_id, repair_cache, verify_cache

BACKBONE = "efficientnet-lite0@size=64"
N_IMAGES, SHARD_ROWS = 32, 8
OPTIONS = ["--backbones", BACKBONE, "--shard-rows", SHARD_ROWS]
PAGE = 4096
DISK_BYTES = 4 << 20
N_ROWS = 64
IDS = [content_id(f"image {row}".encode()) for row in range(N_ROWS)]

Processes = Any
ContentsOf = Callable[[Path, str], Any]
ChunkFiles = Callable[[Path], dict[str, bytes]]
Campaign = Callable[[int, int], int]

pytestmark = pytest.mark.machine


class Disk:
    """A tmpfs of a few megabytes, mounted where the processes run."""

    def __init__(self, processes: Processes, place: Path) -> None:
        self._processes = processes
        self.place = place
        """For the processes."""
        self.seen = processes.seen_from_here(place)
        """The same, for this process."""
        processes.shell("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place))

    def leave(self, n_bytes: int) -> None:
        """Fill it but for this many bytes."""
        ballast = self.seen / "ballast"
        ballast.unlink(missing_ok=True)
        with ballast.open("wb") as file:
            file.write(bytes(max(0, self.free() - n_bytes)))
        assert self.free() <= max(n_bytes, 0)

    def empty(self) -> None:
        """Take the ballast out."""
        (self.seen / "ballast").unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete everything on it."""
        for path in self.seen.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def free(self) -> int:
        """Bytes that can still be written, in whole pages."""
        return shutil.disk_usage(self.seen).free

    def make_read_only(self) -> None:
        """Mount it anew, read-only."""
        self._processes.shell("mount", "-o", "remount,ro", str(self.place))

    def unmount(self) -> None:
        """Take it away."""
        self._processes.shell("umount", str(self.place))


@pytest.fixture
def disk(processes: Processes, tmp_path: Path) -> Iterator[Disk]:
    """An empty small disk."""
    if not processes.namespace:
        pytest.skip("no tmpfs can be mounted here, neither as root nor in a user namespace (unshare --user --mount)")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = Disk(processes, place)
    yield mounted
    mounted.unmount()


@pytest.fixture(scope="module")
def manifest(solar_cells: list[tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images to extract, half of them of one class."""
    path = tmp_path_factory.mktemp("disk") / "manifest.csv"
    path.write_text(
        "\n".join(["image,label", *(f"{image},{i % 2}" for i, (image, _) in enumerate(solar_cells[:N_IMAGES]))])
    )
    return path


def test_extract__a_disk_that_fills_up_costs_nothing_but_the_wait(
    processes: Processes,
    disk: Disk,
    manifest: Path,
    campaign: Campaign,
    contents_of: ContentsOf,
    chunk_files: ChunkFiles,
) -> None:
    """One line and exit code 1 wherever it fills up; once there is room, the same command ends as if nothing was."""
    cache = disk.place / "cache.zarr"
    options = [*OPTIONS, "--json"]
    before = disk.free()
    assert processes.run("dvme", "extract", manifest, cache, *options).exit_code == 0
    needed = before - disk.free()
    expected, chunks = contents_of(disk.seen / "cache.zarr", BACKBONE), chunk_files(disk.seen / "cache.zarr")
    committed = []
    for left in np.linspace(0, needed - PAGE, campaign(3, 40)).astype(int).tolist():
        disk.clear()
        disk.leave(left)
        full = processes.run("dvme", "extract", manifest, cache, *options)
        assert (full.exit_code, full.stdout) == (1, ""), (left, full.stderr)
        assert len(full.errors) == 1, full.stderr
        assert "No space left on device" in full.errors[0]
        n_committed, n_revived = _check_left(disk.seen / "cache.zarr", expected, contents_of)
        committed.append(n_committed)
        disk.empty()
        again = processes.run("dvme", "extract", manifest, cache, *options)
        assert again.report["outcomes"][0]["computed"] == N_IMAGES - n_committed - n_revived
        assert contents_of(disk.seen / "cache.zarr", BACKBONE) == expected
        assert chunk_files(disk.seen / "cache.zarr") == chunks
        assert not list(disk.seen.rglob("*.partial"))
    assert committed == sorted(committed)
    assert committed[0] == 0 < committed[-1]
    print(
        f"\ndisk: full at {len(committed)} points of an extraction of {N_IMAGES} images ({needed / 1e3:.0f} kB), with "
        f"{committed[0]} to {committed[-1]} rows committed; 0 of them lost, every cache byte-equal in the end"
    )


def test_commands__a_full_disk_and_a_read_only_one(
    processes: Processes, disk: Disk, manifest: Path, tmp_path: Path, contents_of: ContentsOf
) -> None:
    """Whatever reads goes on reading; whatever writes says one line, ends with 1, and changes nothing."""
    cache, export, fewer = disk.place / "cache.zarr", tmp_path / "export.npz", tmp_path / "fewer.csv"
    assert processes.run("dvme", "extract", manifest, cache, *OPTIONS).exit_code == 0
    expected = contents_of(disk.seen / "cache.zarr", BACKBONE)
    labels = tmp_path / "labels.csv"
    labels.write_text(manifest.read_text().replace(",1", ",other"))
    fewer.write_text("\n".join(manifest.read_text().splitlines()[:-3]))
    reading: list[list[object]] = [
        ["cache", "export", cache, export],
        ["cache", "verify", cache],
        ["info", cache],
        ["probe", cache, "--head", "knn", "--folds", 2],
    ]
    writing: list[list[object]] = [
        ["cache", "label", cache, labels],
        ["cache", "prune", cache, fewer, "--yes"],
        ["cache", "export", cache, disk.place / "export.npz"],
        ["cache", "import", export, disk.place / "imported.zarr"],
        ["extract", labels, cache, *OPTIONS],
    ]
    disk.leave(0)
    _check_commands(processes, reading, writing[:-1], "No space left on device")  # extract has its own campaign
    assert contents_of(disk.seen / "cache.zarr", BACKBONE) == expected
    disk.empty()
    disk.make_read_only()
    _check_commands(processes, reading[1:], [*writing, ["cache", "repair", cache]], "Read-only file system")
    assert contents_of(disk.seen / "cache.zarr", BACKBONE) == expected
    assert verify_cache(EmbeddingCache.open(disk.seen / "cache.zarr")).findings == []


def test_update_columns__full_disk_leaves_the_columns_as_they_were(disk: Disk, campaign: Campaign) -> None:
    path = disk.seen / "cache.zarr"
    _make_cache(path)
    new = [f"class {random.Random(row).random()}" for row in range(N_ROWS)]
    n_refused = 0
    for left in range(0, DISK_BYTES, PAGE * campaign(3, 1)):
        disk.leave(left)
        try:
            with EmbeddingCache.writing(path) as cache:
                cache.update_columns(np.arange(N_ROWS), {"label": new})
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            n_refused += 1
            assert EmbeddingCache.open(path).column("label").tolist() == ["old"] * N_ROWS
            assert verify_cache(EmbeddingCache.open(path)).is_sound
        else:
            break
    assert n_refused > 1
    cache = EmbeddingCache.open(path)
    assert cache.column("label").tolist() == new
    assert verify_cache(cache).findings == []
    print(f"\ndisk: full at {n_refused} points of a replacement of the columns; each time the old ones were kept")


def test_repair_cache__full_disk_makes_nothing_worse(disk: Disk, campaign: Campaign) -> None:
    path, aside = disk.seen / "cache.zarr", disk.seen / "damaged.zarr"
    _make_cache(aside)
    features = aside / "embeddings/net/features/c/1/0"
    data = bytearray(features.read_bytes())
    data[5 * 4 * 256] ^= 1  # row 21, if a shard has 16 rows of 256 float32
    features.write_bytes(data)
    (aside / "embeddings/net/state/c/2").unlink()
    (aside / "samples/zarr.json").unlink()
    good = np.array([row for row in range(N_ROWS) if row != 21 and row // 16 != 2])
    n_refused = 0
    for left in range(0, DISK_BYTES, PAGE * campaign(3, 1)):
        disk.empty()
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(aside, path)
        disk.leave(left)
        is_repaired = _repair(path)
        n_refused += not is_repaired
        np.testing.assert_array_equal(EmbeddingCache.open(path).embeddings("net").read(good), _features(good))
        disk.empty()
        with EmbeddingCache.writing(path) as cache:
            repair_cache(cache)
            (pending,) = cache.embeddings("net").pending_shards()
            assert pending.tolist() == [21]
            cache.embeddings("net").commit(pending, _features(pending), {})
        cache = EmbeddingCache.open(path)
        np.testing.assert_array_equal(cache.embeddings("net").read(np.arange(N_ROWS)), _features(np.arange(N_ROWS)))
        assert verify_cache(cache).findings == []
        if is_repaired:
            break
    assert n_refused > 1
    print(f"\ndisk: full at {n_refused} points of a repair; repaired once there was room, with no further row lost")


def _check_commands(
    processes: Processes, reading: list[list[object]], writing: list[list[object]], reason: str
) -> None:
    for command in reading:
        done = processes.run("dvme", *command)
        assert (done.exit_code, done.errors) == (0, []), (command, done.stderr)
    for command in writing:
        refused = processes.run("dvme", *command)
        assert (refused.exit_code, refused.stdout, len(refused.errors)) == (1, "", 1), (command, refused.stderr)
        assert reason in refused.errors[0], command


def _check_left(path: Path, expected: Any, contents_of: ContentsOf) -> tuple[int, int]:
    """Rows that are committed, each of them right; rows of which all but the states was written, which will count."""
    if not path.exists():
        return 0, 0
    cache = EmbeddingCache.open(path)
    verification = verify_cache(cache)
    assert verification.is_sound
    if BACKBONE not in cache.backbones:
        return 0, 0
    features = contents_of(path, BACKBONE).features
    assert features == {row: expected.features[row] for row in features}
    return len(features), sum(finding.n_rows for finding in verification.findings if finding.kind == "unfinished")


def _make_cache(path: Path) -> None:
    with EmbeddingCache.writing(path) as cache:
        rows = cache.samples.add(IDS, [f"{row}.png" for row in range(N_ROWS)])
        cache.update_columns(rows, {"label": ["old"] * N_ROWS})
        made_by = Fingerprint({"weights": "abc"})
        net = cache.ensure_embeddings("net", made_by, dim=256, dtype="float32", provenance={}, rows_per_shard=16)
        for pending in net.pending_shards():
            net.commit(pending, _features(pending), {})


def _features(rows: Any) -> Any:
    return (1 + rows[:, None] + np.arange(256) / 7).astype("float32")


def _repair(path: Path) -> bool:
    """Whether there was room for a repair."""
    try:
        with EmbeddingCache.writing(path) as cache:
            repair_cache(cache)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True
