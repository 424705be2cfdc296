"""Lanes: workers that take the next images, embed them by every backbone, and wait for nobody."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Full, Queue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data.decoded import Told
from dvme.data.encoded import Encoded
from dvme.extraction.decoding import Decoder, Prepared, Supply, Unread, Way
from dvme.extraction.gathering import Batch, Gathering
from dvme.extraction.pace import Mode
from dvme.extraction.staging import Pending, Stage

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

LOOK_EVERY_S = 1.0
Begun = Encoded | Unread | Prepared


@dataclass(frozen=True)
class Embedded:
    """A batch of a backbone is done."""

    target: int
    n_rows: int
    commit: Callable[[], None] | None
    """What stores the shard, if it is complete by this."""


@dataclass(frozen=True)
class Finished:
    """A portion is done."""

    n_images: int
    at: float
    told: dict[int, tuple[Told, ...]]
    """Row to what there is to say about its range of grey, where there is something."""


@dataclass(frozen=True)
class Ended:
    """A lane takes no more, or cannot go on."""

    error: BaseException | None


@dataclass(frozen=True)
class Differs:
    """More threads give other bits than one."""

    mode: Mode


Event = Embedded | Finished | Ended | Differs


@dataclass
class Shared:
    """What all lanes of a run share."""

    supply: Supply[Begun]
    decoder: Decoder
    gatherings: Sequence[Gathering]
    events: Queue[Event]
    """Of few places, so that no lane runs far ahead of the commits."""
    decoders: Executor
    """Threads that decode one portion together, where a lane has more threads than one."""
    has_ended: threading.Event = field(default_factory=threading.Event)
    """Set once nobody reads the events any more."""
    lanes: list[Lane] = field(default_factory=list)
    """All that were started."""
    alike: set[tuple[int, int, int]] = field(default_factory=set)
    """Backbone, images and threads of which it is known that they give the bits of one thread."""

    def way_of(self, gathering: Gathering) -> int:
        """Which of the decoder's ways is a backbone's."""
        return list(self.decoder.ways).index(Way.of(gathering.target.model.spec))

    def end(self) -> None:
        """Wait for the batches that are being computed; none is begun any more."""
        self.has_ended.set()
        for lane in self.lanes:
            lane.halt()


class Lane(threading.Thread):
    """Takes portions until it is stopped or none is left.

    A daemon: an interrupted run does not wait for a file that hangs. It waits for what is being computed, because
    Python aborts a process that exits while a daemon is inside of C++.
    """

    def __init__(self, work: Shared, models: Sequence[Backbone], mode: Mode, stop: threading.Event) -> None:
        super().__init__(name="lane", daemon=True)
        self._work, self._models, self._mode, self._stop_event = work, models, mode, stop
        self._computing = threading.Lock()
        work.lanes.append(self)
        self._ways = [work.way_of(gathering) for gathering in work.gatherings]
        self._is_on_cpu = models[0].device.type == "cpu"
        self._stages = [Stage(model) for model in models]
        self._in_flight: deque[tuple[int, Batch, Pending]] = deque()
        # On other devices the kernels of one batch run while the next is copied.
        self._n_in_flight = 0 if self._is_on_cpu else len(models)

    def run(self) -> None:
        """Work; whatever is wrong becomes an event."""
        error: BaseException | None = None
        try:
            if self._is_on_cpu:
                _use_threads(self._mode.n_threads)
            while not self._stop_event.is_set() and (portion := self._work.supply.take()) is not None:
                self._do(portion)
            self._fetch(0)
        except _HaltedError:
            return
        except BaseException as caught:  # noqa: BLE001 - it is raised by the thread that reads the events
            error = caught
        self._tell(Ended(error))

    def halt(self) -> None:
        """Wait for what is being computed. The lane ends before the next of it, if the run has ended."""
        with self._computing:
            pass

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Around what is computed; never around waiting for others."""
        with self._computing:
            if self._work.has_ended.is_set():
                raise _HaltedError
            yield

    def _do(self, portion: list[tuple[int, Future[Begun]]]) -> None:
        work = self._work
        rows = np.array([row for row, _ in portion], dtype=np.int64)
        prepared = self._prepared([future.result() for _, future in portion])
        for index, gathering in enumerate(work.gatherings):
            contents = [each.contents[self._ways[index]] for each in prepared]
            for batch in gathering.arrived(rows, contents):
                self._put(index, batch)
        told = {row: each.told for row, each in zip(rows.tolist(), prepared, strict=True) if each.told}
        self._tell(Finished(len(rows), time.perf_counter(), told))

    def _tell(self, event: Event) -> None:
        """Wait for a place; of a run that has ended nobody takes the events any more."""
        while True:
            try:
                self._work.events.put(event, timeout=LOOK_EVERY_S)
            except Full:
                if not self._work.has_ended.is_set():
                    continue
            return

    def _prepared(self, begun: Sequence[Begun]) -> list[Prepared]:
        def decode(each: Begun) -> Prepared:
            return each if isinstance(each, Prepared) else self._work.decoder.decode(each)

        if self._mode.n_threads == 1:
            with self._at_work():
                return [decode(each) for each in begun]
        return list(self._work.decoders.map(decode, begun))

    def _put(self, index: int, batch: Batch) -> None:
        """Embed a batch by a backbone; on other devices than the CPU the result is fetched later."""
        pixels = batch.pixels
        if pixels is None or self._is_on_cpu:
            self._embedded(index, batch, lambda: None if pixels is None else self._features(index, pixels))
            return
        with self._at_work():
            self._in_flight.append((index, batch, self._stages[index].put(pixels)))
        self._fetch(self._n_in_flight)

    def _fetch(self, n_left: int) -> None:
        """Take in the oldest results, until only so many are under way."""
        while len(self._in_flight) > n_left:
            index, batch, pending = self._in_flight.popleft()
            self._embedded(index, batch, pending.result)

    def _embedded(self, index: int, batch: Batch, compute: Callable[[], NDArray[Any] | None]) -> None:
        """A batch that is computed is kept, also if the run ends meanwhile."""
        with self._at_work():
            commit = self._work.gatherings[index].embedded(batch, compute())
        self._tell(Embedded(index, len(batch.rows), commit))

    def _features(self, index: int, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """(P, D), at once."""
        if self._mode.n_threads > 1 and (index, len(pixels), self._mode.n_threads) not in self._work.alike:
            return self._as_by_one_thread(index, pixels)
        return self._stages[index].put(pixels).result()

    def _as_by_one_thread(self, index: int, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Compare, once for each size of a batch, with what one thread gives, which is what counts."""
        features = self._stages[index].put(pixels).result()
        _use_threads(1)
        alone = self._stages[index].put(pixels).result()
        if np.array_equal(alone, features, equal_nan=True):
            self._work.alike.add((index, len(pixels), self._mode.n_threads))
            _use_threads(self._mode.n_threads)
        else:
            self._tell(Differs(self._mode))
            self._mode = Mode(self._mode.n_lanes, 1)
        return alone


class _HaltedError(Exception):
    """The run has ended."""


def _use_threads(n_threads: int) -> None:
    """In the operations that this thread calls."""
    import torch

    torch.set_num_threads(n_threads)
