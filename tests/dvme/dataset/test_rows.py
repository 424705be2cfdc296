from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import dvme
from dvme.errors import ArgumentError, DataError, OptionError
from dvme_cache import CacheNotFoundError, EmbeddingCache

N, FAILED, PRUNED, UNLABELLED = 20, 3, 7, 11


def test_open__columns_beside_embeddings(cache: Path, left: list[int]) -> None:
    data, store = dvme.open(cache), EmbeddingCache.open(cache)
    assert len(data) == 19
    assert data.rows.tolist() == left
    assert (data.backbones, data.views) == (("a", "b", "late"), {"a": ("a@view=1", "a@view=2")})
    for name, found in (("label", data.labels), ("split", data.splits), ("group", data.groups), ("path", data.paths)):
        assert found.tolist() == store.column(name)[left].tolist()
    assert data.images.tolist() == [f"{image}.png" for image in left]
    assert data.column("age").tolist() == data.column("AGE").tolist() == [str(20 + image) for image in left]
    assert (data.task.classes, data.task.n_unlabelled) == (("high", "low", "middle"), 1)
    assert "a" in data
    assert "a@view=1" in data
    assert "dino" not in data


def test_at__columns_and_embeddings_stay_aligned(cache: Path) -> None:
    data = dvme.open(cache)
    train = data.at(data.splits == "train")
    some = train.at([4, 0])
    assert some.images.tolist() == train.images[[4, 0]].tolist()
    np.testing.assert_array_equal(some["a"][:], train["a"][[4, 0]])
    assert (len(data.at(2)), len(data.at(slice(3)))) == (1, 3)


def test_complete__images_with_all_of_some_embeddings(cache: Path, left: list[int]) -> None:
    data = dvme.open(cache)
    assert data.complete("b").rows.tolist() == left
    assert data.complete(["b", "a"]).rows.tolist() == [image for image in left if image != FAILED]
    assert len(data.complete()) == 0  # of `late` nothing is there


def test_to_frame__a_row_for_each_image(cache: Path, tmp_path: Path, left: list[int]) -> None:
    """And back from Parquet, by pandas."""
    frame = dvme.open(cache).to_frame()
    assert list(frame.columns) == [
        *("image", "path", "label", "split", "group", "age", "state(a)", "state(b)", "state(late)")
    ]
    assert frame["state(a)"].tolist() == ["failed" if image == FAILED else "done" for image in left]
    assert set(frame["state(late)"]) == {"pending"}
    assert frame["label"].isna().tolist() == [image == UNLABELLED for image in left]
    frame.to_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), frame, check_dtype=False)


def test_repr__a_few_lines(cache: Path) -> None:
    data = dvme.open(cache)
    lines = repr(data).splitlines()
    assert lines[0].startswith(f"OpenCache: 19 images of {cache}; multiclass, 3 classes: high (5), low (7), middle (6)")
    assert lines[1:] == [
        "  a: 19 images x 4, float32; 1 failed: 3.png (torn)",
        "  b: 19 images x 3, float16",
        "  late: 19 images x 2, float32; 19 not extracted yet",
        "  2 further views of a",
        "  further columns: age",
    ]
    shown = data._repr_html_()
    assert shown.count("<tr>") == 4
    assert len(shown) < 4000


def test_pickle__opens_anew(cache: Path) -> None:
    data = dvme.open(cache).at([2, 5])
    again = pickle.loads(pickle.dumps(data))
    assert again.images.tolist() == data.images.tolist()
    np.testing.assert_array_equal(again["a"][:], data["a"][:])


def test_open__refuses_what_is_no_cache(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError, match="there is no cache at"):
        dvme.open(tmp_path / "none.zarr")
    (tmp_path / "table.csv").write_text("image\n")
    with pytest.raises(OptionError, match="is a table, not a cache"):
        dvme.open(str(tmp_path / "table.csv"))
    data = dvme.open(cache)
    with pytest.raises(ArgumentError, match=r'3 is no backbone of .*; name a backbone, such as \["dino"\]; '):
        data[3]  # type: ignore[index]
    with pytest.raises(DataError, match="has no column 'sex'; it has: age"):
        data.column("sex")


def test_open__an_empty_cache(tmp_path: Path) -> None:
    with EmbeddingCache.writing(tmp_path / "c.zarr"):
        pass
    data = dvme.open(tmp_path / "c.zarr")
    nothing: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    assert (len(data), data.rows.tolist(), data.backbones) == (0, nothing.tolist(), ())
    assert "unlabelled, 0 images" in repr(data)
    assert len(data.to_frame()) == 0
