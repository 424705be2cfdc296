"""Cells as text and headers as people write them, from every kind of table, with pandas and pyarrow as peers."""

from __future__ import annotations

import datetime
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dvme.cache import import_embeddings, label
from dvme.data import Columns, load_samples
from dvme.data.cells import as_texts
from dvme.data.tables import read_table
from dvme.errors import DataError
from dvme.upkeep.formats import read_elsewhere
from dvme_cache import EmbeddingCache

BIG = 2**53 + 1
"""The first whole number that a float cannot hold."""
DAY = datetime.date(2024, 1, 31)

COLUMNS = {
    "int64 beside nothing": (pa.array([BIG, None, BIG - 1], pa.int64()), [str(BIG), "", str(BIG - 1)]),
    "uint64": (pa.array([2**64 - 1, None, 2**64 - 2], pa.uint64()), [str(2**64 - 1), "", str(2**64 - 2)]),
    "int8": (pa.array([-3, 0, None], pa.int8()), ["-3", "0", ""]),
    "decimal": (pa.array([Decimal(BIG), None, Decimal(7)], pa.decimal128(38, 0)), [str(BIG), "", "7"]),
    "decimal with zeros": (pa.array([Decimal("12.00"), None], pa.decimal128(9, 2)), ["12", ""]),
    "decimal with a part": (pa.array([Decimal("12.50"), Decimal("3.00")], pa.decimal128(9, 2)), ["12.50", "3.00"]),
    "bool": (pa.array([True, None, False]), ["True", "", "False"]),
    "date": (pa.array([DAY, None], pa.date32()), ["2024-01-31", ""]),
    "midnights": (pa.array([datetime.datetime(2024, 1, 31), None], pa.timestamp("ns")), ["2024-01-31", ""]),
    "times": (
        pa.array([datetime.datetime(2024, 1, 31, 5), datetime.datetime(2024, 2, 1)], pa.timestamp("us")),
        ["2024-01-31 05:00:00", "2024-02-01 00:00:00"],
    ),
    "whole floats": (pa.array([1.0, None, float("nan"), 12.0]), ["1", "", "", "12"]),
    "floats": (pa.array([0.5, None, 1.0]), ["0.5", "", "1.0"]),
    "short floats": (pa.array([np.float32(0.1), None], pa.float32()), ["0.1", ""]),
    "huge floats": (pa.array([1e20, 2.0]), ["1e+20", "2.0"]),
    "infinite": (pa.array([float("inf"), 2.0]), ["inf", "2.0"]),
    "large_string": (pa.array([" a ", None, "NA"], pa.large_string()), ["a", "", "NA"]),
    "category": (pa.array(["x", None, "x"]).dictionary_encode(), ["x", "", "x"]),
    "category of numbers": (pa.array([BIG, None, 5]).dictionary_encode(), [str(BIG), "", "5"]),
    "bytes": (pa.array([b"a", None, "é".encode()]), ["a", "", "é"]),
    "nothing": (pa.array([None, None]), ["", ""]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_as_texts__every_type(kind: str, tmp_path: Path) -> None:
    array, expected = COLUMNS[kind]
    assert as_texts(pa.chunked_array([array[:1], array[1:]])) == expected
    pq.write_table(pa.table({"group": array}), tmp_path / "m.parquet")
    assert read_table(tmp_path / "m.parquet").texts("group") == expected


@pytest.mark.parametrize("array", [pa.array([[1, 2], None]), pa.array([{"a": 1}]), pa.array([b"\xff"])])
def test_as_texts__what_is_no_text(array: pa.Array) -> None:
    with pytest.raises(DataError, match=r"m\.parquet has a column 'x' of .* which is no text; choose another"):
        as_texts(pa.chunked_array([array]), "x", "m.parquet")


@pytest.mark.parametrize("kind", ["int64 beside nothing", "uint64", "decimal", "bool", "category of numbers"])
def test_labels_are_spelled_alike_on_every_route(kind: str, tmp_path: Path) -> None:
    array, expected = COLUMNS[kind]
    names = [f"{index}.png" for index in range(len(array))]
    for name in names:
        (tmp_path / name).touch()
    table = pa.table({"image": names, "label": array, "f0": [0.0] * len(names), "f1": [1.0] * len(names)})
    pq.write_table(table, tmp_path / "m.parquet")
    assert load_samples(tmp_path / "m.parquet").labels == expected
    found = read_elsewhere(tmp_path / "m.parquet", features=None, ids=None, table=None)
    assert found.columns["label"].tolist() == expected
    np.save(tmp_path / "f.npy", np.zeros((len(names), 2), np.float32))
    beside = read_elsewhere(tmp_path / "f.npy", features=None, ids=None, table=tmp_path / "m.parquet")
    assert beside.columns["label"].tolist() == expected
    import_embeddings(tmp_path / "m.parquet", tmp_path / "c.zarr", backbone="mine")
    label(tmp_path / "c.zarr", tmp_path / "m.parquet", image_root=tmp_path / "nowhere")  # by names alone
    assert EmbeddingCache.open(tmp_path / "c.zarr").column("label").tolist() == expected
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    frame.to_csv(tmp_path / "m.csv", index=False)
    assert load_samples(tmp_path / "m.csv").labels == expected  # pandas' own spelling


HEADERS = [
    '"image" ,"label"',
    "image , Label",
    "Image,\u00a0label\u00a0",
    "IMAGE,LABEL",
    "\u200bimage,la bel",
    '"image "," label"',
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers__blanks_and_capitals(header: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "m.csv").write_text(f"{header},f0,f1\na.png,x,0.5,1.5\n", encoding="utf-8")
    samples = load_samples(tmp_path / "m.csv")
    assert (samples.ids, samples.labels) == (["a.png"], ["x"])
    assert samples.remarks[0].startswith("columns used of m.csv: image")
    assert "not used: f0, f1" in samples.remarks[0]
    found = read_elsewhere(tmp_path / "m.csv", features=None, ids=None, table=None)
    assert (found.ids, found.columns["label"].tolist(), found.dim) == (["a.png"], ["x"], 2)
    assert "label" in found.remarks[0]


def test_headers__of_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    pq.write_table(
        pa.table({"image ": ["a.png"], "Split": ["train"], "f0": [1.0], "f1": [2.0]}), tmp_path / "m.parquet"
    )
    assert load_samples(tmp_path / "m.parquet").splits == ["train"]
    found = read_elsewhere(tmp_path / "m.parquet", features=None, ids=None, table=None)
    assert (found.ids, found.columns["split"].tolist()) == (["a.png"], ["train"])


def test_headers__an_option_in_other_capitals(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "m.csv").write_text("image,Patient ID,Grade\na.png,p1,x\n")
    samples = load_samples(tmp_path / "m.csv", Columns(label="grade", group="patient id "))
    assert (samples.labels, samples.groups) == (["x"], ["p1"])
    assert samples.remarks == ("columns used of m.csv: image, label = 'Grade', group = 'Patient ID'",)


def test_headers__two_that_differ_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "m.csv").write_text("image,Label,LABEL\na.png,x,y\n")
    with pytest.raises(DataError, match="has columns 'Label', 'LABEL' for 'label'; name one with label"):
        load_samples(tmp_path / "m.csv")
    assert load_samples(tmp_path / "m.csv", Columns(label="LABEL")).labels == ["y"]


@pytest.mark.parametrize("name", ["label", "image", "split", "f0", "age"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_headers__one_name_twice(name: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    names = ["image", "label", "split", "age", "f0", "f1", f"{name} "]
    values = ["a.png", "x", "train", "7", "0", "1", "2"]
    path, other = tmp_path / f"m.{suffix}", tmp_path / "f.npy"
    if suffix == "parquet":
        arrays = [
            pa.array([float(value) if key[0] == "f" else value]) for key, value in zip(names, values, strict=True)
        ]
        pq.write_table(pa.Table.from_arrays(arrays, names), path)
    else:
        path.write_text("\n".join(("," if suffix == "csv" else "\t").join(row) for row in (names, values)))
    np.save(other, np.zeros((1, 2), np.float32))
    cache = tmp_path / "c.zarr"
    with EmbeddingCache.writing(cache) as store:
        store.samples.add([bytes(16)[:-1] + b"1"], ["a.png"])
    readers: list[Any] = [
        lambda: load_samples(path),
        lambda: label(cache, path),
        lambda: read_elsewhere(path, features=None, ids=None, table=None),
        lambda: read_elsewhere(other, features=None, ids=None, table=path),
    ]
    for reader in readers:
        with pytest.raises(DataError, match=f"has more than one column '{name}'; give each its own name"):
            reader()


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "sep=;", "sep=^"])
def test_read_table__encodings_and_separators(encoding: str, separator: str, tmp_path: Path) -> None:
    mark = separator[-1]
    rows = [["image", "label", "f0", "f1"], ["ä.png", "Café, noir", "0.5", "2"], ["b.png", "x", "1.5", "3"]]
    rows[1][1] = '"Café, noir"'
    lines = [separator] if separator.startswith("sep=") else []
    text = "\r\n".join([*lines, *(mark.join(row) for row in rows)]) + "\r\n"
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode(encoding))
    table = read_table(path)
    assert table.names == rows[0]
    assert table.texts("label") == ["Café, noir", "x"]
    found = read_elsewhere(path, features=None, ids=None, table=None)
    assert found.ids == ["ä.png", "b.png"]
    np.testing.assert_array_equal(next(found.blocks()), [[0.5, 2], [1.5, 3]])


def test_read_elsewhere__semicolons_and_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image;f0;f1\n7;0,5;-2,25\n8;1,5;3\n")
    found = read_elsewhere(tmp_path / "m.csv", features=None, ids=None, table=None)
    assert found.ids == ["7", "8"]  # numbers are ids where the column is called image
    np.testing.assert_array_equal(next(found.blocks()), [[0.5, -2.25], [1.5, 3]])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_read_table__what_is_no_utf8(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("image,label,f0,f1\na.png,x,0,1\nb.png,é,0,1\n".encode(encoding))
    with pytest.raises(DataError, match="save it as UTF-8") as caught:
        read_table(path)
    assert "it is no UTF-8 text from line 3 on" in str(caught.value)
    with pytest.raises(DataError, match="save it as UTF-8"):
        read_elsewhere(path, features=None, ids=None, table=None)


def test_read_table__short_rows_long_rows_and_long_cells(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f'image,label,note\na.png,x\n\nb.png,y,"{"z" * 200_000}",,\n')
    table = read_table(path)
    assert (table.texts("label"), [len(note) for note in table.texts("note")]) == (["x", "y"], [0, 200_000])
    path.write_text('image,label\na.png,x\n"b.png,y\nc.png,z\n')
    with pytest.raises(DataError, match="a quotation mark is opened in row 2 or before, and never closed"):
        read_table(path)
    path.write_text("image,label\na.png,x\nb.png,y,z\n")
    with pytest.raises(DataError, match="line 3 has 3 fields, the header 2; name every column"):
        read_table(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_read_table__a_pipe_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{suffix}"
    os.mkfifo(path)
    with pytest.raises(DataError, match="is a pipe, socket or device; name a file"):
        read_table(path)
    np.save(tmp_path / "f.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(DataError, match="is a pipe, socket or device"):
        read_elsewhere(tmp_path / "f.npy", features=None, ids=None, table=path)
    with EmbeddingCache.writing(tmp_path / "c.zarr") as store:
        store.samples.add([bytes(15) + b"1"], ["a.png"])
    with pytest.raises(DataError, match="is a pipe, socket or device"):
        label(tmp_path / "c.zarr", path)
