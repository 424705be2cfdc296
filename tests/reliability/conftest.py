"""What the campaigns share: their size, quick processes, and what it means that two caches are the same.

A campaign is a test that tries many random accidents. It runs in two forms, chosen by the environment variable
DVME_CAMPAIGN: short (the default) as a part of the suite, `full` in `make bench`, where it prints its figures.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvme_cache import EmbeddingCache, RowState

FORK_SERVER = Path(__file__).with_name("fork_server.py")
NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"], [])
TIMEOUT_S = 300.0
MEMORY = Path("/dev/shm")
PROGRESS = re.compile(r"[\d,]+ images: .+|columns used of .+|.+: [\d,]+ of [\d,]+ \w+(, .+ left)?")

Campaign = Callable[[int, int], int]


@pytest.fixture(scope="session")
def campaign() -> Campaign:
    """Choose between the size of a campaign's short form and that of its full form, by DVME_CAMPAIGN."""
    form = os.environ.get("DVME_CAMPAIGN", "short")
    if form not in {"short", "full"}:
        raise pytest.UsageError(f"DVME_CAMPAIGN is {form!r}; set it to full, or leave it out")
    return lambda short, full: full if form == "full" else short


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """As pytest's, in memory where the system has a place for it: what a kill leaves does not depend on the disk."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dvme-tests-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Ended:
    """A process that is no more."""

    exit_code: int
    """Negative: the signal that ended it."""
    stdout: str
    stderr: str
    n_operations: int
    """How often it was about to change a file below the watched folder; -1 if it was killed."""
    seconds: float
    """From its start until it was seen to be gone."""

    @property
    def is_killed(self) -> bool:
        """Whether a SIGKILL ended it."""
        return self.exit_code == -signal.SIGKILL

    @property
    def report(self) -> dict[str, Any]:
        """What it printed with --json."""
        assert self.exit_code == 0, self.stderr
        found = json.loads(self.stdout)
        assert isinstance(found, dict)
        return found

    @property
    def errors(self) -> list[str]:
        """Lines of stderr that are neither progress nor what was listed."""
        return [line for line in self.stderr.splitlines() if not PROGRESS.fullmatch(line)]


class Processes:
    """Commands in processes of their own, forked off a server that has everything imported (fork_server.py).

    Threads may use it at once.
    """

    def __init__(self, server: subprocess.Popen[str], folder: Path, namespace: Sequence[str]) -> None:
        self._server = server
        self._folder = folder
        self._started: dict[int, tuple[Path, float]] = {}
        self._lock = threading.Lock()
        self.namespace = namespace
        """The command that gave the processes mounts of their own; empty if that is not possible here."""
        self.pid: int = self._receive()["pid"]

    def start(
        self, program: str | Path, *arguments: object, kill_before: int | None = None, watched: Path = Path("/")
    ) -> int:
        """Start `dvme` or a script; returns the process's id at once."""
        output = self._folder / uuid.uuid4().hex
        output.mkdir()
        request = {
            "do": "start",
            "program": str(program),
            "arguments": [str(argument) for argument in arguments],
            "output": str(output),
            "kill_before": kill_before,
            "watched": str(watched),
        }
        started = time.monotonic()
        pid = int(self._ask(request)["pid"])
        self._started[pid] = output, started
        return pid

    def kill(self, pid: int) -> None:
        """Send SIGKILL. A process that has ended on its own is a zombie until `wait`, so its id is still its own."""
        os.kill(pid, signal.SIGKILL)

    def wait(self, pid: int) -> Ended:
        """Wait for a process to end."""
        output, started = self._started[pid]
        while (exit_code := self._ask({"do": "look", "pid": pid})["exit"]) is None:
            time.sleep(0.005)
            assert time.monotonic() < started + TIMEOUT_S, f"no end in {TIMEOUT_S} s: {self.stderr_of(pid)}"
        seconds = time.monotonic() - started
        count = output / "operations"
        n_operations = int(count.read_text()) if count.exists() else -1
        texts = [(output / name).read_text() for name in ("stdout", "stderr")]
        return Ended(exit_code, texts[0], texts[1], n_operations, seconds)

    def run(self, program: str | Path, *arguments: object, **options: Any) -> Ended:
        """Start and wait."""
        return self.wait(self.start(program, *arguments, **options))

    def shell(self, *command: str) -> None:
        """Run a command where the processes run, in their namespace."""
        done = self._ask({"do": "run", "command": command})
        assert done["exit"] == 0, done["stderr"]

    def stderr_of(self, pid: int) -> str:
        """What a process that may still run has said so far."""
        return (self._started[pid][0] / "stderr").read_text()

    def seen_from_here(self, path: Path) -> Path:
        """A path of the processes' namespace, for this process."""
        return Path(f"/proc/{self.pid}/root{path}")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdin is not None
        with self._lock:
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the fork server is gone"
        reply = json.loads(line)
        assert isinstance(reply, dict)
        return reply


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Quick processes, each computing on one thread, so that all compute the same on a busy machine."""
    folder = tmp_path_factory.mktemp("processes")
    namespace = next(prefix for prefix in NAMESPACES if not prefix or _can_mount(prefix, folder))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with subprocess.Popen(
        [*namespace, sys.executable, str(FORK_SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
    ) as server:
        yield Processes(server, folder, namespace)
        assert server.stdin is not None
        server.stdin.close()


def _can_mount(namespace: Sequence[str], folder: Path) -> bool:
    """Whether a tmpfs can be mounted in a namespace of its own, which vanishes with its last process."""
    command = [*namespace, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class Contents:
    """Everything that a caller can ask of a cache with one backbone."""

    ids: list[bytes]
    paths: list[str]
    columns: dict[str, list[str]]
    fingerprint: dict[str, Any]
    states: list[int]
    reasons: list[str]
    features: dict[int, bytes]
    """Bytes of every row that is done."""


@pytest.fixture(scope="session")
def contents_of() -> Callable[[Path, str], Contents]:
    """Read everything of one backbone's cache; a scan must give what `read` gives."""
    return _contents_of


@pytest.fixture(scope="session")
def chunk_files() -> Callable[[Path], dict[str, bytes]]:
    """Key to bytes of every file that is no zarr.json; those hold dates."""

    def read(path: Path) -> dict[str, bytes]:
        files = (place for place in path.rglob("*") if place.is_file() and place.name != "zarr.json")
        return {place.relative_to(path).as_posix(): place.read_bytes() for place in files}

    return read


def _contents_of(path: Path, backbone: str) -> Contents:
    cache = EmbeddingCache.open(path)
    embeddings = cache.embeddings(backbone)
    states = embeddings.states()
    done = np.flatnonzero(states == RowState.DONE)
    features = embeddings.read(done)
    scanned = [(rows, blocks[0]) for rows, blocks in cache.scan([backbone])]
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in scanned] or [done]), done)
    np.testing.assert_array_equal(np.concatenate([block for _, block in scanned] or [features]), features)
    return Contents(
        ids=cache.samples.content_ids,
        paths=cache.samples.paths,
        columns={name: cache.column(name).tolist() for name in cache.tables.columns},
        fingerprint=dict(embeddings.fingerprint.fields),
        states=states.tolist(),
        reasons=embeddings.reasons().tolist(),
        features={int(row): values.tobytes() for row, values in zip(done, features, strict=True)},
    )
