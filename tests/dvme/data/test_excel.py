"""Excel workbooks: written with openpyxl and pandas, some changed byte by byte, and what a reader of them expects."""

from __future__ import annotations

import datetime
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from dvme.data import Columns, load_samples
from dvme.data.tables import read_table
from dvme.errors import DataError

LONG = "836000000000000000000000000000000000001"
DAY = datetime.datetime(2024, 1, 31)


def write(path: Path, *rows: list[Any], sheets: dict[str, list[list[Any]]] | None = None) -> openpyxl.Workbook:
    """A workbook of one sheet, or of those that are named."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, content in (sheets or {"Sheet": list(rows)}).items():
        sheet = book.create_sheet(title)
        for row in content:
            sheet.append(row)
    book.save(path)
    return book


def rewrite(path: Path, old: bytes, new: bytes, member: str = "xl/worksheets/sheet1.xml") -> None:
    """Change the bytes of a file in a workbook, as another program would have written them."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert old in held[member]
    held[member] = held[member].replace(old, new)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in held.items():
            archive.writestr(name, data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    return tmp_path


CELLS: dict[str, tuple[list[Any], list[str]]] = {
    "text": (["007", " x ", LONG], ["007", "x", LONG]),
    "whole numbers": ([12, 12.0, -3], ["12", "12", "-3"]),
    "numbers": ([0.5, 1, 2.25], ["0.5", "1", "2.25"]),
    "booleans": ([True, None, False], ["True", "", "False"]),
    "days": ([DAY, None, DAY.replace(day=2)], ["2024-01-31", "", "2024-01-02"]),
    "times": ([DAY, DAY.replace(hour=5), None], ["2024-01-31 00:00:00", "2024-01-31 05:00:00", ""]),
    "hours": ([datetime.time(5, 30), None, datetime.time(6)], ["05:30:00", "", "06:00:00"]),
    "looks like a number": (["1e5", "12.0", "0x1F"], ["1e5", "12.0", "0x1F"]),
    "not available": (["#N/A", "y", None], ["#N/A", "y", ""]),
    "several lines": (["a\nb", "c, d", 'e "f"'], ["a\nb", "c, d", 'e "f"']),
    "fifteen digits": ([999_999_999_999_999, 0, None], ["999999999999999", "0", ""]),
}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("suffix", ["xlsx", "xlsm"])
def test_read_sheet__every_type(kind: str, suffix: str, tmp_path: Path) -> None:
    values, expected = CELLS[kind]
    path = tmp_path / f"m.{suffix}"
    write(path, ["image", " Value "], *([f"{number}.png", value] for number, value in enumerate(values)))
    table = read_table(path)
    assert (table.names, table.n_rows, table.remarks) == (["image", "Value"], 3, ())
    assert table.texts("Value") == expected


def test_read_sheet__a_number_that_is_shown_with_zeros(tmp_path: Path) -> None:
    book = write(tmp_path / "m.xlsx", ["image", "id"], ["a.png", 7], ["b.png", 12345], ["c.png", 7])
    for place, shape in (("B2", "000"), ("B3", "000"), ("B4", "0")):
        book.active[place].number_format = shape
    book.save(tmp_path / "m.xlsx")
    assert read_table(tmp_path / "m.xlsx").texts("id") == ["007", "12345", "7"]


def test_load_samples__the_same_from_excel_and_csv(folder: Path) -> None:
    frame = pd.DataFrame(
        {
            "image": ["a.png", "b.png", "c.png"],
            "label": [True, None, False],
            "group": ["007", "7", LONG],
            "split": ["train", "Test", ""],
            "age": pd.array([63, None, 5], dtype="Int64"),
        }
    )
    frame.to_excel(folder / "m.xlsx")  # with pandas' index, which has no name
    frame.to_csv(folder / "m.csv")
    columns = Columns(keep="age")
    one, other = (load_samples(folder / name, columns) for name in ("m.xlsx", "m.csv"))
    assert one.ids == ["a.png", "b.png", "c.png"]
    assert one.labels == ["True", "", "False"]
    for name in ("ids", "paths", "labels", "groups", "splits", "kept"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.remarks[0] == "columns used of m.xlsx: image, label, split, group, age; not used: (without a name)"


def test_read_sheet__blank_rows_and_columns_around_a_table(tmp_path: Path) -> None:
    rows = [
        [],
        [None, None],
        [None, "image", "label", "note", None],
        [None, "a.png", 1],
        [],
        [None, "b.png", 2],
        [None, " "],
    ]
    write(tmp_path / "m.xlsx", *rows)
    rewrite(tmp_path / "m.xlsx", b'<dimension ref="A2:E7"', b'<dimension ref="A1"')  # some programs write that
    table = read_table(tmp_path / "m.xlsx")
    assert table.names == ["image", "label", "note"]
    assert [table.texts(name) for name in table.names] == [["a.png", "b.png"], ["1", "2"], ["", ""]]


def test_read_sheet__one_of_several(folder: Path) -> None:
    path = folder / "m.xlsx"
    rows = [["image", "label"], ["a.png", "x"]]
    book = write(path, sheets={"Labels 1": rows, "legend": [["code"], [1]], "Tabelle3": []})
    with pytest.raises(DataError) as caught:
        load_samples(path)
    assert str(caught.value) == (
        f"{path} has sheets with rows: 'Labels 1', 'legend'; name one of them as {path}/Labels 1"
    )
    for name in ("Labels 1", "labels 1"):
        samples = load_samples(path / name)
        assert (samples.ids, samples.labels, samples.paths) == (["a.png"], ["x"], [folder / "a.png"])
        assert samples.remarks == ("columns used of m.xlsx: image, label",)
    with pytest.raises(DataError, match=r"m.xlsx has no sheet 'Labels'; it has: 'Labels 1', 'legend', 'Tabelle3'$"):
        load_samples(path / "Labels")
    with pytest.raises(DataError, match=r"m.xlsx, sheet 'Tabelle3', is empty"):
        load_samples(path / "Tabelle3")
    book["legend"].sheet_state = "hidden"
    book.save(path)
    assert load_samples(path).remarks == (
        "columns used of m.xlsx: image, label",
        "sheet 'Labels 1' of m.xlsx; not read, for Excel hides it: legend",
    )
    book["legend"].sheet_state, book["Labels 1"].sheet_state = "visible", "veryHidden"
    del book["legend"]
    book.save(path)
    with pytest.raises(
        DataError, match=r"m.xlsx has rows in hidden sheets only: 'Labels 1'; name one of them as .*/Labels 1"
    ):
        load_samples(path)
    assert load_samples(path / "Labels 1").labels == ["x"]


def test_read_sheet__merged_cells(tmp_path: Path) -> None:
    path = tmp_path / "m.xlsx"
    book = write(path, ["image", "group", "note"], ["a.png", "p1", "x"], ["b.png", None, None], ["c.png", "p2", "y"])
    book.active.merge_cells("B2:B3")
    book.save(path)
    table = read_table(path)
    assert table.texts("note") == ["x", "", "y"]
    with pytest.raises(
        DataError, match=r"m.xlsx, sheet 'Sheet', has merged cells in column 'group' \(rows 2 to 3\); unmerge"
    ):
        table.texts("group")
    write(path, ["Cohort", None], ["image", "label"], ["a.png", "x"]).active.merge_cells("A1:B1")
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("A1:B1")
    book.save(path)
    with pytest.raises(DataError, match=r"has merged cells in its header \(row 1\); unmerge them"):
        read_table(path)


def test_read_sheet__formulas(tmp_path: Path) -> None:
    path = tmp_path / "m.xlsx"
    write(path, ["image", "label", "other"], ["a.png", '=IF(1>0,"x","y")', "=1+1"], ["b.png", "z", "=1+2"])
    table = read_table(path)
    with pytest.raises(
        DataError, match=r"has 1 formula without a result in column 'label', the first in row 2; open it"
    ):
        table.texts("label")
    with pytest.raises(
        DataError, match=r"has 2 formulas without a result in column 'other', the first in row 2; open it"
    ):
        table.texts("other")
    with zipfile.ZipFile(path) as archive:
        xml = archive.read("xl/worksheets/sheet1.xml").decode()
    places = re.findall(r'<c r="(\w+)"[^>]*><f>', xml)
    assert places == ["B2", "C2", "C3"]
    rewrite(path, b'<c r="B2"><f>IF(1&gt;0,"x","y")</f><v />', b'<c r="B2" t="str"><f>IF(1&gt;0,"x","y")</f><v>x</v>')
    rewrite(path, b"<f>1+1</f><v />", b"<f>1+1</f><v>2</v>")
    rewrite(path, b'<c r="C3"><f>1+2</f><v />', b'<c r="C3" t="str"><f>""</f><v></v>')  # the empty text is a result
    table = read_table(path)
    assert (table.texts("label"), table.texts("other")) == (["x", "z"], ["2", ""])


def test_read_sheet__a_row_of_formulas_alone_is_a_row(tmp_path: Path) -> None:
    write(tmp_path / "m.xlsx", ["image"], ["a.png"], ["=A2"])
    assert read_table(tmp_path / "m.xlsx").n_rows == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("#REF!", r"column 'label', has the error #REF! in B2; mend the formula"),
        ("#DIV/0!", r"has the error #DIV/0! in B2"),
        (8.36e38, r"column 'label', has a number of more than 15 digits in B2, and Excel keeps no more; keep such"),
        (10**15, r"has a number of more than 15 digits in B2"),
        (float(10**16), r"has a number of more than 15 digits in B2"),
    ],
)
def test_read_sheet__cells_that_have_lost_their_value(value: Any, said: str, tmp_path: Path) -> None:
    write(tmp_path / "m.xlsx", ["image", "label"], ["a.png", value])
    table = read_table(tmp_path / "m.xlsx")
    assert table.texts("image") == ["a.png"]
    with pytest.raises(DataError, match=said):
        table.texts("label")


def test_read_sheet__rows_that_a_filter_hides_are_counted(folder: Path) -> None:
    book = write(folder / "m.xlsx", ["image", "label"], ["a.png", "x"], ["b.png", "y"], ["c.png", "z"])
    book.active.row_dimensions[3].hidden = True
    book.active.row_dimensions[9].hidden = True
    book.save(folder / "m.xlsx")
    samples = load_samples(folder / "m.xlsx")
    assert samples.labels == ["x", "y", "z"]
    assert samples.remarks[1] == "1 row that Excel hides or filters away, read like any other"


def test_read_table__excel_by_another_name(folder: Path) -> None:
    write(folder / "m.xlsx", ["image", "label"], ["a.png", "x"])
    (folder / "m.csv").write_bytes((folder / "m.xlsx").read_bytes())
    assert load_samples(folder / "m.csv").labels == ["x"]
    (folder / "text.xlsx").write_text("image;label\na.png;x\n")
    assert load_samples(folder / "text.xlsx").labels == ["x"]


def archive(*names: str) -> bytes:
    import io

    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504),
            r"is an Excel file of before 2007 \(.xls\), or has a password; save",
        ),
        (archive("[Content_Types].xml", "xl/workbook.bin"), r"is a binary Excel file \(.xlsb\); save it as .xlsx"),
        (archive("mimetype", "content.xml", "META-INF/manifest.xml"), r"is an OpenDocument file \(.ods\); save it as"),
        (
            archive("[Content_Types].xml", "xl/workbook.xml"),
            r"cannot read the manifest .*: it is damaged \(.*\); save it",
        ),
        (archive("a.csv", "b.csv"), r"holds 2 files \(a.csv, b.csv\); a packed table is a single file"),
        (archive("a.csv")[:60], r"cannot read the manifest .*File is not a zip file"),
        (b"", r"cannot read the manifest .*: it is empty"),
    ],
)
def test_read_table__what_is_no_workbook(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_table(tmp_path / "m.xlsx")
    assert "\n" not in str(caught.value)


def test_read_table__damaged_anywhere(tmp_path: Path) -> None:
    """A workbook that breaks off, or of which any part is another's, is read or refused in one line."""
    write(tmp_path / "m.xlsx", ["image", "label"], ["a.png", "x"])
    whole = (tmp_path / "m.xlsx").read_bytes()
    with zipfile.ZipFile(tmp_path / "m.xlsx") as file:
        held = {name: file.read(name) for name in file.namelist()}
    contents = [whole[: len(whole) * part // 8] for part in range(8)]
    contents += [whole[:at] + b"\xff" * 20 + whole[at + 20 :] for at in range(40, len(whole), len(whole) // 25)]
    for name in held:
        for other in (None, b"", b"<a/>", held[name][: len(held[name]) // 2]):
            with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
                for each, data in held.items():
                    if each != name or other is not None:
                        file.writestr(each, data if each != name or other is None else other)
            contents.append((tmp_path / "other.zip").read_bytes())
    n_refused = 0
    for content in contents:
        (tmp_path / "m.xlsx").write_bytes(content)
        said = ""
        try:
            table = read_table(tmp_path / "m.xlsx")
            n_rows = len(table.texts(table.names[0]))
        except DataError as error:
            said = str(error)
        n_refused += bool(said)
        assert "\n" not in said
        assert said or table.n_rows == n_rows
    assert n_refused > 20


def test_read_table__without_openpyxl(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "m.xlsx", ["image"], ["a.png"])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"m.xlsx is an Excel file, which needs openpyxl: pip install 'dvme\[excel\]'$"):
        load_samples(folder / "m.xlsx")
