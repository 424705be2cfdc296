from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archives import pictures, png, write_zip

from dvme.data import Columns, Samples, load_samples
from dvme.data.sources import is_there, read_image
from dvme.errors import DataError

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def rows(samples: Samples) -> list[tuple[str, str, str]]:
    return list(zip(samples.ids, samples.labels, samples.splits, strict=True))


def said(samples: Samples) -> str:
    return "\n".join(samples.remarks)


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_read_image__is_what_zipfile_reads_in_many_threads(method: int, tmp_path: Path) -> None:
    members = pictures(*(f"class{index % 3}/{index}.png" for index in range(40)))
    archive = write_zip(tmp_path / "images.zip", members, method)
    samples = load_samples(archive)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_image, samples.paths * 3))
    with zipfile.ZipFile(archive) as opened:
        assert [each.data for each in found] == [opened.read(name) for name in samples.ids] * 3
    assert all(each.frame is None for each in found)


@pytest.mark.parametrize(
    "names",
    [
        ("benign/1.png", "benign/2.png", "malignant/1.png"),
        ("train/benign/1.png", "val/benign/2.png", "test/malignant/3.png"),
        ("benign/train/1.png", "benign/test/2.png", "malignant/train/3.png"),
        ("1.png", "2.jpg", "notes.txt"),
        ("chest_xray/train/NORMAL/1.png", "chest_xray/train/SICK/2.png", "chest_xray/test/NORMAL/3.png"),
        ("all/benign/1.png", "all/malignant/2.png", "all/readme.md"),
        ("benign/1.png", "__MACOSX/benign/._1.png", "__MACOSX/benign/2.png", ".DS_Store", "Thumbs.db", "a.tar"),
        ("benign/1.png", "benign/.hidden/2.png", "__aside/3.png", "@eaDir/x.png", "mal/4.png", "mal/.5.png"),
        ("benign/1.png", "benign/patient7/2.png", "malignant/cache.zarr/3.png", "malignant/b/4.png"),
        ("only/1.png", "only/2.png"),
    ],
)
def test_load_samples__as_the_folder_that_it_unpacks_to(names: tuple[str, ...], tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "images.zip", pictures(*names))
    folder = unpacked(archive, tmp_path / "images")
    expected, found = load_samples(folder), load_samples(archive)
    assert rows(found) == rows(expected)
    assert (found.given, found.remarks) == (expected.given, expected.remarks)
    assert [read_image(path) for path in found.paths] == [read_image(path) for path in expected.paths]
    assert [str(path) for path in found.paths] == [f"{archive}/{name}" for name in found.ids]


def test_load_samples__folders_that_hold_no_image(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("benign/1.png", png(0))
        archive.mkdir("empty") if hasattr(archive, "mkdir") else archive.writestr(zipfile.ZipInfo("empty/"), b"")
    assert said(load_samples(tmp_path / "images.zip")) == "a folder holds no image: empty"


def test_load_samples__names_that_lead_out_and_absolute_ones(tmp_path: Path) -> None:
    names = ("../evil.png", "a/../../evil.png", "/a/1.png", "./b//2.png")
    archive = write_zip(tmp_path / "images.zip", pictures(*names))
    samples = load_samples(archive)
    assert rows(samples) == [("a/1.png", "a", ""), ("b/2.png", "b", "")]
    assert [read_image(path).data for path in samples.paths] == [png(2), png(3)]
    assert said(samples) == ("images.zip: passed over for .. in the name: 2 members (../evil.png, a/../../evil.png)")


def test_load_samples__of_one_name_twice_the_last_counts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a/1.png", png(0))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/1.png", png(1))
    samples = load_samples(tmp_path / "images.zip")
    assert [read_image(path).data for path in samples.paths] == [png(1)]
    assert said(samples) == "images.zip: of members with one name the last counts (a/1.png)"


@pytest.mark.parametrize(
    ("stored", "flags", "system", "expected"),
    [
        ("münchen/1.png".encode("cp437"), 0, 0, "münchen/1.png"),
        ("münchen/1.png".encode(), 0x800, 3, "münchen/1.png"),
        ("münchen/1.png".encode(), 0, 3, "münchen/1.png"),
        (b"benign\\1.png", 0, 0, "benign/1.png"),
        (b"benign\\1.png", 0, 3, "benign\\1.png"),
    ],
)
def test_load_samples__names_as_other_programs_write_them(
    stored: bytes, flags: int, system: int, expected: str, tmp_path: Path
) -> None:
    """The bytes of a zip archive, written by hand after PKWARE's APPNOTE."""
    data, crc = png(0), zlib.crc32(png(0))
    shared = struct.pack("<HHHHHLLLHH", 20, flags, 0, 0, 0x21, crc, len(data), len(data), len(stored), 0)
    local = b"PK\3\4" + shared + stored + data
    entry = b"PK\1\2" + struct.pack("<BB", 20, system) + shared + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + stored
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(entry), len(local), 0)
    (tmp_path / "images.zip").write_bytes(local + entry + end)
    samples = load_samples(tmp_path / "images.zip")
    assert samples.ids == [expected]
    assert read_image(samples.paths[0]).data == data


def test_load_samples__links_inside(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a/1.png", png(0))
        for name, target in {"b/2.png": "../a/1.png", "b/3.png": "/etc/passwd", "b/4.png": "../b/4.png"}.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    samples = load_samples(tmp_path / "images.zip")
    assert rows(samples) == [("a/1.png", "a", ""), ("b/2.png", "b", "")]
    assert read_image(samples.paths[1]).data == png(0)
    assert said(samples) == "2 files of other kinds (2 link to nothing inside) passed over"


def test_load_samples__zip64(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        with archive.open("a/1.png", "w", force_zip64=True) as member:
            member.write(png(0))
        archive.writestr("b/2.png", png(1))
    samples = load_samples(tmp_path / "images.zip")
    assert [read_image(path).data for path in samples.paths] == [png(0), png(1)]


def test_read_image__a_long_extra_field(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        info = zipfile.ZipInfo("a/1.png")
        info.extra = struct.pack("<HH", 0x9999, 4000) + bytes(4000)
        archive.writestr(info, png(0))
    assert read_image(tmp_path / "images.zip" / "a" / "1.png").data == png(0)


def test_load_samples__after_a_program_that_unpacks_itself(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "plain.zip", pictures("a/1.png", "b/2.png"))
    (tmp_path / "images.zip").write_bytes(b"#!/bin/sh\n" * 99 + archive.read_bytes())
    samples = load_samples(tmp_path / "images.zip")
    assert [read_image(path).data for path in samples.paths] == [png(0), png(1)]


def test_read_image__damaged_members(tmp_path: Path) -> None:
    members = pictures("a/1.png", "a/2.png", "a/3.png")
    for method in METHODS:
        archive = write_zip(tmp_path / f"{method}.zip", members, method)
        with zipfile.ZipFile(archive) as opened:
            second = opened.infolist()[1]
        content = bytearray(archive.read_bytes())
        content[second.header_offset + 30 + len("a/2.png") + second.compress_size // 2] ^= 0xFF
        archive.write_bytes(content)
        samples = load_samples(archive)
        assert read_image(samples.paths[0]).data == members["a/1.png"]
        with pytest.raises(OSError, match=rf"damaged in {method}\.zip"):
            read_image(samples.paths[1])
    content[second.header_offset] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(OSError, match="damaged in"):
        read_image(archive / "a" / "2.png")
    with pytest.raises(OSError, match=r"not in 14\.zip"):
        read_image(archive / "a" / "9.png")


@pytest.mark.parametrize(
    ("flags", "method", "reason"),
    [(1, 0, "encrypted"), (0, 9, "compressed by Deflate64, which dvme"), (0, 77, "compressed by method 77")],
)
def test_load_samples__what_cannot_be_unpacked(flags: int, method: int, reason: str, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "images.zip", pictures("a/1.png", "b/2.png"), zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # of the first member
        start = content.index(signature) + offset
        content[start : start + 4] = struct.pack("<HH", flags, method)
    archive.write_bytes(content)
    with pytest.raises(DataError, match=rf"images\.zip has 1 image {reason}.* \(such as a/1\.png\); unpack it"):
        load_samples(archive)
    with pytest.raises(OSError, match=reason):
        read_image(archive / "a" / "1.png")
    assert read_image(archive / "b" / "2.png").data == png(1)


def test_load_samples__what_is_no_whole_archive(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", pictures("a/1.png", "b/2.png")).read_bytes()
    for name, content, message in (
        ("text.zip", b"<html>not found</html>", "it is no zip archive"),
        ("nothing.zip", b"", "it is no zip archive"),
        ("cut.zip", whole[:-40], "it begins as a zip archive and has no directory at its end.*fetch or pack it again"),
        ("empty.zip", b"PK\5\6" + bytes(18), "holds no images"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as refused:
            load_samples(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_load_samples__columns_need_a_manifest(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "images.zip", pictures("a/1.png"))
    with pytest.raises(
        DataError, match=r"images\.zip is a zip archive of folders.*label needs a manifest.*images\.zip/NAME"
    ):
        load_samples(archive, Columns(label="grade"))


def test_load_samples__a_folder_of_archives(tmp_path: Path) -> None:
    write_zip(tmp_path / "0.zip", pictures("1.png"))
    write_zip(tmp_path / "1.zip", pictures("2.png"))
    with pytest.raises(DataError, match=r"holds no images, but 2 files of kind \.zip; name one of them, or a manifest"):
        load_samples(tmp_path)


def test_load_samples__a_manifest_of_images_in_archives(tmp_path: Path) -> None:
    write_zip(tmp_path / "0.zip", pictures("1.png"))
    (tmp_path / "sub").mkdir()
    write_zip(tmp_path / "sub" / "1.zip", pictures("a/2.png", "a/3.png", first=1))
    manifest = tmp_path / "m.csv"
    manifest.write_text("image,label\n0.zip/1.png,x\nsub/1.zip/a/2.png,y\nsub/1.zip/a/3.png,x\n")
    samples = load_samples(manifest)
    assert samples.ids == ["0.zip/1.png", "sub/1.zip/a/2.png", "sub/1.zip/a/3.png"]
    assert [read_image(path).data for path in samples.paths] == [png(0), png(1), png(2)]
    assert not is_there(tmp_path / "0.zip" / "9.png")
    manifest.write_text("image,label\n0.zip/1.png,x\n0.zip/9.png,y\n")
    with pytest.raises(DataError, match=r"names 1 file that does not exist: .*0\.zip/9\.png"):
        load_samples(manifest)
    assert load_samples(manifest, skip_missing=True).missing == ("0.zip/9.png",)


def test_is_there__in_an_archive_that_cannot_be_read(tmp_path: Path) -> None:
    """What is wrong is said by reading: nobody knows that the image is gone."""
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4 and nothing more")
    (tmp_path / "notes.txt").write_text("no archive")
    assert is_there(tmp_path / "cut.zip" / "1.png")
    assert not is_there(tmp_path / "notes.txt" / "1.png")
    for _ in range(2):
        with pytest.raises(OSError, match="no directory at its end"):
            read_image(tmp_path / "cut.zip" / "1.png")


def test_read_image__an_archive_that_is_replaced(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "images.zip", pictures("a/1.png", "a/2.png"))
    assert read_image(archive / "a" / "1.png").data == png(0)
    write_zip(tmp_path / "other.zip", pictures("b/0.png", "a/1.png", first=7)).replace(archive)
    assert read_image(archive / "a" / "1.png").data == png(8)
    with pytest.raises(OSError, match="not in images"):
        read_image(archive / "a" / "2.png")
    archive.unlink()
    with pytest.raises(FileNotFoundError):
        read_image(archive / "a" / "1.png")
    (archive / "a").mkdir(parents=True)
    (archive / "a" / "1.png").write_bytes(png(3))
    assert read_image(archive / "a" / "1.png").data == png(3)
