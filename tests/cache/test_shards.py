"""Shard files: the bytes that plain zarr writes, any row readable by itself, and what is torn is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from dvme_cache.files import LocalFiles
from dvme_cache.protocol import Run
from dvme_cache.shards import READ_THROUGH, ShardFiles, TornShardError

N_ROWS = 200
KINDS = [("float32", (3,)), ("float16", (5,)), ("float16", (1,)), ("uint32", ()), ("uint8", ())]


def random_rows(dtype: str, row_shape: tuple[int, ...], seed: int = 0, n_rows: int = N_ROWS) -> NDArray[Any]:
    """Any bits whatever, NaN and subnormals among them."""
    n_bytes = n_rows * int(np.prod(row_shape, dtype=int)) * np.dtype(dtype).itemsize
    raw = np.random.default_rng(seed).integers(0, 256, n_bytes, dtype=np.uint8)
    return raw.view(np.dtype(dtype).newbyteorder("<")).reshape(n_rows, *row_shape)


def shard_files(path: Path, dtype: str = "float32", row_shape: tuple[int, ...] = (3,)) -> ShardFiles:
    return ShardFiles(LocalFiles(path), "m/features", n_rows=N_ROWS, dtype=dtype, row_shape=row_shape)


def by_zarr(path: Path, dtype: str, row_shape: tuple[int, ...], n_rows: int) -> zarr.Array[Any]:
    return zarr.create_array(
        path / "m" / "features",
        shape=(n_rows, *row_shape),
        chunks=(N_ROWS, *row_shape),
        dtype=dtype,
        compressors=[Crc32cCodec()],
        fill_value=0,
    )


@pytest.fixture(scope="module")
def written(scratch: Path) -> ShardFiles:
    """Shard 2 of random rows."""
    shards = shard_files(scratch / "shards")
    shards.write(2, random_rows("float32", (3,)))
    return shards


@pytest.mark.parametrize(("dtype", "row_shape"), KINDS)
def test_write__the_files_that_zarr_writes(tmp_path: Path, dtype: str, row_shape: tuple[int, ...]) -> None:
    array = by_zarr(tmp_path / "zarr", dtype, row_shape, 2 * N_ROWS)
    shards = shard_files(tmp_path / "ours", dtype, row_shape)
    for shard in range(2):
        rows = random_rows(dtype, row_shape, seed=shard)
        array[shard * N_ROWS : (shard + 1) * N_ROWS] = rows
        shards.write(shard, rows)
        ours = (tmp_path / "ours" / shards.key(shard)).read_bytes()
        assert ours == (tmp_path / "zarr" / shards.key(shard)).read_bytes()
        assert len(ours) == shards.file_bytes
    assert sorted(LocalFiles(tmp_path / "zarr").sizes("m/features/c")) == [shards.key(0), shards.key(1)]


@pytest.mark.parametrize(("dtype", "row_shape"), KINDS)
def test_read__what_zarr_wrote(tmp_path: Path, dtype: str, row_shape: tuple[int, ...]) -> None:
    """The last chunk of an array that ends within it is stored whole, too."""
    rows = random_rows(dtype, row_shape, n_rows=N_ROWS + 3)
    by_zarr(tmp_path, dtype, row_shape, N_ROWS + 3)[:] = rows
    shards = shard_files(tmp_path, dtype, row_shape)
    first, last = shards.read(0), shards.read(1)
    assert first is not None
    assert last is not None
    assert first.tobytes() + last[:3].tobytes() == rows.tobytes()
    assert last.shape == (N_ROWS, *row_shape)
    assert shards.read(2) is None


def test_write__any_memory_order_and_byte_order(tmp_path: Path) -> None:
    shards, rows = shard_files(tmp_path), np.random.default_rng(0).random((N_ROWS, 3), dtype=np.float32)
    for given_rows in (np.asfortranarray(rows), rows.astype(">f4"), np.repeat(rows, 2, axis=0)[::2]):
        shards.write(0, given_rows)
        read = shards.read(0)
        assert read is not None
        assert read.tobytes() == rows.tobytes()


@pytest.mark.parametrize("keep", [0, 3, 4, 1200, N_ROWS * 12, N_ROWS * 12 + 3])
def test_read__a_torn_file(tmp_path: Path, keep: int) -> None:
    shards = shard_files(tmp_path)
    shards.write(0, random_rows("float32", (3,)))
    file = tmp_path / shards.key(0)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(TornShardError, match=f"m/features/c/0/0 is torn: {keep:,} of 2,404 bytes"):
        shards.read(0)
    file.write_bytes(bytes(5000))
    with pytest.raises(TornShardError, match="is torn: 5,000 of 2,404 bytes"):
        shards.read(0)


@given(bit=st.integers(0, 8 * (N_ROWS * 12 + 4) - 1))
def test_read__any_flipped_bit(scratch: Path, written: ShardFiles, bit: int) -> None:
    shards = shard_files(scratch / "flipped")
    content = bytearray(written._files.read(written.key(2)) or b"")
    content[bit // 8] ^= 1 << bit % 8
    shards._files.write(shards.key(0), [bytes(content)])
    with pytest.raises(TornShardError, match="m/features/c/0/0 is flipped: its checksum does not match"):
        shards.read(0)


@given(st.sets(st.integers(0, N_ROWS - 1), min_size=1) | st.sets(st.integers(0, N_ROWS - 1), min_size=1, max_size=4))
def test_read_rows__any_rows(written: ShardFiles, places: set[int]) -> None:
    wanted = sorted(places)
    out = np.empty((len(wanted), 3), dtype="<f4")
    written.read_rows(2, np.array(wanted), out)
    table = random_rows("float32", (3,))
    for row, place in zip(out, wanted, strict=True):
        assert row.tobytes() == table[place].tobytes()


@pytest.mark.parametrize(
    "places",
    [
        [0],
        [N_ROWS - 1],
        [0, N_ROWS - 1],
        range(N_ROWS),
        range(0, N_ROWS, 2),
        [0, 2 * READ_THROUGH - 1],  # dense, just so: read through
        [0, 2 * READ_THROUGH],  # sparse, just so: two reads
        [5, 6, 7, 100, 101, 199],
    ],
)
@pytest.mark.parametrize(("dtype", "row_shape"), KINDS)
def test_read_rows__by_hand(tmp_path: Path, dtype: str, row_shape: tuple[int, ...], places: list[int] | range) -> None:
    shards, rows = shard_files(tmp_path, dtype, row_shape), random_rows(dtype, row_shape)
    shards.write(0, rows)
    around = np.zeros((len(places) + 2, *row_shape), dtype=shards.dtype)
    shards.read_rows(0, np.array(places), around[1:-1])
    assert around[1:-1].tobytes() == b"".join(rows[place].tobytes() for place in places)
    assert not around[[0, -1]].any(), "nothing beside it is touched"


@pytest.mark.parametrize(
    ("places", "runs"),
    [
        ([3], [(3, 1)]),
        ([3, 4, 5], [(3, 3)]),
        ([0, 2 * READ_THROUGH - 1], [(0, 2 * READ_THROUGH)]),
        ([0, 2 * READ_THROUGH], [(0, 1), (2 * READ_THROUGH, 1)]),
        ([5, 6, 7, 150, 199], [(5, 3), (150, 1), (199, 1)]),
    ],
)
def test_read_rows__skips_large_gaps_only(tmp_path: Path, places: list[int], runs: list[tuple[int, int]]) -> None:
    asked: list[tuple[int, int]] = []

    class Watched(LocalFiles):
        def read_into(self, key: str, runs: Sequence[Run]) -> None:
            asked.extend((start // 12, len(buffer) // 12) for start, buffer in runs)
            super().read_into(key, runs)

    shards = ShardFiles(Watched(tmp_path), "m/features", n_rows=N_ROWS, dtype="float32", row_shape=(3,))
    shards.write(0, random_rows("float32", (3,)))
    shards.read_rows(0, np.array(places), np.empty((len(places), 3), dtype="<f4"))
    assert asked == runs


def test_read_rows__of_a_torn_file(tmp_path: Path) -> None:
    shards, rows = shard_files(tmp_path), random_rows("float32", (3,))
    shards.write(0, rows)
    file = tmp_path / shards.key(0)
    file.write_bytes(file.read_bytes()[: 12 * 50 + 11])
    out = np.empty((2, 3), dtype="<f4")
    shards.read_rows(0, np.array([0, 49]), out)
    assert out.tobytes() == rows[[0, 49]].tobytes(), "what lies before the tear can still be read"
    for places in ([0, 50], [49, 50], [199]):
        with pytest.raises(TornShardError, match="m/features/c/0/0 is torn"):
            shards.read_rows(0, np.array(places), out[: len(places)])
    with pytest.raises(TornShardError, match="m/features/c/1/0 is gone"):
        shards.read_rows(1, np.array([0]), out[:1])


@pytest.mark.parametrize("n_bytes", [0, 11, 12, 12 * 77 + 5, 12 * N_ROWS, 12 * N_ROWS + 4, 12 * N_ROWS + 99])
def test_remains__whole_rows_before_the_tear(tmp_path: Path, n_bytes: int) -> None:
    shards, rows = shard_files(tmp_path), random_rows("float32", (3,))
    shards.write(0, rows)
    file = tmp_path / shards.key(0)
    file.write_bytes((file.read_bytes() + bytes(99))[:n_bytes])
    remains, whole = shards.remains(0, np.nan), min(n_bytes // 12, N_ROWS)
    assert remains[:whole].tobytes() == rows[:whole].tobytes()
    assert np.isnan(remains[whole:]).all()
    assert remains.shape == (N_ROWS, 3)


def test_remains__of_no_file(tmp_path: Path) -> None:
    shards = shard_files(tmp_path, "uint32", ())
    assert shards.remains(0, 7).tolist() == [7] * N_ROWS


def test_delete__twice_is_fine(tmp_path: Path) -> None:
    shards = shard_files(tmp_path)
    shards.write(0, random_rows("float32", (3,)))
    for _ in range(2):
        shards.delete(0)
        assert shards.read(0) is None
