from __future__ import annotations

import io
import json
import struct
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dvme.data import Columns, load_samples
from dvme.data.sources import is_there, read_image
from dvme.errors import DataError
from dvme_cache import content_id

datasets.disable_progress_bars()
FEATURES = {
    "image": datasets.Image(),
    "label": datasets.ClassLabel(names=["benign", "malignant"]),
    "patient": datasets.Value("string"),
    "signs": datasets.Sequence(datasets.ClassLabel(names=["edema", "mass", "nodule"])),
    "age": datasets.Value("int64"),
}


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 6, 3), i, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def made(n: int, *, first: int = 0, **columns: Any) -> datasets.Dataset:
    rows = {
        "image": [{"bytes": png(first + i), "path": None} for i in range(n)],
        "label": [i % 2 for i in range(n)],
        "patient": [f"p{i // 2}" for i in range(n)],
        "signs": [[2, 0][: i % 3] for i in range(n)],
        "age": list(range(40, 40 + n)),
    } | columns
    features = {name: FEATURES.get(name, datasets.Image()) for name in rows}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_list__a_data_set(tmp_path: Path) -> None:
    made(5).save_to_disk(tmp_path / "set", num_shards=2)
    samples = load_samples(tmp_path / "set", Columns(group="patient", keep="age"))
    assert samples.ids[2:4] == ["data-00000-of-00002.arrow/image/000002", "data-00001-of-00002.arrow/image/000000"]
    assert samples.labels == ["benign", "malignant", "benign", "malignant", "benign"]
    assert samples.groups == ["p0", "p0", "p1", "p1", "p2"]
    assert samples.kept == {"age": ["40", "41", "42", "43", "44"]}
    assert samples.given == {"label", "group"}
    written = datasets.load_from_disk(tmp_path / "set").cast_column("image", datasets.Image(decode=False))
    for path, row in zip(samples.paths, written, strict=True):
        assert read_image(path).data == row["image"]["bytes"]
        assert read_image(path).content_id == content_id(row["image"]["bytes"])


def test_list__splits_of_a_dictionary(tmp_path: Path) -> None:
    parts = {"train": made(3), "validation": made(2, first=9)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    samples = load_samples(tmp_path / "set")
    assert samples.splits == ["train"] * 3 + ["val"] * 2
    assert samples.ids[3] == "validation/data-00000-of-00001.arrow/image/000000"
    assert load_samples(tmp_path / "set/train").splits == [""] * 3
    datasets.DatasetDict(parts | {"unsupervised": made(1)}).save_to_disk(tmp_path / "odd")
    with pytest.raises(DataError, match=r"'unsupervised' is not known.*name one folder"):
        load_samples(tmp_path / "odd")


def test_list__findings(tmp_path: Path) -> None:
    made(4).save_to_disk(tmp_path / "set")
    samples = load_samples(tmp_path / "set", Columns(label="signs"))
    assert samples.labels == ["|", "|nodule|", "|nodule|edema|", "|"]
    assert samples.findings == ("edema", "mass", "nodule")


def test_list__labels_of_other_names_and_without(tmp_path: Path) -> None:
    made(3, label=[0, -1, None]).rename_column("label", "diagnosis").save_to_disk(tmp_path / "one")
    assert load_samples(tmp_path / "one").labels == ["benign", "", ""]
    made(2).remove_columns(["label"]).save_to_disk(tmp_path / "none")
    samples = load_samples(tmp_path / "none")
    assert "label" not in samples.given
    assert load_samples(tmp_path / "none", Columns(label="age")).labels == ["40", "41"]


def test_list__several_columns_of_images(tmp_path: Path) -> None:
    masks = [{"bytes": png(100 + i), "path": None} for i in range(2)]
    made(2, mask=masks).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match="several columns of images: image, mask; choose one with"):
        load_samples(tmp_path / "set")
    samples = load_samples(tmp_path / "set", Columns(image="mask"))
    assert [read_image(path).data for path in samples.paths] == [png(100), png(101)]


def test_list__images_beside_and_rows_without(tmp_path: Path) -> None:
    """As `datasets` keeps them in memory; save_to_disk puts the files inside."""
    (tmp_path / "a.png").write_bytes(png(7))
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [{"bytes": None, "path": "a.png"}, None, {"bytes": png(8), "path": "x.png"}]
    table = pa.table({"image": pa.array(rows, kind), "label": ["a", "b", "c"]})
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    samples = load_samples(tmp_path / "data.arrow")
    assert samples.ids == ["image/000000", "image/000002"]
    assert (samples.paths[0], samples.labels) == (tmp_path / "a.png", ["a", "c"])
    assert [read_image(path).data for path in samples.paths] == [png(7), png(8)]
    assert any("1 row left out" in line for line in samples.remarks)
    members = ["image/0", "image/1", "image/2", "image/3", "label/0"]
    assert [is_there(tmp_path / "data.arrow" / member) for member in members] == [False, False, True, False, False]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"1 file that does not exist: .*a\.png"):
        load_samples(tmp_path / "data.arrow")


def test_list__not_whole(tmp_path: Path) -> None:
    made(6).save_to_disk(tmp_path / "set", num_shards=2)
    second = tmp_path / "set/data-00001-of-00002.arrow"
    content = second.read_bytes()
    for n_bytes in (0, 100, len(content) // 2, len(content) - 8):
        second.write_bytes(content[:n_bytes])
        with pytest.raises(DataError, match="cannot be read as Arrow") as error:
            load_samples(tmp_path / "set")
        assert "\n" not in str(error.value)
    second.unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow is not there"):
        load_samples(tmp_path / "set")


def test_list__that_ends_between_two_batches(tmp_path: Path) -> None:
    """Arrow itself reads such a stream as a shorter one."""
    table = made(4).data.table
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file:
        writer = pa.ipc.new_stream(file, table.schema)
        writer.write_table(table.slice(0, 2))
        end = file.tell()
        writer.write_table(table.slice(2))
        writer.close()
    assert len(load_samples(tmp_path / "a.arrow")) == 4
    content = (tmp_path / "a.arrow").read_bytes()[:end]
    assert pa.ipc.open_stream(content).read_all().num_rows == 2
    (tmp_path / "a.arrow").write_bytes(content)
    with pytest.raises(DataError, match="it ends early"):
        load_samples(tmp_path / "a.arrow")


@pytest.mark.parametrize("column", ["image", "label"])
def test_list__offsets_that_lead_out_of_the_file(tmp_path: Path, column: str) -> None:
    """Read as they are, they bring the process down."""
    path = tmp_path / "a.arrow"
    pictures = pa.array([{"bytes": png(i), "path": None} for i in range(3)], datasets.Image().pa_type)
    table = pa.table({"image": pictures, "label": ["benign", "malignant", "benign"]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    data = path.read_bytes()
    sizes = [len(png(i)) for i in range(3)] if column == "image" else [6, 9, 6]
    offsets = struct.pack("<4i", *accumulate(sizes, initial=0))
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, struct.pack("<4i", 0, 2_000_000_000, -5, sum(sizes))))
    with pytest.raises(DataError, match=r"a\.arrow cannot be read as Arrow: .*; save the data set again"):
        load_samples(path)
    with pytest.raises(OSError, match="it cannot be read as Arrow"):
        read_image(path / "image" / "1")


def test_list__a_selection_beside_the_data(tmp_path: Path) -> None:
    made(4).save_to_disk(tmp_path / "set")
    state = json.loads((tmp_path / "set/state.json").read_text())
    (tmp_path / "set/state.json").write_text(json.dumps(state | {"_indices_files": [{"filename": "i.arrow"}]}))
    with pytest.raises(DataError, match=r"flatten_indices"):
        load_samples(tmp_path / "set")
    made(4).select([3, 1]).save_to_disk(tmp_path / "flat")
    assert [read_image(path).data for path in load_samples(tmp_path / "flat").paths] == [png(3), png(1)]


def test_list__without_images(tmp_path: Path) -> None:
    arrays = datasets.Features({"image": datasets.Array2D((2, 2), "uint8")})
    datasets.Dataset.from_dict({"image": [[[1, 2], [3, 4]]]}, features=arrays).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match=r"no column of images; it has: image \(Array2D\).*cast_column"):
        load_samples(tmp_path / "set")
    with pytest.raises(DataError, match="'image' is Array2D, no images"):
        load_samples(tmp_path / "set", Columns(image="image"))
