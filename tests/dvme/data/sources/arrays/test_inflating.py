from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dvme.data.sources.arrays import inflating
from dvme.data.sources.arrays.inflating import Inflated, Packed

DATA = np.random.default_rng(0).integers(0, 60, 900_000, dtype=np.uint8).tobytes()


@pytest.fixture
def packed(tmp_path: Path) -> Iterator[Packed]:
    """A stream that lies 7 bytes behind the beginning of its file."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    stream = deflate.compress(DATA) + deflate.flush()
    (tmp_path / "file").write_bytes(b"1234567" + stream + b"more")
    file = os.open(tmp_path / "file", os.O_RDONLY)
    yield Packed(file, 7, len(stream), len(DATA), zlib.crc32(DATA))
    os.close(file)


@pytest.mark.parametrize("spacing", [10_000, 10**9])
def test_read__from_anywhere(packed: Packed, spacing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "LEAST_SPACING", spacing)
    stream, random = Inflated(packed), np.random.default_rng(1)
    for start in (0, 5, len(DATA) - 100, *random.integers(0, len(DATA) - 100, 40).tolist()):
        assert stream.read(start, 100) == DATA[start : start + 100]
    assert stream.read(0, len(DATA)) == DATA


def test_read__back_to_a_mark_inflates_little(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflating, "LEAST_SPACING", 50_000)
    stream = Inflated(packed)
    stream.read(0, len(DATA))
    n_read: list[int] = []
    pread = inflating.pread
    monkeypatch.setattr(inflating, "pread", lambda file, n, at: n_read.append(n) or pread(file, n, at))
    assert stream.read(500_000, 10) == DATA[500_000:500_010]
    assert sum(n_read) <= 4 * inflating.PIECE


def test_read__a_flipped_bit_is_told_once_all_was_read(packed: Packed) -> None:
    wrong = Inflated(Packed(packed.file, packed.start, packed.n_packed, packed.n_bytes, packed.crc ^ 1))
    assert wrong.read(0, 10) == DATA[:10]
    for _ in range(2):
        with pytest.raises(OSError, match="its checksum does not fit"):
            wrong.read(0, len(DATA))


@pytest.mark.parametrize(("n_packed", "start", "reason"), [(1000, 7, "ends early"), (None, 9, "damaged")])
def test_read__cut_short_or_of_other_bytes(packed: Packed, n_packed: int | None, start: int, reason: str) -> None:
    stream = Inflated(Packed(packed.file, start, n_packed or packed.n_packed, packed.n_bytes, packed.crc))
    with pytest.raises(OSError, match=reason):
        stream.read(0, len(DATA))
