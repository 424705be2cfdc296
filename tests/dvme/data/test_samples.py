from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvme.data import Columns, Samples, load_samples
from dvme.data.samples import SPLIT_NAMES, canonical_split
from dvme.errors import DataError


def test_samples__columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        Samples(paths=[Path("a"), Path("b")], ids=["a", "b"], labels=["x"], splits=["", ""], groups=["", ""])


def test_samples__repeated_image() -> None:
    with pytest.raises(DataError, match=r"image a\.png is listed twice"):
        Samples(paths=[Path("a"), Path("b")], ids=["a.png"] * 2, labels=["", ""], splits=["", ""], groups=["", ""])


@pytest.mark.parametrize(
    ("given", "expected"),
    [("train", "train"), (" Training ", "train"), ("VALID", "val"), ("validation", "val"), ("testing", "test")],
)
def test_canonical_split__spellings(given: str, expected: str) -> None:
    assert canonical_split(given) == expected


def test_canonical_split__unknown_name_lists_the_known() -> None:
    with pytest.raises(DataError) as caught:
        canonical_split("holdout")
    assert "'holdout'" in str(caught.value)
    assert all(name in str(caught.value) for name in SPLIT_NAMES)


def test_load_samples__file_that_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "images.docx"
    path.touch()
    with pytest.raises(DataError, match=r"is not a manifest; give a folder or a file of \.csv, \.tsv or \.jsonl"):
        load_samples(path)


def test_load_samples__column_option_with_a_folder(class_folders: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder, label needs a manifest"):
        load_samples(class_folders, Columns(label="grade"))


def test_load_samples__folder_by_text(class_folders: Path) -> None:
    samples = load_samples(str(class_folders))
    assert samples.labels == ["dark"] * 12 + ["grey"] * 12 + ["light"] * 12


def test_load_samples__manifest_in_capitals(write_manifest: Callable[..., Path], class_folders: Path) -> None:
    path = write_manifest([["images/dark/00.png", "x"]], ["image", "label"], name="MANIFEST.CSV")
    assert load_samples(str(path)).labels == ["x"]
