"""Parts of one extraction as processes of their own: killed at random, resumed in any order, and beside others."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from dvme_cache import EmbeddingCache, RowState, verify_cache

BACKBONE, SHARD_ROWS, BATCH_SIZE = "tiny", 8, 3  # a batch that spanned two shards would show in the last bits
BROKEN = (5, 20)
"""Images that cannot be decoded, in shards of different parts."""
TINY = """
name = "tiny"
architecture = "test_resnet"
pooling = "average"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "tiny.pth"
"""
SHARE_KILLED = 0.5
CHANGES_TO_BEGIN, CHANGES_TO_LAY_OUT = 10, 150  # of files: two locks and their folder; whatever a new cache begins with
WAITED_S = 1.0  # more than it takes to find that another process writes
CHANGES_PER_SHARD = 6  # three files, each made aside and renamed

Processes = Any
ContentsOf = Callable[[Path, str], Any]
Campaign = Callable[[int, int], int]

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def n_images(campaign: Campaign) -> int:
    """Images per cache; the last shard has some of its rows."""
    return campaign(36, 148)


@pytest.fixture(scope="module")
def manifest(solar_cells: list[tuple[Path, str]], n_images: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images to extract, of which two are none, and beside it the backbone."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "tiny.toml").write_text(TINY)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "tiny.pth")
    lines = [f"{image},{label}" for image, label in solar_cells[:n_images]]
    for row in BROKEN:
        (folder / f"{row}.png").write_bytes(f"no image {row}".encode())
        lines[row] = f"{row}.png,0.0"
    (folder / "manifest.csv").write_text("\n".join(["image,label", *lines]))
    return folder / "manifest.csv"


@pytest.fixture
def command(manifest: Path) -> Callable[..., list[Any]]:
    """`dvme extract` of a part, or without one."""

    def build(cache: Path, *options: str) -> list[Any]:
        backbone = ["--backbones", manifest.with_name("tiny.toml"), "--shard-rows", SHARD_ROWS]
        return ["extract", manifest, cache, *backbone, "--batch-size", BATCH_SIZE, "--json", *options]

    return build


def test_extract__parts_killed_at_random_end_as_if_it_was_one_run(
    processes: Processes,
    command: Callable[..., list[Any]],
    campaign: Campaign,
    n_images: int,
    tmp_path: Path,
    contents_of: ContentsOf,
) -> None:
    """All parts begin at once, are killed at a time or before a change of a file, and begin again in another order."""
    whole = tmp_path / "whole.zarr"
    expected = processes.run("dvme", *command(whole)).report["outcomes"][0]
    assert (expected["computed"], expected["failed"]) == (n_images - len(BROKEN), len(BROKEN))
    contents, files = contents_of(whole, BACKBONE), _files(whole)
    rng, n_kills, n_runs, n_caches = random.Random(0), 0, 0, 0
    for total, n_wanted in ((2, 25), (4, 50)) if campaign(0, 1) else ((3, 2),):
        while n_kills < n_wanted:
            cache = tmp_path / f"{n_caches}.zarr"
            run = partial(_extract_by_parts, processes, partial(command, cache), total, n_images, rng)
            killed, started = run(cache, n_wanted - n_kills)
            n_kills, n_runs, n_caches = n_kills + killed, n_runs + started, n_caches + 1
            assert contents_of(cache, BACKBONE) == contents
            assert _files(cache) == files
            assert verify_cache(EmbeddingCache.open(cache)).findings == []
    assert not list(tmp_path.rglob("*.partial"))
    print(
        f"\nparts: {n_kills} SIGKILLs in {n_runs} runs of parts, 2 or 4 of them at once on {n_images} images, into "
        f"{n_caches} caches; 0 committed rows lost, every cache equal to one made in one go, file for file"
    )


def _extract_by_parts(
    processes: Processes,
    command: Callable[..., list[Any]],
    total: int,
    n_images: int,
    rng: random.Random,
    cache: Path,
    n_wanted: int,
) -> tuple[int, int]:
    """Run parts until each came through; how many were killed, and how many were started."""
    left, n_killed, n_started, done = list(range(1, total + 1)), 0, 0, {}
    n_changes = CHANGES_TO_BEGIN + CHANGES_PER_SHARD * (n_images // SHARD_ROWS // total)
    while left:
        rng.shuffle(left)
        running = {}
        for number in left:
            options = {}
            if n_killed + len(running) < n_wanted and (total > 2 or rng.random() < SHARE_KILLED):
                is_first = not running and not cache.exists()
                options["kill_before"] = rng.randint(1, n_changes + CHANGES_TO_LAY_OUT * is_first)
            arguments = command("--part", f"{number}/{total}")
            running[number] = processes.start("dvme", *arguments, watched=cache.parent, **options)
            time.sleep(rng.uniform(0, 0.1))
        if n_killed + len(running) < n_wanted and rng.random() < SHARE_KILLED:
            time.sleep(rng.uniform(0, 1.0))
            processes.kill(rng.choice([*running.values()]))
        _check_done(cache, done)
        for number, pid in running.items():
            ended = processes.wait(pid)
            assert ended.is_killed or ended.exit_code == 0, ended.stderr
            n_started, n_killed = n_started + 1, n_killed + ended.is_killed
            if not ended.is_killed:
                left.remove(number)
        _check_done(cache, done)
    return n_killed, n_started


def _check_done(cache: Path, done: dict[int, bytes]) -> None:
    """What was done is done, with the same bytes; `done` grows by what is done by now."""
    if not EmbeddingCache.exists(cache) or BACKBONE not in EmbeddingCache.open(cache).backbones:
        assert not done
        return
    embeddings = EmbeddingCache.open(cache).embeddings(BACKBONE)
    states = embeddings.states()
    rows = np.flatnonzero(states == RowState.DONE)
    found = {int(row): values.tobytes() for row, values in zip(rows, embeddings.read(rows), strict=True)}
    assert done.items() <= found.items()
    embeddings.reasons()
    done |= found


def _files(cache: Path) -> dict[str, Any]:
    """Key to bytes of every file; of a zarr.json what it says, but for the date and the seal over it."""
    found: dict[str, Any] = {}
    for path in cache.rglob("*"):
        if path.name == "zarr.json":
            document = json.loads(path.read_text())
            document["attributes"].pop("seal")
            document["attributes"].get("provenance", {}).pop("created", None)
            found[path.relative_to(cache).as_posix()] = document
        elif path.is_file():
            found[path.relative_to(cache).as_posix()] = path.read_bytes()
    return found


def test_extract__a_part_that_lives_beside_others(
    processes: Processes, command: Callable[..., list[Any]], n_images: int, tmp_path: Path
) -> None:
    """Other parts run beside it; the same part, parts of another total and whoever would be alone are refused."""
    cache = tmp_path / "cache.zarr"
    assert processes.run("dvme", *command(cache, "--part", "3/3")).exit_code == 0
    first = processes.start("dvme", *command(cache, "--part", "1/3"))
    while not _is_at_work(cache, first):
        assert _is_running(first), processes.stderr_of(first)
        time.sleep(0.001)
    os.kill(first, signal.SIGSTOP)
    labels = ["cache", "label", cache, command(cache)[1], "--image-col", "image", "--label-col", "label"]
    for refused, reason in (
        (command(cache), "is being written by part 1/3"),
        (labels, "is being written by part 1/3"),
        (command(cache, "--part", "1/3"), "is being written by part 1/3"),
        (command(cache, "--part", "1/2"), "parts of 2 cannot run beside parts of 3, whose shards they share"),
    ):
        ended = processes.run("dvme", *refused)
        assert (ended.exit_code, ended.stdout, len(ended.errors)) == (1, "", 1), ended.stderr
        assert reason in ended.errors[0]
        assert f"process {first}" in ended.errors[0]
    outcome = processes.run("dvme", *command(cache, "--part", "2/3")).report["outcomes"][0]
    assert outcome["n_own"] == outcome["computed"] + outcome["failed"]
    waiting = [processes.start("dvme", *command(cache, *options, "--wait")) for options in ((), ("--part", "1/3"))]
    time.sleep(WAITED_S)
    assert all(map(_is_running, waiting))
    os.kill(first, signal.SIGCONT)
    outcomes = [processes.wait(pid).report["outcomes"][0] for pid in (first, *waiting)]
    assert [outcome["computed"] > 0 for outcome in outcomes] == [True, False, False]
    assert {outcome["n_in_cache"] for outcome in outcomes} == {n_images - len(BROKEN)}
    assert verify_cache(EmbeddingCache.open(cache)).findings == []


def _is_at_work(cache: Path, pid: int) -> bool:
    """Whether a part has its own lock and has let go of that of the one writer."""
    own = cache.parent / f".{cache.name}.parts" / "1-of-3.lock"
    return own.exists() and str(pid) in own.read_text() and not (cache.parent / f".{cache.name}.lock").read_text()


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
