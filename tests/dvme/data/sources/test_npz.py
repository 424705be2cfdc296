from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dvme.data import Columns, decode_image, load_samples
from dvme.data.sources import is_there, read_image
from dvme.data.sources.arrays import rows
from dvme.errors import DataError


def images(n: int, *shape: int, seed: int = 0, dtype: str = "u1") -> Any:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(0, int(info.max) + 1, (n, *shape)).astype(dtype)


def medmnist(flag: str, folder: Path, labels: Mapping[str, Any], *shape: int) -> Path:
    """A miniature in the published layout."""
    arrays = {f"{split}_labels": np.array(values, np.uint8) for split, values in labels.items()}
    for seed, (split, values) in enumerate(labels.items()):
        arrays[f"{split}_images"] = images(len(values), *shape, seed=seed)
    np.savez_compressed(folder / f"{flag}.npz", **arrays)
    return folder / f"{flag}.npz"


LABELS = {"train": [[0], [8], [8]], "val": [[1]], "test": [[7], [0]]}


def test_list__medmnist_with_the_names_of_its_classes(tmp_path: Path) -> None:
    samples = load_samples(medmnist("pathmnist_64", tmp_path, LABELS, 6, 5, 3))
    assert samples.ids[:4] == ["train_images/000000", "train_images/000001", "train_images/000002", "val_images/000000"]
    last = "colorectal adenocarcinoma epithelium"
    assert samples.labels == ["adipose", last, last, "background", "cancer-associated stroma", "adipose"]
    assert samples.splits == ["train"] * 3 + ["val"] + ["test"] * 2
    assert samples.given == {"label", "split"}
    assert samples.class_order == ()
    assert "pathmnist_64.npz is of MedMNIST: multi-class, 9 classes" in samples.remarks


def test_list__grades_are_in_order(tmp_path: Path) -> None:
    samples = load_samples(medmnist("retinamnist", tmp_path, {"train": [[4], [0]]}, 6, 5, 3))
    assert (samples.labels, samples.class_order) == (["4", "0"], ("0", "1", "2", "3", "4"))


def test_list__findings(tmp_path: Path) -> None:
    values = np.zeros((3, 14), np.uint8)
    values[0, [2, 13]] = values[1, 0] = 1
    samples = load_samples(medmnist("chestmnist", tmp_path, {"train": values}, 6, 5))
    assert samples.labels == ["|effusion|hernia|", "|atelectasis|", "|"]
    assert samples.findings[:2] == ("atelectasis", "cardiomegaly")
    assert any("not the official ones" in line for line in samples.remarks)


def test_list__labels_of_another_set_stay_numbers(tmp_path: Path) -> None:
    samples = load_samples(medmnist("breastmnist", tmp_path, {"train": [[0], [2]]}, 6, 5))
    assert samples.labels == ["0", "2"]
    assert any("none of the 2 classes" in line for line in samples.remarks)
    assert load_samples(medmnist("mymnist", tmp_path, LABELS, 6, 5)).labels == ["0", "8", "8", "1", "7", "0"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("shape", "dtype"), [((6, 5), "u1"), ((6, 5, 3), "u1"), ((6, 5, 1), "u1"), ((6, 5), ">u2")])
def test_read__equals_the_array(
    save: Any, shape: tuple[int, ...], dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 400)  # several blocks
    saved = images(50, *shape, dtype=dtype)
    save(tmp_path / "a.npz", train_images=saved, other=np.zeros(3))
    samples = load_samples(tmp_path / "a.npz")
    order = np.random.default_rng(1).permutation(50)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda at: read_image(samples.paths[at]).data, order))
    with np.load(tmp_path / "a.npz") as file:
        for at, data in zip(order, found, strict=True):
            image = file["train_images"][at].squeeze()
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
            assert data.startswith(b"P6" if shape[-1] == 3 else b"P5")
            assert dtype != "u1" or np.array_equal(np.asarray(decode_image(data)), image)


@pytest.mark.parametrize("member", ["train_images/50", "train_images/x", "train_images/²", "other/0", "no/0", "0"])
def test_read__a_row_that_is_not_there(member: str, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", train_images=images(50, 6, 5), other=np.zeros(3))
    assert is_there(tmp_path / "a.npz/train_images/000049")
    assert not is_there(tmp_path / "a.npz" / member)
    with pytest.raises(OSError, match=r"no row|no array|a row is an image"):
        read_image(tmp_path / "a.npz" / member)


def test_read__a_file_that_was_replaced(tmp_path: Path) -> None:
    for seed in (0, 1):
        saved = images(3, 6, 5, seed=seed)
        np.savez_compressed(tmp_path / f"{seed}.npz", images=saved)
        (tmp_path / f"{seed}.npz").replace(tmp_path / "a.npz")
        assert read_image(tmp_path / "a.npz/images/2").data.endswith(saved[2].tobytes())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": np.array([None, {}])}, "never unpickled"),
        ({"anything": np.array([None, {}])}, "never unpickled"),
        ({"train_images": images(2, 6, 5), "train_labels": np.array([None, {}])}, "never unpickled"),
        ({"train_images": images(2, 28, 28, 28)}, "volumes of 28x28x28"),
        ({"train_images": np.zeros((2, 6, 5))}, "nobody knows which is white"),
        ({"train_images": np.asfortranarray(images(2, 6, 5))}, "ascontiguousarray"),
        (
            {"train_images": images(2, 6, 5), "train_labels": np.zeros((3, 1))},
            "2 images in 'train_images' and 3 labels",
        ),
        ({"train_images": images(2, 6, 5), "train_labels": np.full((2, 3), 7)}, "train_labels"),
        ({"features": np.zeros((2, 9), np.float32), "ids": np.array(["a", "b"])}, "dvme cache import"),
        ({"left": images(2, 6, 5), "right": images(2, 6, 5)}, "several arrays of images: left, right"),
        ({"numbers": np.zeros(3)}, "holds no images"),
    ],
)
def test_list__what_cannot_be_used(arrays: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load_samples(tmp_path / "a.npz")
    assert "\n" not in str(error.value)


def test_list__an_array_and_columns_by_name(tmp_path: Path) -> None:
    arrays = {"left": images(2, 6, 5), "right": images(2, 6, 5), "who": np.array(["p1", "p2"]), "y": np.array([3, 4])}
    np.savez(tmp_path / "a.npz", **arrays)
    samples = load_samples(tmp_path / "a.npz", Columns(image="right", label="y", group="who", keep="y"))
    assert samples.ids == ["right/000000", "right/000001"]
    assert (samples.labels, samples.groups, samples.kept) == (["3", "4"], ["p1", "p2"], {"y": ["3", "4"]})
    with pytest.raises(DataError, match="has no array 'no'"):
        load_samples(tmp_path / "a.npz", Columns(image="no"))


@pytest.mark.parametrize("n_bytes", [0, 10, 500])
def test_list__cut_short(n_bytes: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=images(20, 6, 5))
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:n_bytes])
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        load_samples(tmp_path / "a.npz")


def test_list__damaged_or_compressed_otherwise(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        buffer = io.BytesIO()
        np.save(buffer, images(20, 6, 5))
        archive.writestr("images.npy", buffer.getvalue())
    with pytest.raises(DataError, match="compressed in a way that NumPy does not write"):
        load_samples(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [(b", 'fort", b",('fort"), (b"'shape'", b"'shap!'"), (b"\x10\0\x14\0train", b"\xff\0\x14\0train")],
)
def test_list__headers_that_are_damaged(whole: bytes, damaged: bytes, tmp_path: Path) -> None:
    """The last is the length of a name, of which zipfile quotes all."""
    path = tmp_path / "a.npz"
    np.savez(path, train_images=images(3, 8, 8))
    data = path.read_bytes()
    assert data.count(whole) == 1
    path.write_bytes(data.replace(whole, damaged))
    with pytest.raises(DataError, match=r"a\.npz cannot be read as \.npz: .*; load it again") as caught:
        load_samples(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value).replace(str(path), "")) < 400


def test_list__images_only_refuses_no_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=images(2, 6, 5), train_labels=np.zeros((3, 1)))
    assert load_samples(tmp_path / "a.npz", images_only=True).labels == ["", ""]
