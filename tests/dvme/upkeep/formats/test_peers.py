"""What other tools see in an export, read with the libraries that people use for each format."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dvme.upkeep.formats import write_bundle
from dvme.upkeep.formats.bundle import Bundle

MakeBundle = Callable[..., Bundle]
LABELS = ["a", 'b, "c"', "line\nbreak", "", "ü", "a", "a", "a", "a", "a"]


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return make_bundle(10, label=LABELS, content_id=["column"] * 10)


def features(bundle: Bundle, name: str) -> np.ndarray:
    return np.concatenate(list(bundle.embeddings[name].blocks()))


def test_hdf5__with_h5py(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "x.h5", bundle)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file.attrs["format"] == "dvme-export"
        assert file.attrs["format_version"] == 1
        header = json.loads(file.attrs["header"])
        assert header["backbones"][0]["fingerprint"] == {"weights": "dino", "size": 224}
        assert header["backbones"][0]["provenance"] == {"created": "today"}
        assert file["content_id"][...].tolist() == bundle.content_ids.tolist()
        assert file["first_seen"].asstr()[...].tolist() == [f"class/{row}.png" for row in range(10)]
        assert file["columns/label"].asstr()[...].tolist() == LABELS
        group = file["embeddings/timm:a%2Fb"]
        np.testing.assert_array_equal(group["features"][...], features(bundle, "timm:a/b"))
        assert group["features"].dtype == np.float32
        assert group["state"][...].tolist() == [1, 1, 2, 1, 1, 2, 0, 1, 2, 1]
        assert group["reason"].asstr()[2] == "not an image, or torn"


def test_npz__with_numpy(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "x.npz", bundle)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        header = json.loads(file["meta.json"])
        assert (header["format"], header["format_version"]) == ("dvme-export", 1)
        np.testing.assert_array_equal(file["embeddings/dino/features"], features(bundle, "dino"))
        assert file["embeddings/dino/features"].dtype == np.float16
        assert file["embeddings/dino/state"].tolist() == [1, 1, 2, 1, 1, 2, 0, 1, 2, 1]
        assert file["first_seen"].tolist() == [f"class/{row}.png" for row in range(10)]
        assert file["columns/label"].tolist() == LABELS
        assert file["content_id"].tolist() == bundle.content_ids.tolist()


def test_parquet__with_pandas(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "x.parquet", bundle)
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert table["label"].tolist() == LABELS
    assert table["column:content_id"].tolist() == ["column"] * 10
    assert table["content_id"].tolist() == [row.tobytes().hex() for row in bundle.content_ids]
    assert table["dino:state"].tolist()[:3] == ["done", "done", "failed"]
    assert table["dino:state"][6] == "pending"
    np.testing.assert_array_equal(np.stack(table["dino:features"]), features(bundle, "dino"))
    assert np.stack(table["dino:features"]).dtype == np.float16
    header = json.loads(pq.read_schema(tmp_path / "x.parquet").metadata[b"dvme-export"])
    assert [item["name"] for item in header["backbones"]] == ["dino", "timm:a/b"]


def test_parquet__a_row_group_is_a_block(make_bundle: MakeBundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "x.parquet", make_bundle(5000))
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4096, 904]


def test_csv__with_the_csv_module(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "x.csv", bundle)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == LABELS
    assert [row["first_seen"] for row in rows] == [f"class/{row}.png" for row in range(10)]
    halves = np.array([[np.float16(row[f"dino:{axis}"]) for axis in range(3)] for row in rows])
    np.testing.assert_array_equal(halves, features(bundle, "dino"))
    singles = np.array([[np.float32(row[f"timm:a/b:{axis}"]) for axis in range(2)] for row in rows])
    np.testing.assert_array_equal(singles, features(bundle, "timm:a/b"))
    header = json.loads((tmp_path / "x.csv.json").read_text())["header"]
    assert (header["format"], header["format_version"], header["n_rows"]) == ("dvme-export", 1, 10)


def test_csv__decimals_are_the_shortest(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """numpy's own shortest representation, by the same number of significant digits."""
    bundle = make_bundle(60, {"h": (4, "float16"), "s": (4, "float32")})
    write_bundle(tmp_path / "x.csv", bundle)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in ("h", "s"):
        for row, values in zip(rows, features(bundle, name), strict=True):
            written = [significant(row[f"{name}:{axis}"]) for axis in range(4)]
            assert written == [significant(np.format_float_positional(value, unique=True)) for value in values]


def significant(decimal: str) -> int:
    digits = decimal.lower().partition("e")[0].replace(".", "").replace("-", "").strip("0")
    return len(digits)


def test_parquet_and_csv__two_fields_of_one_name_are_refused(make_bundle: MakeBundle, tmp_path: Path) -> None:
    from dvme.errors import DataError

    bundle = make_bundle(2, {"column:a": (2, "float32")}, **{"a:state": ["x", "y"]})
    for suffix in (".parquet", ".csv"):
        with pytest.raises(DataError, match="two columns would be called 'column:a:state' in one table"):
            write_bundle(tmp_path / f"x{suffix}", bundle)
    assert not list(tmp_path.iterdir())
    write_bundle(tmp_path / "x.npz", bundle)
