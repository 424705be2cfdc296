from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import dvme
from dvme.data.sources import read_image
from dvme.errors import DataError
from dvme.sets.building import public_set

SIZES = {"train": 5, "valid": 3, "test": 2}
META = ["", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi"]


def _labels(part: str) -> list[int]:
    return [row % 2 for row in range(SIZES[part])]


def _pixels(part: str) -> np.ndarray:
    """(N, 96, 96, 3) with the number of the patch in every value."""
    return np.full(
        (SIZES[part], 96, 96, 3), np.arange(SIZES[part], dtype=np.uint8)[:, None, None, None] + 10 * len(part)
    )


def _write(root: Path, *parts: str, meta: bool = True) -> Path:
    """Files as the publisher's: slides `camelyon16_PART_000` and so on, of two patches each."""
    root.mkdir(parents=True, exist_ok=True)
    for part in parts:
        stem = f"camelyonpatch_level_2_split_{part}"
        with h5py.File(root / f"{stem}_x.h5", "w") as file:
            file.create_dataset("x", data=_pixels(part), chunks=(2, 96, 96, 3), compression="gzip")
        with h5py.File(root / f"{stem}_y.h5", "w") as file:
            file.create_dataset("y", data=np.array(_labels(part), np.uint8).reshape(-1, 1, 1, 1))
        if meta:
            rows = [
                [row, 100 + row, 200, label == 1, label == 1, f"camelyon16_{part}_{row // 2:03d}"]
                for row, label in enumerate(_labels(part))
            ]
            lines = [",".join(map(str, line)) for line in (META, *rows)]
            (root / f"{stem}_meta.csv").write_text("\n".join(lines) + "\n")
    return root


def test_published__rows_are_addresses(tmp_path: Path) -> None:
    root = _write(tmp_path / "pcam", *SIZES)
    built = public_set("patchcam", root, tmp_path / "m.csv")
    file = "pcam/camelyonpatch_level_2_split_{}_x.h5/x/{:06d}"
    assert built.columns == {
        "image": [file.format(part, row) for part, n in SIZES.items() for row in range(n)],
        "label": [f"{label}" for part in SIZES for label in _labels(part)],
        "split": ["train"] * 5 + ["val"] * 3 + ["test"] * 2,
        "group": [f"camelyon16_{part}_{row // 2:03d}" for part, n in SIZES.items() for row in range(n)],
        "coord_x": ["200"] * 10,
        "coord_y": [f"{100 + row}" for n in SIZES.values() for row in range(n)],
        "tumor_patch": [f"{label == 1}" for part in SIZES for label in _labels(part)],
    }
    assert built.n_groups == 3 + 2 + 1
    samples = dvme.load_samples(tmp_path / "m.csv")
    assert (samples.labels, samples.splits) == (built.columns["label"], built.columns["split"])
    image = read_image(samples.paths[6]).data
    assert image == b"P6\n96 96\n255\n" + _pixels("valid")[1].tobytes()
    assert built.remarks == (
        "camelyonpatch_level_2_split_train_x.h5 has 5 patches, not 262,144",
        "camelyonpatch_level_2_split_valid_x.h5 has 3 patches, not 32,768",
        "camelyonpatch_level_2_split_test_x.h5 has 2 patches, not 32,768",
        "the label 1 is a tumour in the middle third of a patch; one elsewhere in it is 0",
        "shares pictures with Kaggle's cancer detection: these are no external test of each other",
    )


def test_published__traps_of_the_tables_of_slides(tmp_path: Path) -> None:
    root = _write(tmp_path, "train", "valid")
    meta = root / "camelyonpatch_level_2_split_train_meta.csv"
    lines = meta.read_text().splitlines()
    lines[1] = "0,101,200,True,True,camelyon16_train_000"  # the place of the patch behind it, and another label
    meta.write_text("\n".join(lines))
    (root / "camelyonpatch_level_2_split_valid_meta.csv").unlink()
    built = public_set("patchcam", root)
    assert built.columns["group"][4:] == ["camelyon16_train_002", "", "", ""]
    assert built.columns["coord_y"] == ["101", "101", "102", "103", "104", "", "", ""]
    assert {
        "no camelyonpatch_level_2_split_test_x.h5 is there",
        "1 patch of a place that has one already: dvme takes copies for one image",
        "1 label not as center_tumor_patch in the table of slides: the label of the .h5 file counts",
        "3 images without a patient: images of one patient may be on both sides of a split",
    } <= {*built.remarks}
    assert any(line.startswith("no groups: camelyonpatch_level_2_split_valid_meta.csv is") for line in built.remarks)


def test_published__packed_and_repeated_files(tmp_path: Path) -> None:
    root = _write(tmp_path / "a", "train")
    packed = root / "camelyonpatch_level_2_split_test_x.h5.gz"
    packed.write_bytes(b"")
    built = public_set("patchcam", root)
    assert "split" not in built.columns
    assert f"{packed.name} is packed, and left out; gunzip -k unpacks it" in built.remarks
    (root / "camelyonpatch_level_2_split_train_x.h5.gz").write_bytes(b"")
    assert len(public_set("patchcam", root)) == 5
    _write(tmp_path / "b", "train")
    with pytest.raises(DataError, match=r"has more than one camelyonpatch_level_2_split_train_x\.h5: a/.*, b/"):
        public_set("patchcam", tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(
        DataError, match=r"c has no camelyonpatch_level_2_split_train_x\.h5, and none of valid and test"
    ):
        public_set("patchcam", tmp_path / "c")
    packed.rename(tmp_path / "c" / packed.name)
    with pytest.raises(DataError, match=r"put the files there, and unpack them: gunzip -k FILE"):
        public_set("patchcam", tmp_path / "c")


def test_published__files_that_do_not_fit_together(tmp_path: Path) -> None:
    root = _write(tmp_path, "train")
    meta = root / "camelyonpatch_level_2_split_train_meta.csv"
    meta.write_text(meta.read_text().rstrip().rpartition("\n")[0])
    with pytest.raises(DataError, match=r"meta\.csv has 4 rows for 5 images"):
        public_set("patchcam", root)
    (root / "camelyonpatch_level_2_split_train_x.h5").write_bytes(b"\x89HDF")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        public_set("patchcam", root)
