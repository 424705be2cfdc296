from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from archives import pictures, png, write_tar

from dvme.data import Columns, Samples, load_samples
from dvme.data.sources import read_image
from dvme.data.sources.webdataset import split_name
from dvme.errors import DataError


def shard(path: Path, samples: dict[str, dict[str, Any]], first: int = 0) -> Path:
    """Key to field to content; a field named like an image gets a picture of its own."""
    members: dict[str, bytes] = {}
    for key, fields in samples.items():
        for name, value in fields.items():
            text = json.dumps(value) if name == "json" else str(value)
            members[f"{key}.{name}"] = png(first + len(members)) if name.endswith("png") else text.encode()
    return write_tar(path, members)


def table(samples: Samples, *columns: str) -> list[tuple[str, ...]]:
    own = {"label": samples.labels, "split": samples.splits, "group": samples.groups} | dict(samples.kept)
    return list(zip(samples.ids, *(own[name] for name in columns), strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s1.png", ("s1", "png")),
        ("a.b/s1.left.png", ("a.b/s1", "left.png")),
        ("a/s1", ("a/s1", "")),
        ("s1.2.cls", ("s1", "2.cls")),
    ],
)
def test_split_name__the_first_dot_of_the_last_part(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected


def test_load_samples__classes_in_cls(tmp_path: Path) -> None:
    shard(tmp_path / "x" / "b.tar", {"s2": {"png": 0, "cls": "10\n", "json": {"label": "no", "age": 7}}}, first=10)
    shard(tmp_path / "x" / "a.tar", {"s0": {"cls": 2, "png": 0}, "s1": {"png": 0, "cls": 0}})
    samples = load_samples(tmp_path / "x")
    assert table(samples, "label") == [("a.tar/s0.png", "2"), ("a.tar/s1.png", "0"), ("b.tar/s2.png", "10")]
    assert samples.given == {"label"}
    assert [read_image(path).data for path in samples.paths] == [png(1), png(2), png(10)]
    assert samples.remarks == ("columns used of x: label = 'cls'; not used: label, age",)
    # One shard alone calls its images as all of them do together.
    assert table(load_samples(tmp_path / "x" / "a.tar"), "label") == table(samples, "label")[:2]


def test_load_samples__columns_from_json(tmp_path: Path) -> None:
    told = [
        {"label": "benign", "patient": 7, "part": "train", "age": 61.0, "smoker": True, "note": None},
        {"label": " malignant", "patient": "007", "part": "VAL", "age": 61.5, "smoker": False},
        {"label": "", "patient": 12345678901234567890, "part": "test", "age": float("nan")},
    ]
    samples = {f"s{index}": {"png": 0, "json": each} for index, each in enumerate(told)}
    path = shard(tmp_path / "x.tar", samples)
    found = load_samples(path, Columns(group="patient", split="part", keep="age,smoker"))
    assert table(found, "label", "split", "group", "age", "smoker") == [
        ("x.tar/s0.png", "benign", "train", "7", "61", "True"),
        ("x.tar/s1.png", "malignant", "val", "007", "61.5", "False"),
        ("x.tar/s2.png", "", "test", "12345678901234567890", "", ""),
    ]
    assert found.given == {"label", "split", "group"}
    images_only = load_samples(path, images_only=True)
    assert (images_only.ids, set(images_only.labels), images_only.given) == (found.ids, {""}, frozenset())


def test_load_samples__findings_from_json(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "x.tar",
        {
            "s0": {"png": 0, "json": {"Effusion": 1, "Mass": 0}},
            "s1": {"png": 0, "json": {"Effusion": -1, "Mass": 1}},
            "s2": {"png": 0, "json": {"Mass": 0}},
        },
    )
    found = load_samples(path, Columns(label="Effusion,Mass"))
    assert found.findings == ("Effusion", "Mass")
    assert found.labels == ["|Effusion|", "|Effusion=?|Mass|", "|Effusion=|"]


def test_load_samples__no_label_is_said(tmp_path: Path) -> None:
    samples = {
        f"s{index}": {"png": 0, "json": {"grade": "ab"[index % 2]}, "txt": f"text {index}"} for index in range(6)
    }
    found = load_samples(shard(tmp_path / "x.tar", samples))
    assert set(found.labels) == {""}
    assert found.given == frozenset()
    assert "no column 'label'; columns that could be it: grade (2 values); name one with label" in found.remarks[-1]
    assert load_samples(tmp_path / "x.tar", Columns(label="grade")).labels == ["a", "b"] * 3
    with pytest.raises(DataError, match=r"x\.tar has no column 'sex'; it has: grade, txt"):
        load_samples(tmp_path / "x.tar", Columns(keep="sex"))


def test_load_samples__texts_as_labels(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", pictures("a/1.png", "b/2.png") | {"a/1.txt": b"one", "b/2.txt": b"two\n"})
    assert load_samples(path).labels == ["a", "b"]  # boxes and the like do not make shards of class folders
    assert load_samples(path, Columns(label="txt")).labels == ["one", "two"]


def test_load_samples__several_images_of_a_sample(tmp_path: Path) -> None:
    samples = {f"s{index}": {"left.png": 0, "right.png": 0, "cls": index} for index in range(2)}
    path = shard(tmp_path / "x.tar", samples)
    found = load_samples(path)
    assert table(found, "label", "group") == [
        ("x.tar/s0.left.png", "0", "s0"),
        ("x.tar/s0.right.png", "0", "s0"),
        ("x.tar/s1.left.png", "1", "s1"),
        ("x.tar/s1.right.png", "1", "s1"),
    ]
    assert found.given == {"label", "group"}
    assert found.remarks[0] == (
        "samples of up to 2 images (left.png, right.png): each is a row, and a sample is a group; name one with image"
    )
    for wanted in ("left", "left.png", ".LEFT.png"):
        one = load_samples(path, Columns(image=wanted))
        assert table(one, "label", "group") == [("x.tar/s0.left.png", "0", ""), ("x.tar/s1.left.png", "1", "")]
        assert one.remarks[0] == "2 files of other kinds (2 image .right.png) passed over"
    with pytest.raises(DataError, match=r"no image that ends in 'up'; it has: left\.png, right\.png; choose one with"):
        load_samples(path, Columns(image="up"))
    # Keys that two shards share are two samples.
    shard(tmp_path / "two" / "0.tar", samples)
    shard(tmp_path / "two" / "1.tar", samples, first=50)
    assert sorted(set(load_samples(tmp_path / "two").groups)) == ["0.tar/s0", "0.tar/s1", "1.tar/s0", "1.tar/s1"]


def test_load_samples__splits_by_names_and_by_json(tmp_path: Path) -> None:
    for index, name in enumerate(("train-0.tar", "test-0.tar")):
        shard(tmp_path / "x" / name, {f"s{index}": {"png": 0, "json": {"label": "a", "split": "val"}}}, first=index * 9)
    assert load_samples(tmp_path / "x").splits == ["val", "val"]
    shard(tmp_path / "x" / "train-0.tar", {"s0": {"png": 0, "cls": 0}})
    shard(tmp_path / "x" / "test-0.tar", {"s1": {"png": 0, "cls": 0}}, first=9)
    assert load_samples(tmp_path / "x").splits == ["test", "train"]
    assert load_samples(tmp_path / "x" / "test-0.tar").splits == ["test"]


def test_load_samples__fields_that_cannot_be_used(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"s1.png": png(0), "s1.json": b"{not json", "s1.npy": b"x", "alone.cls": b"1"})
    with pytest.raises(DataError, match=r"x\.tar/s1\.json cannot be read: .*; mend it, and pack the archive again"):
        load_samples(path)
    path = write_tar(tmp_path / "x.tar", {"s1.png": png(0), "s1.json": b"[1, 2]", "s1.npy": b"x", "alone.cls": b"1"})
    assert load_samples(path).remarks[0] == "2 files of other kinds (1 .cls, 1 .npy) passed over"
    assert load_samples(path).remarks[-1] == "1 .json file without keys, passed over (such as x.tar/s1.json)"
    path = shard(tmp_path / "x.tar", {"s1": {"png": 0, "json": {"label": ["a", "b"]}}})
    with pytest.raises(DataError, match=r"'label' is a list, or has parts, in x\.tar/s1\.json"):
        load_samples(path)
    path = shard(tmp_path / "x.tar", {"s1": {"png": 0, "json": {"label": "a", "split": "holdout"}}})
    with pytest.raises(DataError, match="split 'holdout' is not known"):
        load_samples(path)
