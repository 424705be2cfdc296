"""Names to rows: by content, by the path first seen, by the path now."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvme.upkeep.naming import rows_by_name
from dvme_cache import EmbeddingCache, content_id

MakeCache = Callable[..., Path]
Refused = Callable[..., Any]


def find(path: Path, names: list[str], root: Path | None = None) -> list[int]:
    return rows_by_name(EmbeddingCache.open(path), names, source="m.csv", image_root=root).tolist()


def test_rows_by_name__every_kind_of_name(make_cache: MakeCache) -> None:
    cache = make_cache(range(5))
    digest = content_id(b"image 4").hex()
    assert find(cache, ["2.png", "/data/1.png", digest]) == [2, 1, 4]
    assert find(cache, [digest.upper()]) == [4]


def test_rows_by_name__is_found_where_it_is_now(make_cache: MakeCache, tmp_path: Path) -> None:
    """The images were moved and extracted again: new current paths, below a link."""
    cache = make_cache(range(3))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(np.array([1]), {"path": [os.path.realpath(tmp_path / "real" / "sub" / "x.png")]})
    assert find(cache, ["sub/x.png"], tmp_path / "link") == [1]
    assert find(cache, [str(tmp_path / "link" / "sub" / "x.png")]) == [1]
    assert find(cache, ["1.png"], tmp_path / "link") == [1]


def test_rows_by_name__the_root_may_be_relative(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(range(3), root=tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    assert find(cache, ["b/1.png"], Path("a")) == [1]
    assert find(cache, ["a/b/1.png"], Path()) == [1]


def test_rows_by_name__a_file_whose_content_changed_is_its_new_row(make_cache: MakeCache) -> None:
    cache = make_cache(range(3))
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(np.array([1]), {"path": [""], "label": [""]})
        store.samples.add([content_id(b"new")], ["1.png"])
        store.update_columns(np.array([3]), {"path": ["/data/1.png"], "label": ["b"]})
    assert find(cache, ["1.png"]) == [3]
    assert find(cache, [content_id(b"image 1").hex()]) == [1]


def test_rows_by_name__nothing_decides(make_cache: MakeCache, refused: Refused) -> None:
    cache = make_cache(range(3))
    with EmbeddingCache.writing(cache) as store:
        store.samples.add([content_id(b"other")], ["1.png"])
        store.update_columns(np.array([3]), {"path": ["/elsewhere/1.png"]})
    with refused("m.csv has 1 name that more than one image of ", ": 1.png; name such images by their content ids"):
        find(cache, ["0.png", "1.png"])


def test_rows_by_name__where_an_image_lies_now_outweighs_where_another_was_first_seen(make_cache: MakeCache) -> None:
    """Row 0 was first seen as 0.png, where row 2 lies now: beside /data, 0.png is the file that is there."""
    cache = make_cache(range(3))
    with EmbeddingCache.writing(cache) as store:
        store.update_columns(np.array([0, 2]), {"path": ["/data/moved.png", "/data/0.png"]})
    assert find(cache, ["0.png"]) == [0]
    assert find(cache, ["0.png"], Path("/data")) == [2]


def test_rows_by_name__a_file_that_only_has_the_name_of_another(
    make_cache: MakeCache, refused: Refused, tmp_path: Path
) -> None:
    """The cache knows another image by this name; labels of this file must not reach it."""
    cache = make_cache(range(3))
    (tmp_path / "0.png").write_bytes(b"an image that was never extracted")
    with refused("m.csv names 1 image"):
        find(cache, ["0.png"], tmp_path)
    assert find(cache, ["1.png"], tmp_path) == [1], "no such file is there, so it is the one first seen as 1.png"


def test_rows_by_name__unknown(make_cache: MakeCache, refused: Refused) -> None:
    names = ["0.png", "w.png", "x\ny.png", "a\0b", "z.png", "f" * 32]
    message = (
        "m.csv names 5 images that {} does not hold: w.png, x y.png, a\0b, ...; correct the names or leave these out"
    )
    cache = make_cache(range(3))
    with refused(message.format(cache)):
        find(cache, names)


def test_rows_by_name__one_image_twice(make_cache: MakeCache, refused: Refused) -> None:
    cache = make_cache(range(5))
    with refused("m.csv names 2 images more than once: 1.png, /data/2.png (the same as 2.png); keep one entry"):
        find(cache, ["1.png", "2.png", "1.png", "/data/2.png"])


def test_rows_by_name__a_pruned_image_has_no_name(make_cache: MakeCache, refused: Refused) -> None:
    cache = make_cache(range(5))
    with EmbeddingCache.writing(cache) as store:
        store.samples.prune(np.array([1]))
    for name in ("1.png", "(pruned)", content_id(b"image 1").hex(), "ff" * 16):
        with refused("m.csv names 1 image that"):
            find(cache, [name])
    assert find(cache, ["2.png"]) == [2]


@pytest.mark.parametrize("name", ["deadbeef" * 4, "a/" + "b" * 5000])
def test_rows_by_name__a_file_may_be_called_anything(name: str, tmp_path: Path) -> None:
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        cache.samples.add([content_id(b"x"), content_id(b"y")], ["other", name])
    assert find(tmp_path / "c.zarr", [name], tmp_path) == [1]


@pytest.mark.parametrize(
    "name",
    [
        "Patient 1\\Größe.png",
        ".\\patient 1\\GRÖSSE.PNG",
        unicodedata.normalize("NFD", "Patient 1/Größe.png"),
        "Patient 1/Größe",
        "IMAGES\\Patient 1\\Größe",
        "~/images/Patient 1/Größe.png",
        "file:///nowhere/images/Patient%201/Gr%C3%B6%C3%9Fe.png",
    ],
)
def test_rows_by_name__as_other_machines_write_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        seen = ["other.png", "Patient 1/Größe.png", "x.png", "x.jpg", "Case.png", "CASE.png"]
        rows = cache.samples.add([content_id(each.encode()) for each in seen], seen)
        cache.update_columns(rows, {"path": [f"/nowhere/images/{each}" for each in seen]})
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    assert rows_by_name(cache, [name], source="m", image_root=Path("/nowhere")).tolist() == [1]
    new = rows_by_name(cache, ["X.PNG", "Größe"], source="m", image_root=Path("/nowhere"), may_be_new=True)
    assert new.tolist() == [-1, -1]  # where names may be new, none is taken for another
    assert rows_by_name(cache, ["CASE.png"], source="m").tolist() == [5]
    for several in ("x", "case.png"):
        with refused("m has 1 name that more than one image", several):
            rows_by_name(cache, [several], source="m", image_root=Path("/nowhere"))


def test_rows_by_name__a_file_of_its_own_is_no_other_spelling(tmp_path: Path, refused: Refused) -> None:
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        cache.samples.add([content_id(b"first")], ["a.png"])
    (tmp_path / "A.PNG").write_bytes(b"another image")
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    with refused("names 1 image that", "does not hold: A.PNG"):
        rows_by_name(cache, ["A.PNG"], source="m", image_root=tmp_path)
    (tmp_path / "A.PNG").unlink()
    assert rows_by_name(cache, ["A.PNG"], source="m", image_root=tmp_path).tolist() == [0]
