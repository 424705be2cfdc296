from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dvme.data import load_samples
from dvme.data.sources import is_there, read_image
from dvme.data.sources.parquet import SOURCE, ParquetMembers
from dvme.errors import DataError

datasets.disable_progress_bars()


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 6), i, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def made(numbers: Any) -> datasets.Dataset:
    rows = {"image": [{"bytes": png(i), "path": f"{i}.png"} for i in numbers], "label": [i % 2 for i in numbers]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A repository as hubs lay it out."""
    (tmp_path / "data").mkdir()
    for name, numbers in {
        "train-00000-of-00002": range(3),
        "train-00001-of-00002": range(3, 5),
        "test-00000-of-00001": range(9, 11),
    }.items():
        made(numbers).to_parquet(tmp_path / f"data/{name}.parquet", batch_size=2)
    (tmp_path / "README.md").write_text("a set")
    return tmp_path


def test_list__as_hubs_lay_it_out(hub: Path) -> None:
    samples = load_samples(hub)
    assert samples.splits == ["test"] * 2 + ["train"] * 5
    assert samples.labels == ["yes", "no", "no", "yes", "no", "yes", "no"]
    assert samples.ids[5] == "data/train-00001-of-00002.parquet/image/000000"
    assert [read_image(path).data for path in samples.paths] == [png(i) for i in (9, 10, 0, 1, 2, 3, 4)]
    assert load_samples(hub / "data").ids[0] == "test-00000-of-00001.parquet/image/000000"
    assert load_samples(hub / "data/train-00001-of-00002.parquet").splits == ["", ""]


def test_list__folders_of_splits(tmp_path: Path) -> None:
    for split, numbers in {"train": range(3), "test": range(5, 7)}.items():
        (tmp_path / split).mkdir()
        made(numbers).to_parquet(tmp_path / split / "0000.parquet")
    assert load_samples(tmp_path).splits == ["test"] * 2 + ["train"] * 3


def test_list__a_missing_or_damaged_file(hub: Path) -> None:
    first = hub / "data/train-00000-of-00002.parquet"
    content = first.read_bytes()
    first.write_bytes(content[:-20])
    with pytest.raises(DataError, match=r"train-00000-of-00002\.parquet cannot be read as Parquet"):
        load_samples(hub)
    first.unlink()
    with pytest.raises(DataError, match=r"train-00000-of-00002\.parquet is not there"):
        load_samples(hub)


@pytest.mark.parametrize("damaged", ["label", "image"])
def test_list__a_page_that_is_damaged(tmp_path: Path, damaged: str) -> None:
    """The reason is of several lines in pyarrow's words."""
    path = tmp_path / "a.parquet"
    made(range(3)).to_parquet(path)
    meta = pq.ParquetFile(path).metadata.row_group(0)
    columns = [meta.column(at) for at in range(meta.num_columns)]
    of_it = next(each for each in columns if each.path_in_schema.startswith(damaged))
    data = bytearray(path.read_bytes())
    at = of_it.dictionary_page_offset or of_it.data_page_offset
    data[at : at + 8] = b"\x0e" * 8
    path.write_bytes(data)
    if damaged == "label":
        with pytest.raises(DataError, match=r"^[^\n]*a\.parquet cannot be read as Parquet: [^\n]*; load it again$"):
            load_samples(path)
    with pytest.raises(OSError, match=r"^[^\n]*$") if damaged == "image" else nullcontext():
        read_image(path / "image" / "1")


def test_list__a_table_stays_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    pd.DataFrame({"image": ["a.png"], "label": ["x"]}).to_parquet(tmp_path / "manifest.parquet")
    assert not SOURCE.holds_images(tmp_path / "manifest.parquet")
    assert load_samples(tmp_path / "manifest.parquet").ids == ["a.png"]
    assert load_samples(tmp_path).ids == ["a.png"]
    made(range(2)).to_parquet(tmp_path / "images.parquet")
    samples = load_samples(tmp_path)
    assert samples.ids == ["images.parquet/image/000000", "images.parquet/image/000001"]
    assert any("passed over: manifest.parquet" in line for line in samples.remarks)


def test_list__a_manifest_may_name_rows(tmp_path: Path) -> None:
    made(range(3)).to_parquet(tmp_path / "images.parquet")
    (tmp_path / "manifest.csv").write_text("image,label\nimages.parquet/image/2,x\n")
    samples = load_samples(tmp_path / "manifest.csv")
    assert [read_image(path).data for path in samples.paths] == [png(2)]


def test_list__rows_without_an_image(tmp_path: Path) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [{"bytes": png(1), "path": None}, None]
    pq.write_table(pa.table({"picture": pa.array(rows, kind), "label": [3, 4]}), tmp_path / "a.parquet")
    samples = load_samples(tmp_path / "a.parquet")
    assert (samples.ids, samples.labels) == (["picture/000000"], ["3"])
    with pytest.raises(OSError, match="no image inside"):
        read_image(tmp_path / "a.parquet/picture/1")


def test_read__each_group_of_rows_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(made(range(40)).data.table, tmp_path / "a.parquet", row_group_size=7)
    groups: list[int] = []
    read = ParquetMembers._group
    monkeypatch.setattr(ParquetMembers, "_group", lambda own, name, at: groups.append(at) or read(own, name, at))
    samples = load_samples(tmp_path / "a.parquet")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda path: read_image(path).data, samples.paths)) == [png(i) for i in range(40)]
    assert sorted(groups) == list(range(6))
    assert not any(is_there(tmp_path / "a.parquet" / member) for member in ("image/40", "label/0", "0"))
