"""What is kept of images that were hashed: no more than fits, each once, until it is taken."""

from __future__ import annotations

import pickle
import tracemalloc

from dvme.data.encoded import Encoded
from dvme.data.spool import MOST_BYTES, Spool, spool_bytes


def test_spool__keeps_what_fits_until_it_is_taken() -> None:
    spool = Spool(10)
    first, second, third = (Encoded(bytes([n]) * size) for n, size in enumerate((6, 5, 4)))
    for name, image in ((b"1", first), (b"2", second), (b"3", third), (b"1", second)):
        spool.keep(name, image)
    assert spool.take(b"2") is None, "6 + 5 are more than 10"
    assert spool.take(b"1") is first
    assert spool.take(b"1") is None
    spool.keep(b"2", second)
    assert (spool.take(b"2"), spool.take(b"3")) == (second, third)


def test_spool__frames_of_one_file_count_once() -> None:
    spool, data = Spool(10), b"x" * 10
    for frame in range(5):
        spool.keep(bytes([frame]), Encoded(data, frame))
    spool.keep(b"other", Encoded(b"y"))
    assert spool.take(b"other") is None
    assert [spool.take(bytes([frame])) for frame in range(5)] == [Encoded(data, frame) for frame in range(5)]
    spool.keep(b"other", Encoded(b"y" * 10))
    assert spool.take(b"other") is not None


def test_spool__memory_is_bounded_however_many_images_come() -> None:
    spool = Spool(1 << 20)
    tracemalloc.start()
    for number in range(5_000):
        spool.keep(number.to_bytes(16), Encoded(bytes(2_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * (1 << 20)


def test_spool__another_process_gets_none_of_it() -> None:
    spool = Spool(100)
    spool.keep(b"1", Encoded(b"x" * 50))
    sent = pickle.dumps(spool)
    assert len(sent) < 100
    there = pickle.loads(sent)
    assert there.take(b"1") is None
    there.keep(b"1", Encoded(b"x"))
    assert there.take(b"1") is None
    assert spool.take(b"1") is not None


def test_spool_bytes__are_bounded() -> None:
    assert 0 < spool_bytes() <= MOST_BYTES
