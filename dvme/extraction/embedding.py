"""Images through backbones: every image is decoded once, in as many lanes as the machine has room for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from queue import Queue
from typing import TYPE_CHECKING

from dvme.cores import available_cores
from dvme.data.decoded import Told
from dvme.extraction.batch_size import batch_size_for
from dvme.extraction.decoding import Decoder, Supply, Way, Work
from dvme.extraction.gathering import Gathering, Target, portions_of, shard_bytes
from dvme.extraction.lanes import Differs, Embedded, Ended, Event, Finished, Lane, Shared
from dvme.extraction.pace import Mode, Pace, modes_of
from dvme.runtime import Runtime, available_memory, resident_memory

if TYPE_CHECKING:
    import torch

    from dvme.backbones.loading.model import Backbone

PORTIONS_AHEAD = 3
"""Whose files are read, and where decoding runs ahead decoded, before a lane asks for them."""
EVENTS = 16
"""Of lanes, that wait to be read."""
COMMITS_WAITING = 2
"""For each that is under way; more would hold the memory of shards that are done."""
BYTES_TO_COMMIT = 1 << 29
"""Of shards that are done and not committed yet, unless one alone has more."""
ROOMY = 2 << 30
"""Bytes for each lane, of which no backbone has yet been seen to take more."""


@dataclass
class Extracted:
    """What came of a run."""

    unread: list[dict[int, str]]
    """For each target row to reason, of the files that could not be read just now; their rows stay pending."""
    seconds: list[float]
    """For each target, until its last image."""
    told: dict[int, tuple[Told, ...]] = field(default_factory=dict)
    """Row to what there is to say about its range of grey, where there is something."""


def extract_shards(
    targets: Sequence[Target],
    work_of: Callable[[Sequence[int]], Sequence[Work]],
    runtime: Runtime,
    tell: Callable[[int, int], None],
    *,
    n_writers: int = 1,
) -> Extracted:
    """Embed the images that each backbone lacks, and keep them a shard at a time; each image is decoded once.

    A run that ends early, by an error or Ctrl-C, keeps the batches that are done.

    Args:
        targets: backbones and the rows that each lacks; the rows may be others for each.
        work_of: where the images of some rows lie.
        runtime: batch size, workers and the largest image.
        tell: called with the number of a target and how many of its images are done.
        n_writers: shards that are committed at a time.
    """
    n_images = max((sum(map(len, target.shards)) for target in targets), default=0)
    size = batch_size_for([target.model for target in targets], runtime, n_images) if n_images else 1
    gatherings = [Gathering(target, size) for target in targets]
    run = _Run(gatherings, tell)
    if not n_images:
        return run.extracted
    device = targets[0].model.device.type
    replicas = _replicas([target.model for target in targets], runtime)
    decoder = Decoder(list(dict.fromkeys(Way.of(target.model.spec) for target in targets)), runtime.max_pixels)
    with ExitStack() as stack:
        readers, decoders = (stack.enter_context(_pool(runtime.n_workers, name)) for name in ("read", "decode"))
        begin = decoder.read if device == "cpu" else decoder.read_and_decode
        portions = (work_of(rows.tolist()) for rows in portions_of(gatherings))
        supply = Supply(portions, begin, readers, PORTIONS_AHEAD + len(replicas) - 1)
        shared = Shared(supply, decoder, gatherings, Queue(EVENTS), decoders)
        commits = stack.enter_context(Commits(n_writers, max(map(shard_bytes, targets))))
        try:
            with _restored_threads():
                run.through(shared, commits, replicas, _modes(device, len(replicas)))
        except BaseException:
            shared.end()
            for commit in [each for gathering in gatherings for each in gathering.rest()]:
                with suppress(Exception):  # what ended the run may hold for this as well, such as a full disk
                    commit()
            raise
    return run.extracted


class _Run:
    """Lanes at work: events are read here, in the caller's thread, which alone tells and commits."""

    def __init__(self, gatherings: Sequence[Gathering], tell: Callable[[int, int], None]) -> None:
        self._gatherings, self._tell = gatherings, tell
        self._done = [0] * len(gatherings)
        self._started = time.perf_counter()
        self.extracted = Extracted([gathering.unread for gathering in gatherings], [0.0] * len(gatherings))

    def through(
        self, work: Shared, commits: Commits, replicas: Sequence[Sequence[Backbone]], modes: Sequence[Mode]
    ) -> None:
        """All of the work, in whichever mode is fastest; lane i runs the i-th of the replicas, in turn."""
        size = max(gathering.batch_size for gathering in self._gatherings)
        n_portions = -(-max(gathering.n_rows for gathering in self._gatherings) // size)
        pace = Pace(modes, n_portions, time.perf_counter())
        while not work.supply.is_empty:
            self._in_mode(pace, _Crew(work, replicas, pace.mode), work.events, commits)

    def _in_mode(self, pace: Pace, crew: _Crew, events: Queue[Event], commits: Commits) -> None:
        """Until another mode is better, or nothing is left."""
        try:
            while crew.n_running:
                match events.get():
                    case Ended(error):
                        crew.n_running -= 1
                        if error is not None:
                            raise error
                    case Embedded(target, n_rows, commit):
                        if commit is not None:
                            commits.add(commit)
                        self._count(target, n_rows)
                    case Finished(n_images, at, told):
                        self.extracted.told |= told
                        crew.complete()
                        if pace.finished(n_images, at, crew.mode):
                            crew.stop.set()
                    case Differs(mode):
                        pace.rule_out(mode, time.perf_counter())
                        crew.stop.set()
        finally:
            crew.stop.set()

    def _count(self, target: int, n_rows: int) -> None:
        self._done[target] += n_rows
        self.extracted.seconds[target] = time.perf_counter() - self._started
        self._tell(target, self._done[target])


class _Crew:
    """The lanes of one mode. Where memory may be scarce, one shows what a lane takes before there are more."""

    def __init__(self, work: Shared, replicas: Sequence[Sequence[Backbone]], mode: Mode) -> None:
        self.stop = threading.Event()
        self.n_running = 0
        self.mode = mode
        self._work, self._replicas, self._before = work, replicas, resident_memory()
        self._is_complete = available_memory() > mode.n_lanes * ROOMY
        self._start(mode.n_lanes if self._is_complete else 1)

    def complete(self) -> None:
        """Start the others, as many as memory has room for, once the first has done a portion."""
        if not self._is_complete and not self.stop.is_set():
            self._is_complete = True
            self._start(min(self.mode.n_lanes, _n_lanes(resident_memory() - self._before)) - 1)

    def _start(self, n_lanes: int) -> None:
        for number in range(self.n_running, self.n_running + n_lanes):
            Lane(self._work, self._replicas[number % len(self._replicas)], self.mode, self.stop).start()
        self.n_running += n_lanes


class Commits:
    """Shards on their way to the disk or the store, beside the work that goes on."""

    def __init__(self, n_writers: int, n_bytes: int = 1) -> None:
        """So many at a time, of shards of at most so many bytes."""
        self._pool = ThreadPoolExecutor(n_writers, thread_name_prefix="commit")
        n_held = min(n_writers * (1 + COMMITS_WAITING), max(1, BYTES_TO_COMMIT // max(1, n_bytes)))
        self._room = threading.BoundedSemaphore(n_held)
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Commits:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Wait for all, and raise what one of them raised, unless something else is raised already."""
        self._pool.shutdown(wait=True)
        if kind is None:
            self._look()

    def add(self, commit: Callable[[], None]) -> None:
        """Commit soon; raises what an earlier one raised."""
        self._look()
        self._room.acquire()
        future = self._pool.submit(commit)
        future.add_done_callback(lambda _: self._room.release())
        self._pending.append(future)

    def _look(self) -> None:
        is_done = [future.done() for future in self._pending]
        done = [future for future, flag in zip(self._pending, is_done, strict=True) if flag]
        self._pending = [future for future, flag in zip(self._pending, is_done, strict=True) if not flag]
        for future in done:
            future.result()


def _replicas(models: Sequence[Backbone], runtime: Runtime) -> list[Sequence[Backbone]]:
    """The backbones on each device that is asked for."""
    import torch

    others = [torch.device(name) for name in runtime.device.split(",")[1:]]
    return [models, *(_on(device, models) for device in others)]


def _on(device: torch.device, models: Sequence[Backbone]) -> list[Backbone]:
    """The backbones on another device; those that differ in the view alone are there once."""
    from dvme.backbones.loading.model import in_view

    found: list[Backbone] = []
    for model in models:
        found.append(in_view(model.spec, found) or model.on(device))
    return found


def _modes(device: str, n_devices: int) -> list[Mode]:
    """Ways to use this machine. Every other device has one lane, for which images are decoded ahead."""
    if device != "cpu":
        return [Mode(n_devices, 1)]
    import torch

    n_cores = min(available_cores(), torch.get_num_threads())
    return modes_of(n_cores, n_cores)


def lanes_on(device: str) -> int:
    """Batches that are computed at once where nothing else is known."""
    return _modes(device, 1)[0].n_lanes


def _n_lanes(lane_bytes: int) -> int:
    """How many lanes half of the free memory has room for."""
    return 1 + (available_memory() // 2) // max(lane_bytes, 1)


@contextmanager
def _pool(n_threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that a run which ends early does not wait for."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _restored_threads() -> Iterator[None]:
    """What lanes set for the whole process is afterwards what it was."""
    import torch

    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
