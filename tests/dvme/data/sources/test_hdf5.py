from __future__ import annotations

import csv
import gzip
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from dvme.data import Columns, load_samples
from dvme.data.sources import is_there, read_image
from dvme.data.sources.arrays import rows
from dvme.errors import DataError
from dvme_cache import content_id

NAME = "camelyonpatch_level_2_split_{}_{}.h5"
SPLITS = {"train": 5, "valid": 3, "test": 2}


def images(n: int, *shape: int, dtype: str = "u1") -> Any:
    info = np.iinfo(dtype)
    return np.random.default_rng(n).integers(0, int(info.max) + 1, (n, *shape)).astype(dtype)


def save(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


@pytest.fixture
def pcam(tmp_path: Path) -> Path:
    """A miniature in the published layout."""
    for split, n in SPLITS.items():
        y = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) % 2
        save(tmp_path / NAME.format(split, "x"), x=images(n, 96, 96, 3))
        save(tmp_path / NAME.format(split, "y"), y=y)
        with (tmp_path / NAME.format(split, "meta").replace(".h5", ".csv")).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi"])
            table.writerows([i, 10 * i, 20 * i, True, bool(y[i, 0, 0, 0]), f"{split}_{i // 2}"] for i in range(n))
    return tmp_path


def test_list__patchcam(pcam: Path) -> None:
    samples = load_samples(pcam, Columns(keep=["coord_x"]))
    assert samples.ids[4:6] == [f"{NAME.format('train', 'x')}/x/000004", f"{NAME.format('valid', 'x')}/x/000000"]
    assert samples.splits == ["train"] * 5 + ["val"] * 3 + ["test"] * 2
    assert samples.labels == list("0101001001")
    assert samples.groups[3:6] == ["train_1", "train_2", "valid_0"]
    assert samples.kept["coord_x"][:3] == ["0", "20", "40"]
    assert samples.given == {"label", "split", "group"}
    with h5py.File(pcam / NAME.format("valid", "x")) as file:
        assert read_image(samples.paths[6]).data == b"P6\n96 96\n255\n" + file["x"][1].tobytes()


def test_list__one_file_of_patchcam(pcam: Path) -> None:
    samples = load_samples(pcam / NAME.format("test", "x"))
    assert (samples.ids, samples.splits, samples.labels) == (["x/000000", "x/000001"], ["test"] * 2, ["0", "1"])


def test_list__patchcam_without_labels_or_slides(pcam: Path) -> None:
    (pcam / NAME.format("test", "y")).unlink()
    (pcam / NAME.format("train", "meta").replace(".h5", ".csv")).unlink()
    samples = load_samples(pcam)
    assert samples.labels == [*"01010010", "", ""]
    assert samples.groups[:6] == [""] * 5 + ["valid_0"]
    assert any("split_test_y.h5 is not there" in line for line in samples.remarks)
    assert any("patches of one slide are not independent" in line for line in samples.remarks)


def test_list__patchcam_that_does_not_fit(pcam: Path) -> None:
    x, y = (pcam / NAME.format("test", part) for part in "xy")
    with pytest.raises(DataError, match=r"holds the labels of PatchCamelyon; name .*test_x\.h5"):
        load_samples(y)
    save(y, y=np.zeros((3, 1, 1, 1), np.uint8))
    with pytest.raises(DataError, match=r"2 images, and .*test_y\.h5 3 labels"):
        load_samples(pcam)
    (pcam / NAME.format("test", "meta").replace(".h5", ".csv")).write_text("wsi\na\n")
    save(y, y=np.zeros((2, 1, 1, 1), np.uint8))
    with pytest.raises(DataError, match="has 1 row for 2 images"):
        load_samples(pcam)
    packed = x.with_name(x.name + ".gz")
    packed.write_bytes(gzip.compress(x.read_bytes()))
    x.unlink()
    for place in (pcam, packed):
        with pytest.raises(DataError, match=r"is packed; unpack it: gunzip -k .*test_x\.h5\.gz"):
            load_samples(place)
    packed.unlink()
    with pytest.raises(DataError, match="labels of images that are not there"):
        load_samples(pcam)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (7, 3, 5)},
        {"chunks": (7, 6, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (1, 6, 5), "compression": "lzf"},
        {"maxshape": (None, 6, 5)},
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("user_block", [0, 512])
def test_read__equals_the_array(
    how: dict[str, Any], dtype: str, user_block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 400)
    saved = images(50, 6, 5, dtype=dtype)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=user_block) as file:
        file.create_dataset("group/images", data=saved, **how)
    samples = load_samples(tmp_path / "a.h5")
    order = np.random.default_rng(1).permutation(50)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda at: read_image(samples.paths[at]).data, order))
    for at, data in zip(order, found, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), saved[at])
    assert is_there(tmp_path / "a.h5/group/images/49")
    assert not any(is_there(tmp_path / "a.h5" / member) for member in ("group/images/50", "group/0", "images/0"))


def test_read__a_row_equals_the_picture_file(tmp_path: Path) -> None:
    saved = images(3, 6, 5, 3)
    Image.fromarray(saved[1]).save(tmp_path / "1.ppm")
    save(tmp_path / "a.h5", x=saved)
    found = read_image(tmp_path / "a.h5/x/000001")
    assert found.content_id == content_id((tmp_path / "1.ppm").read_bytes())


def test_read__never_written_rows_are_black(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (3, 6, 5), "u1")
    assert read_image(tmp_path / "a.h5/x/2").data == b"P5\n5 6\n255\n" + bytes(30)


def test_list__any_other_file(tmp_path: Path) -> None:
    names = np.array(["p", "q", "q"], dtype=h5py.string_dtype())
    file = save(tmp_path / "a.hdf5", x=images(3, 6, 5), masks=images(3, 6, 5), y=[2, 0, 1], patient=names)
    samples = load_samples(file, Columns(group="patient"))
    assert (samples.labels, samples.groups, samples.splits) == (["2", "0", "1"], ["p", "q", "q"], [""] * 3)
    assert samples.ids[0] == "x/000000"
    file = save(tmp_path / "b.h5", images=images(3, 6, 5), labels=names)
    assert load_samples(file).labels == ["p", "q", "q"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.zeros((2, 9), np.float32)}, "holds embeddings, no images; dvme cache import"),
        ({"x": np.zeros((2, 6, 5), np.float32)}, "nobody knows which is white"),
        ({"x": images(2, 6, 5), "y": np.zeros(3)}, "2 images in 'x' and 3 labels in 'y'"),
        ({}, "holds no images"),
    ],
)
def test_list__what_cannot_be_used(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_samples(save(tmp_path / "a.h5", **arrays))


@pytest.mark.parametrize("n_bytes", [0, 100, 3000])
def test_list__cut_short(n_bytes: int, tmp_path: Path) -> None:
    save(tmp_path / "a.h5", x=images(50, 40, 30))
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:n_bytes])
    with pytest.raises(DataError, match="cannot be read as HDF5") as error:
        load_samples(tmp_path / "a.h5")
    assert "\n" not in str(error.value)


def test_read__a_damaged_chunk_is_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1)
    saved = images(20, 40, 30)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", data=saved, chunks=(10, 40, 30), fletcher32=True)
        start = data.id.get_chunk_info(1).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[start] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    assert read_image(tmp_path / "a.h5/x/9").data.endswith(saved[9].tobytes())
    with pytest.raises(OSError, match="read"):
        read_image(tmp_path / "a.h5/x/10")
