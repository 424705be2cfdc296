"""Whatever of a folder is not taken is named, and what cannot be listed is not the same as gone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from dvme.data import listing, load_samples
from dvme.data.listing import NO_SUFFIX, SIDE_FOLDERS, kind_of, list_images
from dvme.errors import DataError

Unlistable = Callable[..., None]


def touch(*paths: Path) -> None:
    """Empty files: listing a folder opens none of them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Classes a and b of two images each, and c with one deeper down."""
    folder = tmp_path / "images"
    touch(*(folder / name for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/deep/1.png")))
    return folder


@pytest.fixture
def unlistable(monkeypatch: pytest.MonkeyPatch) -> Unlistable:
    """Make the system fail to list a folder, as a share that went to sleep does."""
    scandir = os.scandir

    def fail(folder: Path, number: int) -> None:
        def failing(path: Any = ".") -> Any:
            if Path(path) == folder:
                raise OSError(number, os.strerror(number), str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", failing)

    return fail


def remarks(folder: Path) -> str:
    return "\n".join(load_samples(folder).remarks)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("place", ["c", "c/deep"])
def test_list_images__a_folder_that_fails(root: Path, unlistable: Unlistable, place: str, number: int) -> None:
    unlistable(root / place, number)
    samples = load_samples(root)
    assert samples.unlisted == {str(root / place): os.strerror(number)}
    assert samples.ids == ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]


def test_list_images__a_folder_that_fails_half_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    class Torn:
        def __init__(self, path: Any) -> None:
            self.entries, self.is_torn = scandir(path), Path(path).name == "a"

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *_: object) -> None:
            self.entries.close()

        def __iter__(self) -> Any:
            for entry in self.entries:
                yield entry
                if self.is_torn:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "scandir", Torn)
    found = list_images(root)
    assert found.unlisted == {"a": os.strerror(errno.EIO)}
    assert [path.name for path in found.files] == ["1.png", "2.png", "1.png"]  # of b and c


def test_list_images__nothing_but_a_folder_that_fails(tmp_path: Path, unlistable: Unlistable) -> None:
    (tmp_path / "a").mkdir()
    unlistable(tmp_path / "a", errno.EIO)
    with pytest.raises(DataError, match=r"holds no images: NOT LISTED: .*/a \(Input/output error\)"):
        load_samples(tmp_path)
    unlistable(tmp_path, errno.EIO)
    with pytest.raises(DataError, match="NOT LISTED"):
        load_samples(tmp_path)


@pytest.mark.parametrize("place", ["d", "a/more", "e.txt", "a/notes.txt"])
def test_list_images__links_to_nowhere(root: Path, tmp_path: Path, place: str) -> None:
    (root / place).symlink_to(tmp_path / "not mounted" / "share")
    samples = load_samples(root)
    assert list(samples.unlisted) == [str(root / place)]
    assert "not mounted/share: No such file" in samples.unlisted[str(root / place)]


def test_list_images__a_link_to_nowhere_that_is_called_like_an_image(root: Path, tmp_path: Path) -> None:
    (root / "a" / "3.jpg").symlink_to(tmp_path / "later.jpg")
    (root / "a" / ".#1.png").symlink_to("user@host.1")  # an editor's lock
    samples = load_samples(root)
    assert "a/3.jpg" in samples.ids  # to be named as one that cannot be read
    assert samples.unlisted == {}


def test_load_samples__a_link_to_a_share_that_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(tmp_path / "share")
    with pytest.raises(DataError, match=r"images does not exist \(a link to .*/share, which is not there"):
        load_samples(tmp_path / "images")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may drop its right to read all")
def test_load_samples__a_folder_without_permission(root: Path) -> None:
    (root / "c").chmod(0)
    code = f"import dvme; print(dict(dvme.load_samples({str(root)!r}).unlisted))"
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run([*drop, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    (root / "c").chmod(0o755)
    assert done.stdout.strip() == str({str(root / "c"): "Permission denied"}), done.stderr


def test_folder_samples__other_kinds_are_counted(root: Path) -> None:
    touch(*(root / "a" / name for name in ("1.tga", "2.TGA", "README", "notes.txt", ".x.png", ".DS_Store", "._1.png")))
    touch(root / "b" / "Thumbs.db", root / "b" / "desktop.ini")
    os.mkfifo(root / "b" / "3.png")
    text = remarks(root)
    assert (
        "6 files of other kinds (2 .tga, 1 .txt, 1 hidden .png, 1 pipe, socket or device, 1 without a suffix)" in text
    )
    assert "Thumbs" not in text


def test_folder_samples__a_table_beside_the_images_is_pointed_at(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "1.png", tmp_path / "manifest.csv", tmp_path / "images" / "inner.csv")
    assert "manifest.csv lies beside the images; if it lists them, name it in place of the folder" in remarks(tmp_path)
    touch(tmp_path / "more.TSV")
    assert "manifest.csv, more.TSV lie beside the images; if one of them lists them, name it" in remarks(tmp_path)


def test_folder_samples__suffixes(tmp_path: Path) -> None:
    names = ["1.jfif", "2.JPE", "3.avif", "4.jp2", "5.png ", "6.pnm"]
    touch(*(tmp_path / "a" / name for name in names))
    assert load_samples(tmp_path).ids == [f"a/{name}" for name in names]
    assert load_samples(tmp_path).remarks == ()


def test_folder_samples__folders_without_an_image(root: Path) -> None:
    touch(root / "d" / "1.tga", root / "d" / "2.tga")
    (root / "empty" / "deep").mkdir(parents=True)
    assert "2 folders hold no image: d, but 2 files of other kinds (2 .tga), empty" in remarks(root)


def test_folder_samples__a_split_of_a_class_without_an_image(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "a" / "1.png", tmp_path / "train" / "b" / "2.png", tmp_path / "test" / "a" / "3.png")
    (tmp_path / "test" / "b").mkdir()
    (tmp_path / "val").mkdir()
    assert "2 folders hold no image: test/b, val" in remarks(tmp_path)


def test_folder_samples__side_folders(root: Path) -> None:
    sides = ["@eaDir", "#recycle", "@Recycle", ".AppleDouble", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"]
    sides += ["lost+found", ".ipynb_checkpoints", ".snapshot", "@Recently-Snapshot"]
    assert all(name.lower() in SIDE_FOLDERS for name in sides)
    before = load_samples(root).ids
    for name in [*sides, "my.zarr"]:
        touch(root / name / "1.png", root / "a" / name / "1.png" / "SYNOPHOTO_THUMB_M.jpg")
    assert load_samples(root).ids == before
    (line,) = load_samples(root).remarks
    assert line.startswith("folders passed over that systems keep beside files: ")
    assert "2 @eaDir" in line


def test_folder_samples__hidden_folders_are_named_where_they_hold_images(root: Path) -> None:
    touch(root / "__other__" / "x" / "1.png", root / ".held" / "1.jpg", root / ".config" / "settings")
    (line,) = load_samples(root).remarks
    assert line.endswith("begin with . or __: .held, __other__; rename what is data")


def test_folder_samples__two_folders_that_are_one(root: Path) -> None:
    (root / "z").symlink_to(root / "a", target_is_directory=True)
    (root / "b" / "up").symlink_to(root, target_is_directory=True)
    assert remarks(root) == "the same folder under another name, passed over: b/up is ., z is a"


def test_folder_samples__splits_below_classes(tmp_path: Path) -> None:
    touch(*(tmp_path / place for place in ("a/train/1.png", "a/test/2.png", "b/train/3.png")))
    samples = load_samples(tmp_path)
    assert list(zip(samples.labels, samples.splits, strict=True)) == [("a", "test"), ("a", "train"), ("b", "train")]
    assert samples.given == {"label", "split"}
    assert samples.remarks == ("splits are the folders below those of the classes: test (1), train (2)",)
    touch(tmp_path / "b" / "4.png")
    samples = load_samples(tmp_path)
    assert (samples.given, set(samples.splits)) == ({"label"}, {""})
    assert "are called test (1), train (2), and are not taken for splits" in samples.remarks[0]


@pytest.mark.parametrize("name", ["pipe", "pipe.csv"])
def test_load_samples__a_pipe_is_no_source(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="is a pipe, socket or device; name a folder"):
        load_samples(tmp_path / name)


def test_list_images__files_are_looked_into_only_where_their_names_say_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(*(root / "a" / name for name in ("IM1", "1.2.840", "notes.txt", "scan.dcm", "DICOMDIR", ".IM2", "IM3")))
    opened: list[str] = []

    def looked_into(path: str | Path) -> bool | None:
        opened.append(Path(path).name)
        return {"IM1": True, "IM3": None}.get(Path(path).name, False)

    monkeypatch.setattr(listing, "is_dicom_file", looked_into)
    found = list_images(root)
    assert sorted(opened) == ["1.2.840", "IM1", "IM3"]
    # What cannot be read is an image to be named, where others of such names are DICOM files.
    assert [path.name for path in found.files if path.parent.name == "a"] == [
        "1.png",
        "2.png",
        "IM1",
        "IM3",
        "scan.dcm",
    ]
    assert sorted(found.others) == [("a/1.2.840", ".840"), ("a/notes.txt", ".txt")]
    assert found.directories == ["a/DICOMDIR"]
    monkeypatch.setattr(listing, "is_dicom_file", lambda _: None)
    assert ("a/IM3", "without a suffix") in list_images(root).others


@pytest.mark.parametrize(
    "name",
    ["1.png", "1.PNG ", "a.b/1", "a/1.tar.gz", ".hidden", ".hidden.png", "1.", "a/.png", "é.tif\n", "", "1 .jpg"],
)
def test_kind_of__is_the_suffix_that_pathlib_tells(name: str) -> None:
    assert kind_of(name) == (PurePosixPath(name.rstrip()).suffix.lower() or NO_SUFFIX)
