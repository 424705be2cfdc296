from __future__ import annotations

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archives import pictures, png, tar_link, write_tar

from dvme.data import Columns, Samples, load_samples
from dvme.data.sources import is_there, read_image
from dvme.errors import DataError


def rows(samples: Samples) -> list[tuple[str, str, str]]:
    return list(zip(samples.ids, samples.labels, samples.splits, strict=True))


@pytest.mark.parametrize(
    "names",
    [
        ("benign/1.png", "malignant/1.png", "malignant/patient7/2.png", "malignant/notes.txt"),
        ("train/benign/1.png", "val/benign/2.png", "test/malignant/3.png"),
        ("1.png", "2.png"),
        ("x/benign/1.png", "x/malignant/2.png", "x/__aside/3.png", "x/.4.png"),
    ],
)
def test_load_samples__as_the_folder_that_it_unpacks_to(names: tuple[str, ...], tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "images.tar", pictures(*names))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "images", filter="data")
    expected, found = load_samples(tmp_path / "images"), load_samples(archive)
    assert rows(found) == rows(expected)
    assert (found.given, found.remarks) == (expected.given, expected.remarks)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read_image, found.paths * 9)) == [read_image(path) for path in expected.paths] * 9


def test_load_samples__shards_of_class_folders(tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", pictures("benign/1.png", "malignant/2.png"))
    write_tar(tmp_path / "a.tar", pictures("benign/1.png", "readme.txt", first=2))
    (tmp_path / "index.json").write_text("{}")
    samples = load_samples(tmp_path)
    assert rows(samples) == [
        ("a.tar/benign/1.png", "benign", ""),
        ("b.tar/benign/1.png", "benign", ""),
        ("b.tar/malignant/2.png", "malignant", ""),
    ]
    assert [read_image(path).data for path in samples.paths] == [png(2), png(0), png(1)]
    assert samples.remarks == (
        "1 file of other kinds (1 .txt) passed over",
        "passed over beside the archives: index.json",
    )


@pytest.mark.parametrize(
    "names", [("train-000.tar", "Train-001.tar", "val_0.tar"), ("train/0.tar", "train/1.tar", "valid/0.tar")]
)
def test_load_samples__splits_by_the_names_of_shards(names: tuple[str, ...], tmp_path: Path) -> None:
    for index, name in enumerate(names):
        write_tar(tmp_path / "x" / name, pictures(f"c{index % 2}/1.png", first=index))
    samples = load_samples(tmp_path / "x")
    assert dict(zip(samples.ids, samples.splits, strict=True)) == {
        f"{names[0]}/c0/1.png": "train",
        f"{names[1]}/c1/1.png": "train",
        f"{names[2]}/c0/1.png": "val",
    }
    assert samples.given == {"label", "split"}


def test_load_samples__no_splits_where_one_shard_is_called_otherwise(tmp_path: Path) -> None:
    for index, name in enumerate(("train-0.tar", "trainval-0.tar")):
        write_tar(tmp_path / name, pictures("a/1.png", first=index))
    samples = load_samples(tmp_path)
    assert (samples.splits, samples.given) == (["", ""], {"label"})


def test_load_samples__a_folder_of_images_and_archives_is_one_of_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "benign" / "old.tar", pictures("1.png"))
    (tmp_path / "benign" / "1.png").write_bytes(png(0))
    (tmp_path / "malignant").mkdir()
    (tmp_path / "malignant" / "2.png").write_bytes(png(1))
    samples = load_samples(tmp_path)
    assert samples.ids == ["benign/1.png", "malignant/2.png"]
    assert samples.remarks == ("1 file of other kinds (1 .tar) passed over",)


def test_load_samples__a_shard_that_ends_early_is_unknown(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", pictures("a/1.png", "b/2.png"))
    cut = write_tar(tmp_path / "1.tar", pictures("a/3.png", "b/4.png", "b/5.png", first=2))
    cut.write_bytes(cut.read_bytes()[:2600])
    samples = load_samples(tmp_path)
    assert samples.ids == ["0.tar/a/1.png", "0.tar/b/2.png"]
    assert list(samples.unlisted) == [str(cut)]
    assert "2 members are whole, and what should follow is unknown" in samples.unlisted[str(cut)]
    with pytest.raises(DataError, match=r"1\.tar cannot be read: it ends early or is damaged: 2 members are whole"):
        load_samples(cut)
    assert is_there(cut / "a" / "3.png")  # nobody knows


def test_read_image__sparse_and_missing_members(tmp_path: Path) -> None:
    """A sparse file as GNU tar writes it: type S, with a map of what is no hole in the header."""
    info = tarfile.TarInfo("a/holes.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:398], head[398:410] = b"00000002000\0", b"00000001000\0"  # 512 bytes at 1024
    head[483:495] = b"00000003000\0"  # 1536 bytes in all
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    other = tarfile.TarInfo("b/1.png")
    other.size = 3
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(head) + b"x" * 512 + other.tobuf() + b"abc".ljust(512, b"\0") + bytes(1024))
    samples = load_samples(path)
    assert samples.ids == ["a/holes.png", "b/1.png"]
    with pytest.raises(OSError, match=r"sparse in x\.tar, which dvme does not read; pack it without sparse files"):
        read_image(samples.paths[0])
    assert read_image(samples.paths[1]).data == b"abc"
    with pytest.raises(OSError, match=r"not in x\.tar"):
        read_image(path / "b" / "2.png")


def test_read_image__a_shard_that_changes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", pictures("a/1.png", "b/2.png"))
    samples = load_samples(path)
    assert read_image(samples.paths[1]).data == png(1)
    write_tar(tmp_path / "y.tar", pictures("b/2.png", "c/3.png", first=5)).replace(path)
    assert read_image(samples.paths[1]).data == png(5)
    with pytest.raises(OSError, match="not in x"):
        read_image(samples.paths[0])


def test_load_samples__columns_need_labels_beside_images(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", pictures("a/1.png", "b/2.png"))
    with pytest.raises(DataError, match=r"x\.tar is a tar archive of folders.*group needs a manifest"):
        load_samples(path, Columns(group="patient"))
    with pytest.raises(DataError, match="image_root needs a manifest file"):
        load_samples(path, image_root=tmp_path)


def test_load_samples__no_image_inside(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"inner.zip": b"x", "inner.tar": b"y", "2.txt": b"z", "a": tar_link("b")})
    with pytest.raises(DataError, match=r"x\.tar holds no images, but"):
        load_samples(path)
    path = write_tar(tmp_path / "y.tar", {})
    with pytest.raises(DataError, match=r"y\.tar holds no images \(it is empty\)"):
        load_samples(path)
