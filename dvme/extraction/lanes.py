"""Lanes: workers that take the next images, embed them by every backbone, and wait for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
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
class Work:
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
    alike: set[tuple[int, int, int]] = field(default_factory=set)
    """Backbone, images and threads of which it is known that they give the bits of one thread."""

    def way_of(self, gathering: Gathering) -> int:
        """Which of the decoder's ways is a backbone's."""
        return list(self.decoder.ways).index(Way.of(gathering.target.model.spec))


class Lane(threading.Thread):
    """Takes portions until it is stopped or none is left. A daemon: an interrupted run does not wait for it."""

    def __init__(self, work: Work, models: Sequence[Backbone], mode: Mode, stop: threading.Event) -> None:
        super().__init__(name="lane", daemon=True)
        self._work, self._models, self._mode, self._stop_event = work, models, mode, stop
        self._ways = [work.way_of(gathering) for gathering in work.gatherings]
        self._is_on_cpu = models[0].device.type == "cpu"

    def run(self) -> None:
        """Work; whatever is wrong becomes an event."""
        error: BaseException | None = None
        try:
            if self._is_on_cpu:
                _use_threads(self._mode.n_threads)
            while not self._stop_event.is_set() and (portion := self._work.supply.take()) is not None:
                self._do(portion)
        except BaseException as caught:  # noqa: BLE001 - it is raised by the thread that reads the events
            error = caught
        self._tell(Ended(error))

    def _do(self, portion: list[tuple[int, Future[Begun]]]) -> None:
        work = self._work
        rows = np.array([row for row, _ in portion], dtype=np.int64)
        prepared = self._prepared([future.result() for _, future in portion])
        for index, gathering in enumerate(work.gatherings):
            contents = [each.contents[self._ways[index]] for each in prepared]
            for batch in gathering.arrived(rows, contents):
                commit = gathering.embedded(batch, self._embed(index, batch))
                self._tell(Embedded(index, len(batch.rows), commit))
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
            return [decode(each) for each in begun]
        return list(self._work.decoders.map(decode, begun))

    def _embed(self, index: int, batch: Batch) -> NDArray[Any] | None:
        """(P, D) of the rows that have pixels."""
        pixels = batch.pixels
        if pixels is None:
            return None
        features = _embedded(self._models[index], pixels)
        key = index, len(pixels), self._mode.n_threads
        if self._is_on_cpu and self._mode.n_threads > 1 and key not in self._work.alike:
            return self._as_by_one_thread(index, pixels, features)
        return features

    def _as_by_one_thread(self, index: int, pixels: NDArray[np.uint8], features: NDArray[Any]) -> NDArray[Any]:
        """Compare, once for each size of a batch, with what one thread gives, which is what counts."""
        _use_threads(1)
        alone = _embedded(self._models[index], pixels)
        if np.array_equal(alone, features, equal_nan=True):
            self._work.alike.add((index, len(pixels), self._mode.n_threads))
            _use_threads(self._mode.n_threads)
        else:
            self._tell(Differs(self._mode))
            self._mode = Mode(self._mode.n_lanes, 1)
        return alone


def _embedded(model: Backbone, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    import torch

    found: NDArray[Any] = model.embed(torch.from_numpy(pixels)).cpu().numpy()
    return found


def _use_threads(n_threads: int) -> None:
    """In the operations that this thread calls."""
    import torch

    torch.set_num_threads(n_threads)
