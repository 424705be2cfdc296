"""Embeddings made elsewhere: matched by name, stored as they are, and refused while they cannot be trusted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dvme.cache import import_embeddings
from dvme.upkeep.adopting import imported_id
from dvme_cache import EmbeddingCache, content_id

MakeCache = Callable[..., Path]
Refused = Callable[..., Any]
Save = Callable[..., Path]


def numbers(n_rows: int = 10, dim: int = 3, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(0).standard_normal((n_rows, dim)).astype(dtype)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save features with the ids 0.png, 1.png, ... as an .npz."""

    def npz(features: NDArray[Any], ids: list[str] | None = None, name: str = "x.npz") -> Path:
        names = [f"{row}.png" for row in range(len(features))] if ids is None else ids
        np.savez(tmp_path / name, features=features, ids=np.array(names))
        return tmp_path / name

    return npz


def stored(cache: Path, backbone: str = "mine") -> NDArray[Any]:
    embeddings = EmbeddingCache.open(cache).embeddings(backbone)
    return embeddings.read(np.flatnonzero(embeddings.states() == 1))


def test_adopt__rows_are_matched_by_name(make_cache: MakeCache, save: Save) -> None:
    cache, features = make_cache(range(300)), numbers(200)
    order = np.random.default_rng(1).permutation(300)[:200]
    report = import_embeddings(save(features, [f"{row}.png" for row in order]), cache, backbone="mine")
    assert (report.is_export, report.n_rows, report.n_new) == (False, 200, 0)
    assert (report.backbones[0].imported, report.backbones[0].reused, report.remarks) == (200, 0, [])
    embeddings = EmbeddingCache.open(cache).embeddings("mine")
    assert embeddings.read(order).tobytes() == features.tobytes()
    assert (np.flatnonzero(embeddings.states() == 1) == np.sort(order)).all()


def test_adopt__fingerprint_and_provenance(make_cache: MakeCache, save: Save) -> None:
    cache, features = make_cache(range(10)), numbers()
    file = save(features)
    import_embeddings(file, cache, backbone="mine", notes={"model": "ours"})
    embeddings = EmbeddingCache.open(cache).embeddings("mine")
    fields = dict(embeddings.fingerprint.fields)
    content = fields.pop("content")
    names = '["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png", "7.png", "8.png", "9.png"]'
    assert content == hashlib.blake2b(names.encode() + features.tobytes(), digest_size=16).hexdigest()
    assert fields == {"imported": "mine", "dim": 3, "dtype": "float32"}
    imported = embeddings.provenance["imported"]
    assert (imported["file"], imported["dtype"], imported["notes"]) == ("x.npz", "float32", {"model": "ours"})
    assert imported["digest"] == hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def test_adopt__the_same_file_again_is_reused_and_another_refused(
    make_cache: MakeCache, save: Save, refused: Refused
) -> None:
    cache, features = make_cache(range(10)), numbers()
    import_embeddings(save(features), cache, backbone="mine")
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    report = import_embeddings(save(features), cache, backbone="mine")
    assert (report.backbones[0].imported, report.backbones[0].reused) == (0, 10)
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before
    features[0, 0] += 1
    other = save(features)
    with refused("holds mine embeddings made differently (content: cached '", "pass replace=True to"):
        import_embeddings(other, cache, backbone="mine")
    assert import_embeddings(other, cache, backbone="mine", replace=True).backbones[0].imported == 10
    assert stored(cache).tobytes() == features.tobytes()


def test_adopt__new_cache_knows_its_images_by_name(save: Save, tmp_path: Path) -> None:
    cache, features = tmp_path / "new.zarr", numbers(100)
    report = import_embeddings(save(features), cache, backbone="mine")
    assert report.n_new == 100
    assert report.remarks == ["the images of this cache are known by name only; no image file was looked at"]
    store = EmbeddingCache.open(cache)
    assert store.samples.paths == [f"{row}.png" for row in range(100)]
    assert store.samples.content_ids[7] == imported_id("7.png")
    assert imported_id("7.png") == hashlib.blake2b(b"7.png", digest_size=16, person=b"dvme-imported").digest()
    assert stored(cache).tobytes() == features.tobytes()
    report = import_embeddings(save(features[::-1], store.samples.paths[::-1]), cache, backbone="second")
    assert (report.n_new, report.backbones[0].imported, report.remarks) == (0, 100, [])
    np.testing.assert_array_equal(stored(cache, "second"), stored(cache))


def test_adopt__new_cache_with_images_knows_them_by_content(save: Save, tmp_path: Path, refused: Refused) -> None:
    root, cache = tmp_path / "images", tmp_path / "new.zarr"
    (root / "sub").mkdir(parents=True)
    ids = [f"sub/{row}.png" for row in range(10)]
    for row, name in enumerate(ids):
        (root / name).write_bytes(b"image %d" % row)
    file = save(numbers(11), [*ids[:9], "nope.png", "sub"])
    with refused("2 images cannot be read below ", f"{root}: ", "nope.png", "mend the ids or images"):
        import_embeddings(file, cache, backbone="mine", images=root)
    (root / "copy.png").write_bytes(b"image 3")
    file = save(numbers(11), [*ids, "copy.png"])
    with refused("x.npz names 1 image more than once: copy.png (the same as sub/3.png)"):
        import_embeddings(file, cache, backbone="mine", images=root)
    with refused("images='", "nowhere' is not a folder"):
        import_embeddings(file, cache, backbone="mine", images=tmp_path / "nowhere")
    report = import_embeddings(save(numbers(), ids), cache, backbone="mine", images=root)
    assert report.remarks == []
    store = EmbeddingCache.open(cache)
    assert store.samples.content_ids == [content_id(b"image %d" % row) for row in range(10)]
    assert store.column("path").tolist() == [os.path.realpath(root / name) for name in ids]


def test_adopt__images_are_where_relative_ids_start(make_cache: MakeCache, save: Save, tmp_path: Path) -> None:
    cache = make_cache(range(3), root=tmp_path / "images" / "sub")
    (tmp_path / "images").mkdir()
    file = save(numbers(3), [f"sub/{row}.png" for row in range(3)])
    assert import_embeddings(file, cache, backbone="mine", images=tmp_path / "images").backbones[0].imported == 3


def test_adopt__columns_come_along_into_a_new_cache(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    np.save(tmp_path / "x.npy", numbers(3))
    table = pd.DataFrame(
        {"image": ["a", "b", "c"], "label": ["x", "", "y"], "split": ["Train", "", "TEST"], "age": [1, 2, 3]}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    import_embeddings(tmp_path / "x.npy", tmp_path / "new.zarr", backbone="mine", table=tmp_path / "t.csv")
    store = EmbeddingCache.open(tmp_path / "new.zarr")
    assert store.tables.columns == ["label", "split"]
    assert store.column("label").tolist() == ["x", "", "y"]
    assert store.column("split").tolist() == ["train", "", "test"]
    table.assign(split=["a", "b", ""]).to_csv(tmp_path / "t.csv", index=False)
    with refused("t.csv has 2 rows whose split is not known: a, b; use "):
        import_embeddings(tmp_path / "x.npy", tmp_path / "other.zarr", backbone="mine", table=tmp_path / "t.csv")


def test_adopt__columns_of_a_known_cache_stay(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache(range(3))
    before = EmbeddingCache.open(cache).column("label").tolist()
    table = pd.DataFrame({"image": ["0.png", "2.png"], "label": ["x", before[2]], "f": list(numbers(2))})
    table.to_parquet(tmp_path / "x.parquet")
    report = import_embeddings(tmp_path / "x.parquet", cache, backbone="mine")
    assert report.remarks == [
        "columns used of x.parquet: ids = 'image', label",
        "1 row keeps columns that differ from the file's; dvme cache label changes them",
    ]
    assert EmbeddingCache.open(cache).column("label").tolist() == before


@pytest.mark.parametrize(
    ("dtype", "option", "kept", "remark"),
    [
        ("float16", None, "float16", None),
        ("float32", None, "float32", None),
        ("float64", None, "float32", "the features are float64 in the file and stored as float32"),
        (">f4", None, "float32", None),
        ("float32", "float16", "float16", "the features are float32 in the file and stored as float16"),
        ("float16", "float32", "float32", "the features are float16 in the file and stored as float32"),
    ],
)
def test_adopt__dtypes(
    dtype: str, option: str | None, kept: str, remark: str | None, make_cache: MakeCache, save: Save
) -> None:
    cache, features = make_cache(range(10)), numbers().astype(dtype)
    report = import_embeddings(save(features), cache, backbone="mine", dtype=option)
    assert report.backbones[0].dtype == kept
    assert report.remarks == ([] if remark is None else [remark])
    assert stored(cache).tobytes() == features.astype(kept).tobytes()


def test_adopt__whole_numbers_become_float32(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache(range(3))
    np.savez(tmp_path / "x.npz", f=np.arange(6).reshape(3, 2), ids=np.array(["0.png", "1.png", "2.png"]))
    report = import_embeddings(tmp_path / "x.npz", cache, backbone="mine", features="f")
    assert report.remarks == ["the features are int64 in the file and stored as float32"]
    assert stored(cache).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_adopt__the_same_features_from_every_format(make_cache: MakeCache, save: Save, tmp_path: Path) -> None:
    cache, features = make_cache(range(10)), numbers()
    names = [f"{row}.png" for row in range(10)]
    np.save(tmp_path / "x.npy", np.asfortranarray(features))
    pd.DataFrame({"image": names}).to_csv(tmp_path / "t.csv", index=False)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["f"], file["ids"] = features, names
    pd.DataFrame({"image": names, "f": list(features)}).to_parquet(tmp_path / "x.parquet")
    wide = pd.DataFrame({"image": names} | {f"f{axis}": features[:, axis] for axis in range(3)})
    wide.to_csv(tmp_path / "x.csv", index=False)
    files = [save(features), *(tmp_path / f"x{suffix}" for suffix in (".npy", ".h5", ".parquet", ".csv"))]
    for index, file in enumerate(files):
        table = tmp_path / "t.csv" if file.suffix == ".npy" else None
        import_embeddings(file, cache, backbone="mine", table=table)
        assert EmbeddingCache.open(cache).backbones == ["dino", "mine", "timm:a/b"], index
    assert stored(cache).tobytes() == features.tobytes()


def broken(value: float, rows: list[int]) -> NDArray[Any]:
    features = numbers()
    features[rows, 1] = value
    return features


@pytest.mark.parametrize(
    ("features", "ids", "options", "parts"),
    [
        (broken(np.nan, [2, 5]), None, {}, ["x.npz has 2 rows of features that are NaN or infinite: 2.png, 5.png;"]),
        (broken(-np.inf, [9]), None, {}, ["x.npz has 1 row of features that are NaN or infinite: 9.png;"]),
        (
            broken(1e6, [4]),
            None,
            {"dtype": "float16"},
            ["1 row of features that overflow float16: 4.png; pass dtype='float32'"],
        ),
        (
            numbers().astype("f8") * 1e300,
            None,
            {},
            ["10 rows of features that overflow float32: 0.png, 1.png, 2.png, ...; scale"],
        ),
        (
            numbers(),
            ["0.png"] * 2 + [f"{row}.png" for row in range(1, 9)],
            {},
            ["names 1 image more than once: 0.png;"],
        ),
        (numbers(11), None, {}, ["x.npz names 1 image that", "does not hold: 10.png;"]),
        (numbers(), ["0.png"] * 9, {}, ["x.npz has 10 rows of features for 9 ids"]),
        (numbers(), None, {"features": "nope"}, ["has no 'nope'; it has: features (10, 3) float32, ids (10,) str"]),
        (numbers(), None, {"ids": "nope"}, ["has no 'nope'", "one with ids"]),
        (
            numbers()[:, 0],
            None,
            {"features": "features"},
            ["features of ", "is (10,) float32; features are numbers of shape"],
        ),
        (numbers()[:, :0], None, {}, ["is (10, 0) float32; features are numbers of shape (images, dims), not empty"]),
        (numbers(), None, {"dtype": "float64"}, ["dtype 'float64' is not known; choose one of float32, float16"]),
        (
            numbers(),
            None,
            {"backbone": None},
            ["is not an export of dvme; name what made its embeddings with backbone"],
        ),
        (numbers(), None, {"backbone": " "}, ["backbone has backbones with a name that no cache can keep: ' '"]),
        (
            numbers(),
            None,
            {"backbone": "dino"},
            ["holds dino embeddings of 4 dims, ", "x.npz has 3; import them under"],
        ),
    ],
)
def test_adopt__is_refused_in_one_line(
    features: NDArray[Any],
    ids: list[str] | None,
    options: dict[str, Any],
    parts: list[str],
    make_cache: MakeCache,
    save: Save,
    refused: Refused,
) -> None:
    cache, file = make_cache(range(10)), save(features, ids)
    with refused(*parts):
        import_embeddings(file, cache, **{"backbone": "mine", **options})


def test_adopt__refused_features_create_no_cache(save: Save, tmp_path: Path, refused: Refused) -> None:
    file = save(broken(np.nan, [2]))
    with refused("1 row of features that are NaN or infinite: 2.png"):
        import_embeddings(file, tmp_path / "new.zarr", backbone="mine")
    assert not (tmp_path / "new.zarr").exists()


def test_adopt__lists_that_grow_in_a_later_row_group(make_cache: MakeCache, tmp_path: Path, refused: Refused) -> None:
    cache = make_cache(range(4))
    table = pd.DataFrame({"image": [f"{row}.png" for row in range(4)], "f": [[1.0], [2.0], [1.0, 2.0], [2.0, 3.0]]})
    table.to_parquet(tmp_path / "x.parquet", row_group_size=2)
    with refused("x.parquet has features of 1 dims and, from row 3 on, of 2"):
        import_embeddings(tmp_path / "x.parquet", cache, backbone="mine")
