from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from dvme.data.sources import source_of_file
from dvme.errors import DataError
from dvme.sets.unpacked import Unpacked, joined_tables, texts_or_missing


def _files(root: Path, *places: str, text: str = "x") -> Unpacked:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    return Unpacked(root)


def test_find__by_name_wherever_it_lies(tmp_path: Path) -> None:
    unpacked = _files(tmp_path, "images_001/images/1.png", "images_012/images/2.png", "3.png", "deep/er/down/4.png")
    names = ["4.png", "1.png", "9.png", "3.png", "2.png"]
    found = ["deep/er/down/4.png", "images_001/images/1.png", None, "3.png", "images_012/images/2.png"]
    assert unpacked.find(names) == found
    assert unpacked.remarks == []


def test_find__by_as_many_parts_of_the_path_as_the_name_has(tmp_path: Path) -> None:
    unpacked = _files(
        tmp_path, "batch 2 (train 1)/p1/s1/v.jpg", "batch 3/p2/s1/v.jpg", "batch 3/p2/s2/v.jpg", "v.jpg", "xp1/s1/v.jpg"
    )
    assert unpacked.find(["p1/s1/v.jpg", "p2/s2/v.jpg", "p3/s1/v.jpg"]) == [
        "batch 2 (train 1)/p1/s1/v.jpg",
        "batch 3/p2/s2/v.jpg",
        None,
    ]


def test_find__converted_and_repeated_pictures_are_counted(tmp_path: Path) -> None:
    unpacked = _files(tmp_path, "a/1.jpg", "a/2.jpg", "a/3.png", "b/3.png", "b/3.jpg", "a/4.dicom", "a/5.csv")
    assert unpacked.find(["1.png", "2.png", "3.png", "4", "5"]) == ["a/1.jpg", "a/2.jpg", "a/3.png", "a/4.dicom", None]
    assert unpacked.remarks == [
        "2 pictures found as .jpg, not as the publisher has it",
        "1 picture found in more than one place, of which the first is used: a/3.png, not b/3.png",
    ]


def test_table__is_read_as_published_also_compressed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with gzip.open(tmp_path / "deep" / "T_v2.csv.gz", "wt", encoding="utf-8") as file:
        file.write('id,,"names"\n007,0,"a\nb"\n39839860488694292331637988235681460987,1,\n')
    unpacked = Unpacked(tmp_path)
    table = unpacked.table("T.csv", "T_*.csv", needed=("id",), known=("age",), n_rows=3)
    assert table.texts("id") == ["007", "39839860488694292331637988235681460987"]
    assert table.texts("names") == ["a\nb", ""]
    assert texts_or_missing(table, "age") == ["", ""]
    assert unpacked.remarks == [
        "T_v2.csv.gz has no column age, which the published table has",
        "T_v2.csv.gz has 2 rows, the published table 3: another version, or a part of it",
    ]
    both = joined_tables([table, _files(tmp_path, "u.csv", text="id,age\n1,2\n").table("u.csv")])
    assert [both.texts(name) for name in ("id", "age")] == [[*table.texts("id"), "1"], ["", "", "2"]]


def test_place__with_the_folder_where_that_tells_files_apart(tmp_path: Path) -> None:
    unpacked = _files(tmp_path, "four/test.csv", "all/test.csv", "names.txt", text="a\n\nb \n")
    assert unpacked.place("four/test.csv") == "four/test.csv"
    assert unpacked.place("nowhere.csv") is None
    assert unpacked.names("names.txt") == ["a", "b"]
    assert unpacked.names("other.txt") is None
    with pytest.raises(DataError, match=r"more than one test\.csv: all/test\.csv, four/test\.csv; keep the one"):
        unpacked.place("test.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "has no column 'id', and so is not the published table; it has a, b; download it again"),
        ("", "it is empty; it needs a header"),
        ("i\0d\n", "zero bytes"),
        ('id\n"1\n', "quotation mark is opened"),
    ],
)
def test_table__that_is_another_one(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        _files(tmp_path, "t.csv", text=text).table("t.csv", needed=("id",))


def test_table__that_ends_early_or_is_not_there(tmp_path: Path) -> None:
    packed = gzip.compress(b"id\n" + b"\n".join(b"%d" % n for n in range(10_000)))
    (tmp_path / "t.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"cannot read the manifest .*t\.csv\.gz: Compressed file ended"):
        Unpacked(tmp_path).table("t.csv")
    (tmp_path / "t.csv.gz").write_bytes(b"id\n1\n")
    assert Unpacked(tmp_path).table("t.csv").texts("id") == ["1"]  # the content says what it is
    (tmp_path / "l.txt.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"cannot read .*l\.txt\.gz"):
        Unpacked(tmp_path).names("l.txt")
    with pytest.raises(DataError, match=r"has no u\.csv or v\*\.csv; put the publisher's table there"):
        Unpacked(tmp_path).table("u.csv", "v*.csv")
    with pytest.raises(DataError, match="is not a folder; name the one into which"):
        Unpacked(tmp_path / "nowhere")


def test_unpacked__says_what_it_could_not_list_and_what_is_packed(tmp_path: Path) -> None:
    unpacked = _files(tmp_path, "images_001.tar.gz", "labels.csv.gz", "x/pics.zip", "list.txt.gz")
    assert unpacked.archives == ["images_001.tar.gz", "x/pics.zip"]
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (line,) = Unpacked(tmp_path).remarks
    assert line.startswith("NOT LISTED: 1 ")
    assert f"link (link to {tmp_path / 'gone'}: " in line


@pytest.mark.skipif(source_of_file(Path("x.zip")) is None, reason="no archive is read in place")
def test_find__in_archives_that_are_read_in_place(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "down.zip", "w") as archive:
        for name in ("images_001/images/1.png", "images_001/images/2.png", "3.png"):
            archive.writestr(name, name)
    with zipfile.ZipFile(tmp_path / "tables.zip", "w") as archive:
        archive.writestr("a.csv", "id\n")
    unpacked = _files(tmp_path, "own/3.png", "broken.zip", "more.tar.gz")
    assert unpacked.find(["1.png", "3.png", "4.png"]) == ["down.zip/images_001/images/1.png", "own/3.png", None]
    assert unpacked.archives == ["broken.zip", "more.tar.gz", "tables.zip"]
    (line,) = unpacked.remarks
    assert line.endswith("of which the first is used: own/3.png, not down.zip/3.png")
