"""Real SIGKILLs of real extractions at random moments, and of cache writers before each single change of a file."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dvme_cache.samples
import dvme_cache.tables
import dvme_cache.verification
from dvme_cache import EmbeddingCache, Finding, RowState, verify_cache

BACKBONE = "efficientnet-lite0@size=64"
BATCH_SIZE = 24  # divides none of the sizes of shards: a batch that spanned two shards would show in the last bits
CHANGES_PER_RUN, CHANGES_PER_SHARD = 5, 6  # of files: the lock; three, each made aside and renamed
HIT_ROWS = (7, 21)  # of a damaged cache: the reason why one failed is lost, the embedding of the other is flipped
CACHE_LIFE = Path(__file__).parent / "scripts" / "cache_life.py"

Processes = Any
ContentsOf = Callable[[Path, str], Any]
ChunkFiles = Callable[[Path], dict[str, bytes]]
Campaign = Callable[[int, int], int]
Extract = Callable[[Path, int, dict[str, Any]], Any]

pytestmark = pytest.mark.machine


@dataclass(frozen=True)
class Reference:
    """An extraction that nothing interrupts."""

    path: Path
    n_operations: int
    """Changes of files that it makes."""
    loading_s: float
    """From the start of its process to the first image."""
    extraction_s: float
    """From the first image to the end."""


@dataclass
class Trial:
    """One cache that is killed again and again until an extraction comes through."""

    path: Path
    shard_rows: int
    features: dict[int, bytes] = field(default_factory=dict)
    """Row to bytes, of every row seen as done so far."""
    written: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Inode and time of the feature files that were whole when last looked at; none is ever written again."""
    is_laid_out: bool = False
    """Whether only rows are left to be written."""


@dataclass
class Attack:
    """All kills of extractions with one size of shards."""

    whole: Reference
    n_images: int
    rng: random.Random
    n_caches: int = 0
    n_runs: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    """How the kills were timed, and what was there when they came."""
    left_behind: Counter[str] = field(default_factory=Counter)
    """Kinds of what `verify_cache` found after the kills."""

    def next_kill(self, trial: Trial, *, is_clocked: bool) -> dict[str, Any]:
        """A moment, uniform over the time or the changes of files that the rows which are left will take.

        Most changes lay the cache out, so that every other one is among those of the second shard.
        """
        n_left = self.n_images - len(trial.features)
        if is_clocked:
            extraction_s = self.whole.extraction_s * n_left / self.n_images
            return {"after_s": self.rng.uniform(0, self.whole.loading_s + extraction_s)}
        n_shards = -(-n_left // trial.shard_rows)
        n_changes = CHANGES_PER_RUN + CHANGES_PER_SHARD * n_shards if trial.is_laid_out else self.whole.n_operations
        if n_shards < 2 or self.moments.total() % 4 != 1:
            return {"change": self.rng.randint(1, n_changes)}
        second = n_changes - CHANGES_PER_SHARD * (n_shards - 1) + 1
        return {"change": self.rng.randint(second, second + CHANGES_PER_SHARD - 3)}


@pytest.fixture(scope="module")
def n_images(campaign: Campaign) -> int:
    """Images per cache; several shards of each size, the last of them in part."""
    return campaign(50, 300)


@pytest.fixture(scope="module")
def manifest(solar_cells: list[tuple[Path, str]], n_images: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images to extract, with their labels."""
    path = tmp_path_factory.mktemp("kill") / "manifest.csv"
    lines = [f"{image},{label}" for image, label in solar_cells[:n_images]]
    path.write_text("\n".join(["image,label", *lines]))
    return path


def test_extract__killed_at_random_moments_loses_nothing_and_repeats_nothing(
    processes: Processes,
    campaign: Campaign,
    manifest: Path,
    n_images: int,
    tmp_path: Path,
    contents_of: ContentsOf,
    chunk_files: ChunkFiles,
) -> None:
    """Every other kill comes at a random time of the run's life, the others before a random change of a file."""
    sizes, n_kills = (16, campaign(32, 64), 128)[: campaign(2, 3)], campaign(4, 68)
    extract = partial(_extract, processes, manifest)

    def attack(size: int) -> Attack:
        whole = _extract_whole(extract, tmp_path / f"whole-{size}.zarr", size)
        expected = contents_of(whole.path, BACKBONE), chunk_files(whole.path)
        found = Attack(whole, n_images, random.Random(size))
        while found.moments.total() < n_kills:
            path = tmp_path / f"killed-{size}-{found.n_caches}.zarr"
            _extract_to_the_end(extract, Trial(path, size), found, n_kills, contents_of)
            assert (contents_of(path, BACKBONE), chunk_files(path)) == expected
        return found

    with ThreadPoolExecutor(2) as pool:
        attacks = list(pool.map(attack, sizes))
    assert not list(tmp_path.rglob("*.partial"))
    moments = sum((found.moments for found in attacks), Counter())
    left_behind = sum((found.left_behind for found in attacks), Counter())
    assert moments["change, between shards"] > 0
    n_runs, n_caches = sum(found.n_runs for found in attacks), sum(found.n_caches for found in attacks)
    print(
        f"\nkill: {moments.total()} SIGKILLs in {n_runs} extractions of {n_images} images into {n_caches} caches of "
        f"{', '.join(map(str, sizes))} rows per shard; "
        "0 committed rows lost, 0 extracted twice, every cache byte-equal to one made in one go; "
        f"moments: {dict(sorted(moments.items()))}; left behind: {dict(left_behind)}"
    )


def _extract_to_the_end(extract: Extract, trial: Trial, attack: Attack, n_kills: int, contents_of: ContentsOf) -> None:
    """Kill extractions into one cache until one comes through, or until there were kills enough."""
    attack.n_caches += 1
    is_done, findings = False, []
    while not is_done:
        is_clocked = attack.moments.total() % 2 == 0
        kill = attack.next_kill(trial, is_clocked=is_clocked) if attack.moments.total() < n_kills else {}
        ended = extract(trial.path, trial.shard_rows, kill)
        attack.n_runs += 1
        is_done = ended.exit_code == 0
        assert is_done or ended.is_killed, ended.stderr
        n_before, n_revived = len(trial.features), _n_revived(findings)
        findings = _survey(trial, contents_of)
        if not is_done:
            attack.moments[f"{'time' if is_clocked else 'change'}, {_stage(trial, attack.n_images)}"] += 1
            attack.left_behind.update(finding.kind for finding in findings)
    outcome = ended.report["outcomes"][0]
    n_reused = n_before + n_revived
    assert (outcome["reused"], outcome["computed"]) == (n_reused, attack.n_images - n_reused)
    assert len(trial.features) == attack.n_images


def _extract(processes: Processes, manifest: Path, cache: Path, shard_rows: int, kill: dict[str, Any]) -> Any:
    """`dvme extract` in a process, killed after `after_s` seconds or before its n-th change of a file, or not."""
    options = ["--backbones", BACKBONE, "--shard-rows", shard_rows, "--batch-size", BATCH_SIZE, "--json"]
    pid = processes.start(
        "dvme", "extract", manifest, cache, *options, kill_before=kill.get("change"), watched=cache.parent
    )
    if "after_s" in kill:
        time.sleep(kill["after_s"])
        processes.kill(pid)
    return processes.wait(pid)


def _extract_whole(extract: Extract, cache: Path, shard_rows: int) -> Reference:
    ended = extract(cache, shard_rows, {})
    extraction_s = ended.report["outcomes"][0]["seconds"]
    return Reference(cache, ended.n_operations, ended.seconds - extraction_s, extraction_s)


def _survey(trial: Trial, contents_of: ContentsOf) -> list[Finding]:
    """Whatever was done is done, with the same bytes in the same files; what else a kill left does no harm."""
    if not EmbeddingCache.exists(trial.path):
        assert not trial.features
        return []
    cache = EmbeddingCache.open(trial.path)
    verification = verify_cache(cache)
    assert verification.is_sound, verification.findings
    if BACKBONE not in cache.backbones:
        assert not trial.features
        return verification.findings
    trial.is_laid_out = True
    features = contents_of(trial.path, BACKBONE).features
    assert {row: features.get(row) for row in trial.features} == trial.features
    assert all((path.stat().st_ino, path.stat().st_mtime_ns) == made for path, made in trial.written.items())
    trial.features = features
    embeddings = cache.embeddings(BACKBONE)
    for shard in range(embeddings.n_shards):
        if (embeddings.states()[embeddings.window(shard)] == RowState.DONE).all():
            path = trial.path / embeddings.features.key(shard)
            trial.written[path] = path.stat().st_ino, path.stat().st_mtime_ns
    return verification.findings


def _n_revived(findings: list[Finding]) -> int:
    """Rows of a commit that a kill cut off after its checksums: they prove themselves, and are not extracted again."""
    return sum(finding.n_rows for finding in findings if finding.kind == "unfinished" and finding.backbone == BACKBONE)


def _stage(trial: Trial, n_images: int) -> str:
    if not trial.path.exists():
        return "before the cache was there"
    if not trial.features:
        return "before the first row"
    return "after the last row" if len(trial.features) == n_images else "between shards"


@pytest.fixture
def start(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Lay out what `cache_life.py` starts from; `mend` finds harm to one file of each kind."""
    for module in (dvme_cache.samples, dvme_cache.tables, dvme_cache.verification):
        monkeypatch.setattr(module, "ROWS_PER_SAMPLE_CHUNK", 32)  # as the script does
    grown = tmp_path / "grown.zarr"

    def lay_out(what: str, path: Path) -> None:
        path.parent.mkdir()
        if what == "grow":
            return
        if not grown.exists():
            assert processes.run(CACHE_LIFE, grown, "grow").exit_code == 0
        shutil.copytree(grown, path)
        if what == "mend":
            features = path / "embeddings/kept/features/c/1/0"
            data = bytearray(features.read_bytes())
            data[(HIT_ROWS[1] - 16) * 12] ^= 1
            features.write_bytes(data)
            (path / "embeddings/kept/reason/c/0").write_bytes(b"torn")
            (path / "embeddings/kept/state/c/2").unlink()
            (path / "samples/path/c/0").write_bytes(b"torn")
            (path / "copies/tables/zarr.json").unlink()

    return lay_out


@pytest.mark.parametrize("what", ["grow", "mend", "retry", "prune"])
def test_writing__killed_before_any_change_of_a_file_then_repeated_ends_as_if_never_killed(
    processes: Processes,
    campaign: Campaign,
    tmp_path: Path,
    contents_of: ContentsOf,
    start: Callable[[str, Path], None],
    what: str,
) -> None:
    """The full form kills before each single change of a file, for everything that writes to a cache."""
    path = tmp_path / "whole" / "cache.zarr"
    start(what, path)
    before = contents_of(path, "kept") if what in {"retry", "prune"} else None
    whole = processes.run(CACHE_LIFE, path, what, watched=path.parent)
    assert whole.exit_code == 0, whole.stderr
    after = contents_of(path, "kept")
    every_change = range(1, whole.n_operations + 1)
    changes = sorted(random.Random(0).sample(every_change, min(campaign(3, 10_000), len(every_change))))

    def check(change: int) -> None:
        path = tmp_path / f"before-{change}" / "cache.zarr"
        start(what, path)
        killed = processes.run(CACHE_LIFE, path, what, watched=path.parent, kill_before=change)
        assert killed.is_killed, (change, killed.stderr)
        _check_left(path, killed.stdout, before or after, after, is_damaged=what == "mend")
        again = processes.run(CACHE_LIFE, path, what)
        assert again.exit_code == 0, (change, again.stderr)
        assert contents_of(path, "kept") == after, change
        assert EmbeddingCache.open(path).backbones == ["kept"]
        assert verify_cache(EmbeddingCache.open(path)).findings == [], change
        assert not list(path.parent.rglob("*.partial")), change
        if what == "mend":
            lines = (killed.stdout + again.stdout).splitlines()
            assert len(set(lines)) == len(lines), change
            assert set(lines) <= {f"kept {row}" for row in HIT_ROWS}, change
        shutil.rmtree(path.parent)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, changes))
    print(f"\nkill, {what}: SIGKILL before {len(changes)} of the {whole.n_operations} changes of a file; 0 rows lost")


def _check_left(path: Path, stdout: str, before: Any, after: Any, *, is_damaged: bool) -> None:
    """Everything is as before or as after, nothing that can be read is wrong, and what was said to count does."""
    said = [line.split() for line in stdout.splitlines()]
    if not path.exists():
        assert not said
        return
    cache = EmbeddingCache.open(path)
    verification = verify_cache(cache)
    assert verification.is_sound or is_damaged, verification.findings
    for now, *known in zip(cache.samples.content_ids, before.ids, after.ids, strict=False):
        assert now in known
    for now, *known in zip(cache.samples.paths, before.paths, after.paths, strict=False):
        assert now in known
    assert cache.column("label").tolist() in _labels(cache.n_rows, before, after)
    for name in cache.backbones:
        embeddings = cache.embeddings(name)
        states = embeddings.states()
        committed = {int(row) for line in said if line[0] == name for row in line[1:]}
        assert committed <= set(np.flatnonzero(states != RowState.PENDING).tolist())
        assert is_damaged or (embeddings.reasons() != "").tolist() == (states == RowState.FAILED).tolist()
        lasting = [row for row in range(cache.n_rows) if before.states[row] == after.states[row] == RowState.DONE]
        assert before is after or (states[lasting] == RowState.DONE).all()
        done = [
            row for row in np.flatnonzero(states == RowState.DONE).tolist() if not is_damaged or row not in HIT_ROWS
        ]
        features = embeddings.read(np.array(done, dtype=np.int64))
        known = {**before.features, **after.features}
        assert [row.tobytes() for row in features] == [known[row] for row in done]


def _labels(n_rows: int, before: Any, after: Any) -> list[list[str]]:
    """Every column of labels that there is at some time, each of them whole."""
    at_some_time = [["a"] * 40 + [""] * (n_rows - 40), ["b"] * n_rows, [""] * n_rows]
    return [*at_some_time, before.columns["label"], after.columns["label"]]
