"""Tables as text, the bytes written by hand, with Python's csv and pandas as peers."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from dvme.data import Columns, load_samples
from dvme.data.delimited import dialect_of, encoding_of, read_rows
from dvme.data.tables import read_table
from dvme.errors import DataError

NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
"""The header of NIH ChestX-ray14, whose bracketed names have commas inside."""


def table_of(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "m.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("text", ["image,label\n", '"im', "a\t", "ab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_encoding_of__without_a_mark(text: str, encoding: str) -> None:
    assert text.encode(encoding).decode(encoding_of(text.encode(encoding)[:4])) == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read_rows__quotes_and_lines(end: str) -> None:
    lines = ["image,report,label", 'a.png,"line 1\nline 2, ""so""",x', 'b.png,"",y', '"c.png", z,']
    found = read_rows(end.join(lines).encode(), "m.csv")
    assert found.header == ["image", "report", "label"]
    assert found.rows == [["a.png", 'line 1\nline 2, "so"', "x"], ["b.png", "", "y"], ["c.png", "z", ""]]


@pytest.mark.parametrize("tail", ["", ","])
def test_load_samples__commas_inside_names_of_the_header(tail: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    row = "a.png,Cardiomegaly|Emphysema,000,1,57,M,PA,2682,2749,0.143,0.168"
    path = table_of(tmp_path, f"{NIH}{tail}\n{row}{tail}\n")
    columns = Columns(
        image="Image Index", label="Finding Labels", label_separator="|", group="Patient ID", keep="Patient Age,Height]"
    )
    samples = load_samples(path, columns)
    assert (samples.labels, samples.groups) == (["|Cardiomegaly|Emphysema|"], ["1"])
    assert samples.kept == {"Patient Age": ["57"], "Height]": ["2749"]}


@pytest.mark.parametrize("lines", ["\n\n", ",,\n;;\n", '"",""\n', " \t\n", ""])
def test_read_table__blank_lines_above_and_below(lines: str, tmp_path: Path) -> None:
    table = read_table(table_of(tmp_path, f"{lines}image;label;\na.png;x;\n\n;;\n; ;\n"))
    assert [table.texts(name) for name in ("image", "label")] == [["a.png"], ["x"]]
    assert table.remarks == ("2 rows of m.csv without any cell passed over",)
    assert dialect_of(tmp_path / "m.csv").n_skipped == lines.count("\n")


def test_read_table__an_index_without_a_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["007", "1e5"]}, index=[5, 7])
    frame.to_csv(tmp_path / "m.csv")
    table = read_table(tmp_path / "m.csv")
    assert (table.names, table.texts("label"), table.texts("")) == (["", "image", "label"], ["007", "1e5"], ["5", "7"])
    frame.reset_index().to_csv(tmp_path / "m.csv")  # and once more
    assert read_table(tmp_path / "m.csv").names == ["", "index", "image", "label"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"image,label\na.png,x\n\0\0\0\0", "line 3 has zero bytes, as a copy that broke off has; copy the file again"),
        (b"\0\0\0\0\0\0", "line 1 has zero bytes"),
        ("image,label\na.png,x\n".encode("utf-16")[:-1], "it is no UTF-16.* text from line 2 on"),
        (
            "# made by hand\nimage,label\na.png,x\n",
            "line 2 has 2 fields, the header 1; .* or take lines above the header",
        ),
        ("sep=;\nimage;label\na.png;x;y\n", "line 3 has 3 fields, the header 2"),
        (",,\n\nimage,label\na.png,x,y\n", "line 4 has 3 fields, the header 2"),
        (",,\n,\n", "it is empty"),
        ('image,"label\na.png,x\n', "a quotation mark is opened in the header and never closed"),
    ],
)
def test_read_table__refused_in_one_line(text: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"cannot read the manifest .*m.csv: {said}") as caught:
        read_table(table_of(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_read_rows__as_pythons_csv(tmp_path: Path) -> None:
    rows = [["image", "é|;", "n"], ["a,b.png", 'x "y"', "1;5"], ["\n", " b", "c|d"], ["", "", "0"]]
    for separator in (",", ";", "\t", "|"):
        with (tmp_path / "m.csv").open("w", newline="", encoding="utf-16") as file:
            csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
        found = read_rows((tmp_path / "m.csv").read_bytes(), "m.csv")
        assert [found.header, *found.rows] == rows
        assert found.n_empty == 0
