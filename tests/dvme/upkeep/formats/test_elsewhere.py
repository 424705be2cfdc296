"""Files that other tools made: what is found without being told, and what must be named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.upkeep.formats import read_elsewhere
from dvme.upkeep.formats.elsewhere import Elsewhere

IDS = ["a.png", "b.png", "ü.png"]
TABLE = np.array([[1.5, -0.0], [2.5, 3.0], [1e-5, 7.0]], dtype=np.float32)


def read(path: Path, features: str | None = None, ids: str | None = None, table: Path | None = None) -> Elsewhere:
    return read_elsewhere(path, features=features, ids=ids, table=table)


def values(found: Elsewhere) -> NDArray[Any]:
    return np.concatenate(list(found.blocks()))


def save_hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture(params=["npz", "h5"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """Save named arrays as .npz or HDF5."""
    if request.param == "npz":
        return lambda **arrays: save_npz(tmp_path / "x.npz", **arrays)
    plain = {"ids": lambda ids: np.array(ids).astype(object) if np.array(ids).dtype.kind == "U" else ids}
    return lambda **arrays: save_hdf5(
        tmp_path / "x.h5",
        **{name: plain["ids"](array) if np.ndim(array) == 1 else array for name, array in arrays.items()},
    )


def test_read_arrays__the_only_ones_that_fit(save: Callable[..., Path]) -> None:
    found = read(save(embeddings=TABLE, names=np.array(IDS), classes=np.array(["x", "y"]), y=np.arange(3)))
    assert (found.ids, found.dim, found.dtype) == (IDS, 2, "float32")
    assert values(found).tobytes() == TABLE.tobytes()


def test_read_arrays__more_than_one_fits(save: Callable[..., Path]) -> None:
    path = save(a=TABLE, b=TABLE[:, :1], names=np.array(IDS), labels=np.array(["x", "y", "x"]))
    with pytest.raises(
        DataError, match=r"has 2 arrays of floats with two axes; it has: a \(3, 2\) float32, b \(3, 1\) "
    ):
        read(path)
    with pytest.raises(DataError, match=r"has 2 arrays of text that fit as ids; .* name one with ids or table$"):
        read(path, features="a")
    assert read(path, "b", "names").dim == 1


def test_read_arrays__none_fits(save: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"has no arrays of floats with two axes; it has: a \(3,\) float64"):
        read(save(a=np.zeros(3)))
    with pytest.raises(DataError, match=r"has no arrays of text that fit as ids; it has: a \(3, 2\) float32"):
        read(save(a=TABLE))


def test_read_arrays__named_one_is_missing_or_wrong(save: Callable[..., Path]) -> None:
    path = save(a=TABLE, names=np.array(IDS), empty=np.zeros((0, 4)), y=np.arange(3))
    with pytest.raises(DataError, match=r"has no 'c'; it has: .*a \(3, 2\) float32.*; name one with features"):
        read(path, "c")
    with pytest.raises(DataError, match=r"y of .* is \(3,\) int64; features are numbers of shape \(images, dims\)"):
        read(path, "y")
    with pytest.raises(DataError, match=r"empty of .* is \(0, 4\) float64; features"):
        read(path, "empty")
    with pytest.raises(DataError, match=r"a of .* is \(3, 2\) float32; ids are text of shape \(images,\)"):
        read(path, "a", "a")
    assert read(path, "a", "y").ids == ["0", "1", "2"]


def test_read_arrays__other_number_of_ids(save: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="has 3 rows of features for 2 ids; each row needs its id, in the same order"):
        read(save(a=TABLE, names=np.array(IDS[:2])))


@pytest.mark.parametrize("name", ["", "  "])
def test_read_arrays__empty_id(name: str, save: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="has 1 rows without an id: rows 2; name the images there"):
        read(save(a=TABLE, names=np.array(["a", name, "b"])))


def test_read_arrays__bytes_are_utf8(tmp_path: Path) -> None:
    assert read(save_npz(tmp_path / "x.npz", a=TABLE, i=np.array([name.encode() for name in IDS]))).ids == IDS
    with pytest.raises(DataError, match=r"cannot read .*x.npz: 'utf-8' codec can't decode"):
        read(save_npz(tmp_path / "x.npz", a=TABLE, i=np.array([b"\xff", b"b", b"c"])))


def test_read_arrays__ids_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 ids that are no text: '\\udc80'; rename these images"):
        read(save_npz(tmp_path / "x.npz", a=TABLE, i=np.array(["\udc80", "b", "c"])))


def test_read_arrays__pickled_ids_are_listed_as_such(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "x.npz", a=TABLE, names=np.array(IDS, dtype=object))
    with pytest.raises(DataError, match=r"no arrays of text that fit as ids; .*names \(3,\) pickled objects"):
        read(path)
    with pytest.raises(DataError, match=r"names of .* holds pickled Python objects"):
        read(path, ids="names")


def test_read_arrays__nested_hdf5(tmp_path: Path) -> None:
    path = save_hdf5(tmp_path / "x.hdf5", run__1__features=TABLE, run__1__ids=np.array(IDS, dtype=object))
    assert read(path, "run/1/features").ids == IDS


def test_read_arrays__npy_with_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TABLE)
    table = tmp_path / "ids.tsv"
    pd.DataFrame({"image": IDS, "label": ["x", " y ", ""], "age": [1, 2, 3]}).to_csv(table, sep="\t", index=False)
    found = read(tmp_path / "x.npy", table=table)
    assert found.ids == IDS
    assert {name: column.tolist() for name, column in found.columns.items()} == {"label": ["x", "y", ""]}
    assert read(tmp_path / "x.npy", ids="age", table=table).ids == ["1", "2", "3"]
    with pytest.raises(DataError, match=r"x.npy holds features and no ids; name a table .* with table"):
        read(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"ids.tsv has no 'nope'; it has: image, label, age; name one with ids"):
        read(tmp_path / "x.npy", ids="nope", table=table)
    with pytest.raises(DataError, match=r"is not a table; give a file of .csv, .* or .xlsm with table"):
        read(tmp_path / "x.npy", table=tmp_path / "x.npy")


def test_read_arrays__table_of_another_length(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", TABLE)
    pd.DataFrame({"image": IDS[:2]}).to_csv(tmp_path / "ids.csv", index=False)
    with pytest.raises(DataError, match=r"ids.csv has 3 rows of features for 2 ids"):
        read(tmp_path / "x.npy", table=tmp_path / "ids.csv")


def wide(prefix: str = "f", n_dims: int = 12) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    numbers = np.random.default_rng(0).standard_normal((3, n_dims))
    return pd.DataFrame({f"{prefix}{axis}": numbers[:, axis] for axis in range(n_dims)}), numbers


@pytest.fixture(params=[".csv", ".tsv", ".parquet"])
def save_table(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[pd.DataFrame], Path]:
    """Save a table in one of the three formats."""

    def save(table: pd.DataFrame) -> Path:
        path = tmp_path / f"x{request.param}"
        if request.param == ".parquet":
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False, sep="\t" if request.param == ".tsv" else ",")
        return path

    return save


def test_read_tables__numbered_columns_in_the_order_of_their_numbers(save_table: Callable[..., Path]) -> None:
    table, numbers = wide()
    table = table[sorted(table.columns)].assign(index=[7, 8, 9], age=[1.5, 2.5, 3.5], name=IDS, label=["x", "1", ""])
    found = read(save_table(table))
    assert (found.ids, found.dim) == (IDS, 12)
    np.testing.assert_array_equal(values(found), numbers)
    assert found.columns["label"].tolist() == ["x", "1", ""]


def test_read_tables__columns_by_what_they_begin_with(save_table: Callable[..., Path]) -> None:
    table, numbers = wide("pc_")
    other, _ = wide("t_", 3)
    path = save_table(
        pd.concat([table, other, pd.DataFrame({"image": IDS, "z_b": [1.0, 2, 3], "z_a": [4.0, 5, 6]})], axis=1)
    )
    with pytest.raises(
        DataError, match=r"has 2 columns that can be the features; it has: pc_ \(12 columns\), t_ \(3 col"
    ):
        read(path)
    np.testing.assert_array_equal(values(read(path, "pc_")), numbers)
    np.testing.assert_array_equal(values(read(path, "z_")), [[1, 4], [2, 5], [3, 6]])
    with pytest.raises(DataError, match="has no 'nope'; it has: pc_"):
        read(path, "nope")


def test_read_tables__one_missing_number_is_no_run(save_table: Callable[..., Path]) -> None:
    table, _ = wide()
    with pytest.raises(DataError, match="has no columns that can be the features"):
        read(save_table(table.drop(columns="f5").assign(image=IDS)))


def test_read_tables__ids(save_table: Callable[..., Path]) -> None:
    table, _ = wide()
    path = save_table(table.assign(number=[1, 2, 3], who=IDS, where=IDS))
    with pytest.raises(DataError, match=r"has 2 columns of ids; it has: .* name one with ids"):
        read(path)
    assert read(path, ids="number").ids == ["1", "2", "3"]
    assert read(path, ids="who").ids == IDS
    assert read(save_table(table.assign(who=IDS, image=IDS[::-1]))).ids == IDS[::-1]
    with pytest.raises(DataError, match="has no columns of ids"):
        read(save_table(table))


def test_read_tables__empty_cell_is_nan(save_table: Callable[..., Path]) -> None:
    table, _ = wide()
    table.loc[1, "f3"] = None
    assert np.argwhere(np.isnan(values(read(save_table(table.assign(image=IDS)))))).tolist() == [[1, 3]]


def test_read_tables__no_rows(save_table: Callable[..., Path]) -> None:
    table, _ = wide()
    empty = table.assign(image=IDS)[:0].astype({"image": str})
    with pytest.raises(DataError, match="has no rows; there is nothing to import"):
        read(save_table(empty), "f", "image")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_read_tables__list_column(dtype: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"who": IDS, "v": list(TABLE.astype(dtype)), "age": [1, 2, 3], "label": [1.0, np.nan, 3.0]})
    table.to_parquet(tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    assert (found.ids, found.dim, found.dtype) == (IDS, 2, dtype)
    np.testing.assert_array_equal(values(found), TABLE.astype(dtype))
    assert found.columns["label"].tolist() == ["1", "", "3"]


def test_read_tables__lists_of_different_lengths(tmp_path: Path) -> None:
    pd.DataFrame({"who": IDS, "v": [[1.0], [1.0, 2.0], [3.0]]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"v of .*x.parquet has lists of different lengths \(1, 2\)"):
        read(tmp_path / "x.parquet")
    pd.DataFrame({"who": IDS, "v": [[1.0], None, [3.0]]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"lists of different lengths \(1, none\)"):
        read(tmp_path / "x.parquet")


def test_read_tables__text_where_a_number_was_promised(tmp_path: Path) -> None:
    lines = ["image,f0,f1", *(f"{row}.png,1.5,2" for row in range(300_000)), "last.png,1.5,oops"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"cannot read .*x.csv: .*'oops'"):
        values(read(tmp_path / "x.csv"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".npy", ".h5"])
@pytest.mark.parametrize("data", [b"", b"not what the suffix says\n\x00\xff,,"])
def test_read_elsewhere__file_of_something_else(suffix: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / f"x{suffix}").write_bytes(data)
    with pytest.raises(DataError, match=f"x{suffix}"):
        read(tmp_path / f"x{suffix}")


def test_read_elsewhere__unknown_suffix_and_stray_table(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"x.pt has no suffix of a format that can be imported; use one of .h5, .hdf5, .npz"
    ):
        read(tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x.csv is a table itself, table is for files of arrays"):
        read(tmp_path / "x.csv", table=tmp_path / "t.csv")
