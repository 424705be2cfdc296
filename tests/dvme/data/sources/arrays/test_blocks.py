from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import numpy as np
import pytest

from dvme.data.sources.arrays.blocks import Blocks, new_owner


def test_take__of_many_threads_one_reads() -> None:
    blocks, loads, start = Blocks(), list[int](), Barrier(8)

    def load() -> memoryview:
        loads.append(1)
        sleep(0.02)
        return memoryview(b"abc")

    def ask(_: int) -> bytes:
        start.wait()
        return bytes(blocks.take(0, "x", load))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [b"abc"] * 8
    assert len(loads) == 1


def test_take__lets_go_of_what_was_used_longest_ago() -> None:
    blocks, loads = Blocks(most_bytes=25), list[str]()

    def take(name: str) -> None:
        def load() -> np.ndarray:
            loads.append(name)
            return np.zeros(10, np.uint8)

        blocks.take(0, name, load)

    for name in "ababcab":  # c displaces a, then a displaces b, and b displaces c
        take(name)
    assert "".join(loads) == "abcab"
    assert blocks.n_bytes == 20


def test_take__a_failure_is_told_and_not_kept() -> None:
    blocks = Blocks()

    def fail() -> memoryview:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        blocks.take(0, "x", fail)
    assert bytes(blocks.take(0, "x", lambda: memoryview(b"back"))) == b"back"


def test_drop__of_one_owner() -> None:
    blocks, (first, second) = Blocks(), (new_owner(), new_owner())
    for owner in (first, second):
        blocks.take(owner, "x", lambda: memoryview(b"abc"))
    blocks.drop(first)
    assert blocks.n_bytes == 3
    assert bytes(blocks.take(first, "x", lambda: memoryview(b"new"))) == b"new"
    assert bytes(blocks.take(second, "x", lambda: memoryview(b"new"))) == b"abc"


def test_take_ahead__is_read_once_and_a_failure_is_told_later() -> None:
    blocks, loads = Blocks(), list[int]()

    def load() -> memoryview:
        loads.append(1)
        if len(loads) == 1:
            raise OSError("gone")
        return memoryview(b"abc")

    for expected in (1, 2):
        blocks.take_ahead(0, "x", load)
        blocks._reader.submit(int).result()
        assert len(loads) == expected
    blocks.take_ahead(0, "x", load)
    assert bytes(blocks.take(0, "x", load)) == b"abc"
    assert len(loads) == 2
