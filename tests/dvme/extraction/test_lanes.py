"""Lanes and threads: the same bits whoever computes, an end that loses nothing, and how much runs at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import dvme
from dvme.backbones import BackboneSpec, Preprocess
from dvme.data.hashing import hash_files
from dvme.extraction import embedding
from dvme.extraction.decoding import Work
from dvme.extraction.embedding import Extracted, extract_shards
from dvme.extraction.gathering import Target
from dvme.extraction.lanes import Lane
from dvme.extraction.pace import Mode
from dvme.extraction.staging import Stage

N, SIZE = 36, 4
RUNTIME = dvme.Runtime(device="cpu", batch_size=SIZE, workers=2)


class Own(nn.Module):
    """Means of 4 x 4 fields and, times `share`, how many threads were allowed. It notes who ran, and may break."""

    def __init__(self, share: float = 0.0, fails_at: int = -1, seconds: float = 0.0) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.share, self.fails_at, self.seconds = share, fails_at, seconds
        self.seen: list[tuple[int, int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        if len(images) == SIZE:  # one of those of the extraction, and none that looks how large the output is
            self.seen.append((threading.get_ident(), torch.get_num_threads(), len(images)))
            if len(self.seen) == self.fails_at:
                raise RuntimeError("the model broke")
            time.sleep(self.seconds)
        return self.pool(images).flatten(1) + self.share * torch.get_num_threads()


def loaded(module: Own, name: str = "own") -> Any:
    preprocess = Preprocess(resize=16, crop=16)
    return dvme.load_backbone(
        BackboneSpec(
            name=name,
            method="ours",
            architecture="own",
            dim=48,
            pooling="model",
            checkpoint=None,
            preprocess=preprocess,
            licence="MIT",
            paper="ours",
            source="built",
            build=lambda: module,
        )
    )


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(embedding, "available_cores", lambda: 2)
    yield
    assert torch.get_num_threads() == 2, "an extraction leaves the program's setting as it was"
    torch.set_num_threads(before)


@pytest.fixture
def work(class_folders: Path) -> list[Work]:
    paths = sorted(class_folders.rglob("*.png"))
    digests = [each for each in hash_files(paths, 2, lambda *_: None) if isinstance(each, bytes)]
    return [Work(row, path, digest) for row, (path, digest) in enumerate(zip(paths, digests, strict=True))]


class Kept:
    """What was committed, row by row."""

    def __init__(self, breaks_at: int = -1, seconds: float = 0.0) -> None:
        self.rows: dict[int, NDArray[Any]] = {}
        self.n_commits, self._breaks_at, self._seconds = 0, breaks_at, seconds
        self._lock = threading.Lock()
        self.n_at_once = self.most_at_once = 0

    def __call__(self, rows: NDArray[Any], features: NDArray[Any], failed: Mapping[int, str]) -> None:
        assert not failed
        with self._lock:
            self.n_commits += 1
            self.n_at_once += 1
            self.most_at_once = max(self.most_at_once, self.n_at_once)
            if self.n_commits >= self._breaks_at > 0:
                raise OSError(28, "No space left on device")
        time.sleep(self._seconds)
        with self._lock:
            self.n_at_once -= 1
            self.rows |= dict(zip(rows.tolist(), features.copy(), strict=True))

    def array(self) -> NDArray[Any]:
        return np.stack([self.rows[row] for row in sorted(self.rows)])


def run(
    work: list[Work],
    modules: list[Own],
    kept: list[Kept],
    tell: Callable[[int, int], None] = lambda *_: None,
    **options: Any,
) -> Extracted:
    shards = [np.arange(start, min(start + 8, N)) for start in range(0, N, 8)]
    targets = [Target(loaded(module), shards, "float32", keep) for module, keep in zip(modules, kept, strict=True)]
    for module in modules:
        module.seen.clear()
    return extract_shards(targets, lambda rows: [work[row] for row in rows], RUNTIME, tell, **options)


@pytest.mark.parametrize("modes", [[Mode(1, 1)], [Mode(2, 1)], [Mode(1, 2)], [Mode(2, 1), Mode(1, 2)]])
def test_extract_shards__the_same_bits_in_every_mode(
    modes: list[Mode], work: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "modes_of", lambda *_: modes)
    module, kept = Own(), Kept()
    run(work, [module], [kept])
    pixels = torch.from_numpy(np.stack([crop(item) for item in work]))
    torch.set_num_threads(1)
    alone = loaded(Own()).embed(pixels).numpy()
    torch.set_num_threads(2)
    np.testing.assert_array_equal(kept.array(), alone)
    assert {n_threads for _, n_threads, _ in module.seen} <= {1, *(mode.n_threads for mode in modes)}


def crop(item: Work) -> NDArray[np.uint8]:
    from dvme.backbones.model.preprocess import crop_image
    from dvme.data import decode_image

    return crop_image(decode_image(item.path.read_bytes()), Preprocess(resize=16, crop=16))


def test_extract_shards__lanes_run_at_the_same_time(work: list[Work]) -> None:
    module = Own(seconds=0.02)
    run(work, [module], [Kept()])
    assert len({lane for lane, *_ in module.seen}) == 2
    assert {n_threads for _, n_threads, _ in module.seen} == {1}
    assert len(module.seen) == N // SIZE


def test_extract_shards__a_model_whose_bits_depend_on_threads_gets_one(
    work: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "modes_of", lambda *_: [Mode(1, 2), Mode(1, 1)])
    plain, own = Kept(), Kept()
    run(work, [Own()], [plain])
    module = Own(share=1e-3)
    run(work, [module], [own])
    np.testing.assert_allclose(own.array(), plain.array() + 1e-3, rtol=0, atol=1e-6)  # never 2e-3, that of two threads
    assert [n_threads for _, n_threads, _ in module.seen[:2]] == [2, 1], "the first batch was compared"
    assert {n_threads for _, n_threads, _ in module.seen[2:]} == {1}


def test_extract_shards__a_model_that_breaks_ends_the_run_and_keeps_whole_batches(work: list[Work]) -> None:
    kept = Kept()
    with pytest.raises(RuntimeError, match="the model broke"):
        run(work, [Own(fails_at=6)], [kept])
    assert len(kept.rows) % SIZE == 0
    assert len(kept.rows) >= 4 * SIZE  # those before, but for one that the other lane may be at


def test_extract_shards__a_full_disk_ends_the_run(work: list[Work]) -> None:
    good, bad = Kept(), Kept(breaks_at=2)
    with pytest.raises(OSError, match="No space left"):
        run(work, [Own(), Own()], [good, bad])
    assert len(bad.rows) == 8
    assert len(good.rows) >= 8


def test_extract_shards__interrupted_while_a_lane_is_busy(work: list[Work]) -> None:
    """Ctrl-C does not wait for batches under way, and what was told to be done is kept."""
    told: list[int] = []

    def interrupt(_: int, n_done: int) -> None:
        told.append(n_done)
        if n_done >= 12:
            raise KeyboardInterrupt

    kept, started = Kept(), time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run(work, [Own(seconds=0.3)], [kept], interrupt)
    assert time.perf_counter() - started < 0.3 * N / SIZE / 2 + 2
    assert len(kept.rows) >= told[-1]
    assert len(kept.rows) % SIZE == 0


def test_extract_shards__interrupted_while_it_waits_for_commits(
    work: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has taken over yet is kept as well: of a slow store that is where Ctrl-C finds a run."""
    rooms: list[object] = []

    class Room(threading.BoundedSemaphore):
        def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
            rooms.append(self)
            if len(rooms) == 3:
                raise KeyboardInterrupt
            return super().acquire(blocking, timeout)

    monkeypatch.setattr(threading, "BoundedSemaphore", Room)
    monkeypatch.setattr(embedding, "modes_of", lambda *_: [Mode(1, 1)])
    kept, told = Kept(), list[int]()
    with pytest.raises(KeyboardInterrupt):
        run(work, [Own(seconds=0.05)], [kept], lambda _, n_done: told.append(n_done))
    assert told[-1] == 20  # the batch with which the third shard was complete is not counted
    assert len(kept.rows) >= 24


def test_extract_shards__several_shards_are_committed_at_a_time_where_that_suits(work: list[Work]) -> None:
    for n_writers in (1, 4):
        kept = Kept(seconds=0.05)
        run(work, [Own()], [kept], n_writers=n_writers)
        assert len(kept.rows) == N
        assert kept.most_at_once == 1 if n_writers == 1 else 1 < kept.most_at_once <= 4


def test_extract_shards__slow_commits_hold_the_lanes_back(work: list[Work]) -> None:
    """No more shards wait in memory than a few; all of them are there in the end."""
    embedding_of, kept = Own(), Kept(seconds=0.1)
    n_ahead: list[int] = []
    run(work, [embedding_of], [kept], lambda _, n_done: n_ahead.append(n_done - len(kept.rows)))
    assert len(kept.rows) == N
    assert max(n_ahead) <= 8 * (1 + embedding.COMMITS_WAITING + 2)


def test_extract_shards__little_memory_starts_one_lane_first(work: list[Work], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "available_memory", lambda: 1 << 20)
    monkeypatch.setattr(embedding, "resident_memory", iter([0, 1 << 20, *[1 << 20] * 99]).__next__)
    module, kept = Own(seconds=0.01), Kept()
    run(work, [module], [kept])
    assert len({lane for lane, *_ in module.seen}) == 1
    assert len(kept.rows) == N


def test_extract_shards__nothing_to_do(work: list[Work]) -> None:
    target = Target(loaded(Own()), [], "float32", Kept())
    done = extract_shards([target], lambda _: [], RUNTIME, lambda *_: None)
    assert (done.unread, done.told, done.seconds) == ([{}], {}, [0.0])


def test_extract_shards__each_device_has_models_of_its_own(work: list[Work]) -> None:
    """Torch tells processors apart by number, so that what several devices do can be seen without any."""
    kept, shards = Kept(), [np.arange(N)]
    target = Target(loaded(Own(seconds=0.01)), shards, "float32", kept)
    runtime = dvme.Runtime(device="cpu:0,cpu:1", batch_size=SIZE, workers=2)
    first, second = embedding._replicas([target.model], runtime)
    assert (first[0], second[0].device) == (target.model, torch.device("cpu:1"))
    assert second[0].embed(torch.zeros(1, 16, 16, 3, dtype=torch.uint8)).shape == (1, 48)
    assert second[0].fingerprint("float32") == first[0].fingerprint("float32")
    extract_shards([target], lambda rows: [work[row] for row in rows], runtime, lambda *_: None)
    alone = Kept()
    run(work, [Own()], [alone])
    np.testing.assert_array_equal(kept.array(), alone.array())


class Elsewhere(Lane):
    """A lane as it is on another device, whose streams are stood in for by torch's of the CPU."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._is_on_cpu, self._n_in_flight = False, len(self._models)
        self._stages = [Stage(model, is_overlapping=True) for model in self._models]


def test_extract_shards__embeddings_on_their_way_from_another_device(
    work: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch of each backbone is fetched as well, and progress is told of what is there."""
    monkeypatch.setattr(embedding, "modes_of", lambda *_: [Mode(1, 1)])
    plain, kept, told = Kept(), [Kept(), Kept()], list[tuple[int, int]]()
    run(work, [Own()], [plain])
    monkeypatch.setattr(embedding, "Lane", Elsewhere)
    run(work, [Own(), Own()], kept, lambda target, n_done: told.append((target, n_done)))
    for each in kept:
        np.testing.assert_array_equal(each.array(), plain.array())
    assert told[-2:] == [(0, N), (1, N)]
