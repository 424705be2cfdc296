"""NumPy's formats: any layout of numbers, whole, and never a pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.upkeep.formats.npy import array_blocks, layouts, read_whole


@pytest.fixture
def table() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((9001, 3)).astype(np.float32)


def blocks_of(path: Path, name: str) -> list[NDArray[Any]]:
    return list(array_blocks(path, name, layouts(path)[name])())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_array_blocks__npz_of_either_order(save: Any, order: Any, table: NDArray[np.float32], tmp_path: Path) -> None:
    save(tmp_path / "x.npz", a=np.asarray(table, order=order), b=np.arange(3))
    found = blocks_of(tmp_path / "x.npz", "a")
    assert [len(block) for block in found] == [4096, 4096, 809]
    np.testing.assert_array_equal(np.concatenate(found), table)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i2"])
def test_array_blocks__npy_of_any_dtype(dtype: str, order: Any, table: NDArray[np.float32], tmp_path: Path) -> None:
    values = np.asarray(table * 100, dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", values)
    np.testing.assert_array_equal(np.concatenate(blocks_of(tmp_path / "x.npy", "")), values)


def test_array_blocks__can_be_read_twice(table: NDArray[np.float32], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", table)
    blocks = array_blocks(tmp_path / "x.npy", "", layouts(tmp_path / "x.npy")[""])
    assert [len(block) for block in blocks()] == [len(block) for block in blocks()]


def test_read_whole__text(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.array(["a", "ü", ""]))
    found = layouts(tmp_path / "x.npz")["ids"]
    assert read_whole(tmp_path / "x.npz", "ids", found).tolist() == ["a", "ü", ""]


def test_array_blocks__pickles_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.array(["a", "b"], dtype=object), a=np.zeros(3))
    found = layouts(tmp_path / "x.npz")
    assert found["a"].shape == (3,)
    with pytest.raises(DataError, match=r"ids of .*x.npz holds pickled .* never loaded; save it plain.*dtype=str"):
        array_blocks(tmp_path / "x.npz", "ids", found["ids"])


def test_layouts__encrypted(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros((3, 2)))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        directory = archive.start_dir
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[6] |= 1
    data[directory + 8] |= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"x.npz is encrypted; decrypt it first"):
        layouts(tmp_path / "x.npz")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_layouts__truncated(share: float, table: NDArray[np.float32], tmp_path: Path) -> None:
    for name, save in (("x.npy", np.save), ("x.npz", np.savez)):
        save(tmp_path / name, table)  # type: ignore[operator]
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match=rf"cannot read .*{name}: .*; it may be truncated or of another format"):
            layouts(tmp_path / name)


def test_layouts__header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 512)})
    with pytest.raises(DataError, match="the array has 128 bytes, its header says 2,048,000,000,000,128"):
        layouts(tmp_path / "x.npy")


def test_array_blocks__flipped_bit_in_a_member(table: NDArray[np.float32], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=table)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataError, match="Bad CRC-32"):
        blocks_of(tmp_path / "x.npz", "a")
