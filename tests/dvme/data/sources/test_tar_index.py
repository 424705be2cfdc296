from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from archives import pictures, png, tar_link, write_tar
from hypothesis import given
from hypothesis import strategies as st

from dvme.data.listing import NOT_A_FILE
from dvme.data.sources.entries import LINK_TO_NOTHING, Entries
from dvme.data.sources.tar_index import Stored, index_tar

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "a" * 90 + "/" + "b" * 90 + "/" + "c" * 90 + ".png"


def indexed(path: Path) -> Entries[Stored]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return index_tar(path, fd)
    finally:
        os.close(fd)


def held(path: Path) -> dict[str, bytes]:
    """Name to content, by the index."""
    content = path.read_bytes()
    return {name: content[at.start : at.start + at.n_bytes] for name, at in indexed(path).places.items()}


def by_tarfile(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = {info.name: archive.extractfile(info) for info in archive if info.isreg()}
        return {name: file.read() for name, file in files.items() if file is not None}


@pytest.mark.parametrize("kind", FORMATS)
def test_index_tar__is_what_tarfile_reads(kind: str, tmp_path: Path) -> None:
    names = [
        "1.png",
        "class a/2.png",
        "d" * 99 + "/" + "e" * 60 + ".png",
        *([] if kind == "ustar" else [LONG, "ü/é.png"]),
    ]
    members = {name: png(0)[: 50 * index] for index, name in enumerate(names)}
    path = write_tar(tmp_path / "x.tar", members, format=FORMATS[kind], encoding="utf-8")
    assert held(path) == by_tarfile(path) == members


@pytest.mark.parametrize("kind", FORMATS)
def test_index_tar__times_with_fractions(kind: str, tmp_path: Path) -> None:
    """As webdataset's writer has them, for which the pax format needs a header more for each member."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=FORMATS[kind]) as archive:
        for index, name in enumerate(("1.png", "2.cls", LONG[:95])):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = index * 511, 1700000000.25
            archive.addfile(info, io.BytesIO(bytes([index]) * info.size))
    assert held(path) == by_tarfile(path) == {"1.png": b"", "2.cls": b"\1" * 511, LONG[:95]: b"\2" * 1022}


@given(st.dictionaries(st.text("ab/. é\n", min_size=1, max_size=120), st.integers(0, 1500), max_size=8), st.data())
def test_index_tar__any_names(sizes: dict[str, int], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    clean = {"/".join(part for part in name.split("/") if part not in {"", "."}): size for name, size in sizes.items()}
    clean = {name: size for name, size in clean.items() if name and ".." not in name.split("/")}
    path = Path(os.environ["PYTEST_TAR_FOLDER"]) / "any.tar"
    write_tar(path, {name: b"x" * size for name, size in clean.items()}, format=kind, encoding="utf-8")
    assert held(path) == {name: b"x" * size for name, size in clean.items()}


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_TAR_FOLDER", str(tmp_path_factory.mktemp("tars")))
        yield


def test_index_tar__a_header_for_all_that_follow(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    members = pictures("1.png", "2.png")
    write_tar(path, members, format=tarfile.PAX_FORMAT, pax_headers={"comment": "of git archive"})
    assert held(path) == members


def test_index_tar__links_folders_and_devices(tmp_path: Path) -> None:
    members = {
        "a/1.png": png(0),
        "b": tar_link("", tarfile.DIRTYPE),
        "b/hard.png": tar_link("a/1.png", tarfile.LNKTYPE),
        "b/soft.png": tar_link("../a/1.png"),
        "b/chain.png": tar_link("soft.png"),
        "b/nowhere.png": tar_link("../a/2.png"),
        "b/out.png": tar_link("/etc/passwd"),
        "b/self.png": tar_link("self.png"),
        "pipe": tar_link("", tarfile.FIFOTYPE),
        "../out.png": png(1),
    }
    path = write_tar(tmp_path / "x.tar", members)
    found = indexed(path)
    assert held(path) == dict.fromkeys(("a/1.png", "b/hard.png", "b/soft.png", "b/chain.png"), png(0))
    assert found.folders == ["b"]
    nothing = [(f"b/{name}.png", LINK_TO_NOTHING) for name in ("nowhere", "out", "self")]
    assert found.others == [("pipe", NOT_A_FILE), *nothing]
    assert found.outside == ["../out.png"]


def test_index_tar__a_member_that_came_again(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", pictures("a/1.png", "b/2.png"))
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("./a/1.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"new"))
    assert held(path) == {"a/1.png": b"new", "b/2.png": png(1)}
    assert indexed(path).twice == ["a/1.png"]


def test_index_tar__large_members_in_other_spellings(tmp_path: Path) -> None:
    """Sizes from 8 GiB on are binary in GNU's headers and a key in pax's; the file here has holes."""
    size = 9 * 2**30
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path, info = tmp_path / "x.tar", tarfile.TarInfo("large.tif")
        info.size = size
        with path.open("wb") as file:
            head = info.tobuf(kind)
            file.write(head)
            file.truncate(len(head) + size)
            file.seek(0, os.SEEK_END)
            small = tarfile.TarInfo("1.png")
            small.size = 3
            file.write(small.tobuf(kind) + b"abc".ljust(512, b"\0") + bytes(1024))
        try:
            # The zeros of the hole are no end: they are data.
            places = indexed(path).places
            assert places["large.tif"] == Stored(len(head), size)
            assert places["1.png"] == Stored(len(head) + size + 512, 3)
        finally:
            path.unlink()


def test_index_tar__cut_off_anywhere(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{index}.png": bytes([index + 1]) * 700 for index in range(3)})
    whole = path.read_bytes()
    end = 3 * (512 + 1024)
    assert whole[end:].count(0) == len(whole) - end
    for length in range(1, end + 512, 97):
        path.write_bytes(whole[:length])
        n_whole = length // (512 + 1024)
        is_none = length < 512
        reason = "it is no tar archive" if is_none else f"ends early or is damaged: {n_whole} member"
        with pytest.raises(OSError, match=reason):
            indexed(path)
    path.write_bytes(whole[: end + 512])
    assert len(indexed(path).places) == 3


@pytest.mark.parametrize("offset", [3, 110, 130, 150, 156, 512 + 1024 + 3, 512 + 1024 + 130])
def test_index_tar__a_damaged_header(offset: int, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{index}.png": bytes([index + 1]) * 700 for index in range(3)})
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x15
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"no tar archive|ends early or is damaged: 1 member is whole"):
        indexed(path)


def test_index_tar__several_archives_in_one_file(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "x.tar", pictures("1.png")).read_bytes()
    (tmp_path / "y.tar").write_bytes(first + first)
    with pytest.raises(OSError, match="after its end, 1 member on, more follows"):
        indexed(tmp_path / "y.tar")


def test_index_tar__something_else(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", pictures("1.png"))
    for content, reason in (
        (gzip.compress(path.read_bytes()), "it is compressed by gzip"),
        (b"<html>" * 999, "it is no tar archive"),
        (b"", "it is no tar archive"),
    ):
        path.write_bytes(content)
        with pytest.raises(OSError, match=reason):
            indexed(path)
    path.write_bytes(bytes(10240))
    assert indexed(path).places == {}
