"""What a place holds: nothing, a cache, a part of one, another version, or something else; told in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from dvme_cache import (
    CacheNotFoundError,
    CorruptCacheError,
    EmbeddingCache,
    NotACacheError,
    repair_cache,
    verify_cache,
)
from dvme_cache.sealing import sealed

Features = Callable[..., NDArray[Any]]
GROUP = {"zarr_format": 3, "node_type": "group"}


def group(attributes: object, *, is_sealed: bool = False) -> bytes:
    document = json.dumps({**GROUP, "attributes": attributes}).encode()
    return sealed("zarr.json", document) if is_sealed else document


FORMAT_1, FORMAT_3 = ({"format": "dvme-cache", "format_version": version} for version in (1, 3))
ROOTS = {
    "foreign": (group({"title": "something"}), "is a Zarr group but not a dvme cache; name another path"),
    "foreign-array": (b'{"zarr_format": 3, "node_type": "array"}', "zarr.json is not a dvme cache's, or damaged"),
    "older": (group(FORMAT_1), "has cache format 1, this dvme reads format 2; extract into a new cache"),
    "newer": (group(FORMAT_3), "has cache format 3, this dvme reads format 2; update dvme"),
    "newer-sealed": (group(FORMAT_3, is_sealed=True), "has cache format 3, this dvme reads format 2; update dvme"),
    "strange-version": (group({**FORMAT_1, "format_version": "two"}), "has cache format two.*extract into a new"),
    "no-version": (group({"format": "dvme-cache"}), "has cache format None"),
    "other-attributes": (group([1, 2]), "not a dvme cache"),
    "null-attributes": (group(None), "not a dvme cache"),
    "empty": (b"", "zarr.json is not a dvme cache's, or damaged, as is copies/zarr.json"),
    "not-json": (b"\xff{", "zarr.json is not a dvme cache's, or damaged"),
    "a-list": (b"[]", "zarr.json is not a dvme cache's, or damaged"),
    "unsealed": (group({**FORMAT_1, "format_version": 2}), "zarr.json is not a dvme cache's, or damaged"),
}


@pytest.mark.parametrize("name", ["missing.zarr", "no/parent/either.zarr"])
def test_open__missing_path(tmp_path: Path, name: str) -> None:
    assert not EmbeddingCache.exists(tmp_path / name)
    with pytest.raises(CacheNotFoundError, match=f"there is no cache at {tmp_path / name}; run dvme extract") as caught:
        EmbeddingCache.open(tmp_path / name)
    assert isinstance(caught.value, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []


def plain_folder(path: Path) -> None:
    path.mkdir()
    (path / "photo.png").write_bytes(b"x")


def with_root(document: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "zarr.json").write_bytes(document)

    return make


PLACES = {
    "folder": (plain_folder, "is not a dvme cache .it has no zarr.json"),
    "empty-folder": (Path.mkdir, "is not a dvme cache .it has no zarr.json"),
    "file": (lambda path: path.write_text("a file"), "is not a dvme cache .it has no zarr.json"),
    "zarr-group": (zarr.create_group, "is a Zarr group but not a dvme cache"),
    "zarr-2": (lambda path: zarr.create_group(path, zarr_format=2), "is not a dvme cache"),
    "zarr-array": (lambda path: zarr.create_array(path, shape=(3,), dtype="float32"), "not a dvme cache"),
    **{name: (with_root(document), message) for name, (document, message) in ROOTS.items()},
}


@pytest.mark.parametrize("place", PLACES)
def test_open__something_else(tmp_path: Path, place: str) -> None:
    path = tmp_path / "other"
    make, message = PLACES[place]
    make(path)
    before = sorted(path.rglob("*"))
    assert EmbeddingCache.exists(path)
    with pytest.raises(NotACacheError, match=f"{path}.*{message}") as caught:
        EmbeddingCache.open(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotACacheError, match=message), EmbeddingCache.writing(path):
        pass
    assert sorted(path.rglob("*")) == before, "left as it was"
    assert list(tmp_path.iterdir()) == [path], "not even a lock"


@pytest.mark.parametrize("root", ROOTS)
def test_open_url__something_else(s3: Any, root: str) -> None:
    document, message = ROOTS[root]
    s3.put_object(Bucket="bucket", Key="other.zarr/zarr.json", Body=document)
    with pytest.raises(NotACacheError, match=f"s3://bucket/other.zarr.*{message}"):
        EmbeddingCache.open("s3://bucket/other.zarr")
    with pytest.raises(NotACacheError, match=message), EmbeddingCache.writing("s3://bucket/other.zarr"):
        pass
    assert [found["Key"] for found in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["other.zarr/zarr.json"]


@pytest.mark.parametrize("key", ["photos/a.png", "photos/samples/a.png", "photos/deep/a/b.png"])
def test_writing_url__a_folder_of_something_else_is_left_alone(s3: Any, key: str) -> None:
    s3.put_object(Bucket="bucket", Key=key, Body=b"x")
    with pytest.raises(NotACacheError, match="s3://bucket/photos"), EmbeddingCache.writing("s3://bucket/photos"):
        pass
    assert [found["Key"] for found in s3.list_objects_v2(Bucket="bucket")["Contents"]] == [key]


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b""), Path.unlink, lambda file: file.write_text("{")])
def test_open__a_root_of_which_the_copy_is_left(
    full: Path, features_of: Features, damage: Callable[[Path], None]
) -> None:
    damage(full / "zarr.json")
    cache = EmbeddingCache.open(full)
    np.testing.assert_array_equal(cache.embeddings("m").read(np.array([5])), features_of([5]))
    with EmbeddingCache.writing(full) as cache:
        assert repair_cache(cache).left == []
    assert (full / "zarr.json").read_bytes() == (full / "copies" / "zarr.json").read_bytes()


def test_open__a_root_of_which_nothing_is_left(full: Path) -> None:
    for place in ("zarr.json", "copies/zarr.json"):
        (full / place).write_bytes(b"")
    with pytest.raises(NotACacheError, match=f"{full}/zarr.json is not a dvme cache's, or damaged, as is copies"):
        EmbeddingCache.open(full)
    for place in ("zarr.json", "copies/zarr.json"):
        (full / place).unlink()
    with pytest.raises(NotACacheError, match=r"it has no zarr\.json"):
        EmbeddingCache.open(full)


PARTS = ["samples", "tables", "embeddings", "embeddings/m", "embeddings/m/features", "samples/path", "tables/00000001"]


@pytest.mark.parametrize("part", PARTS)
def test_open__half_copied_but_for_the_small_files(full: Path, features_of: Features, part: str) -> None:
    """What is kept twice is served from the other place; embeddings that are gone are told, or extracted again."""
    shutil.rmtree(full / part)
    cache = EmbeddingCache.open(full)
    assert cache.n_rows == 130
    assert cache.column("label").tolist() == ["cat"] * 130
    assert cache.samples.paths[129] == "129.png"
    embeddings = cache.embeddings("m")
    if part == "embeddings/m/features":
        with pytest.raises(CorruptCacheError, match=r"m/features is damaged .*features/c/0/0 is gone"):
            embeddings.read(np.array([5]))
    elif part.startswith("embeddings"):
        assert not embeddings.states().any()
    else:
        np.testing.assert_array_equal(embeddings.read(np.array([5])), features_of([5]))
    with EmbeddingCache.writing(full) as cache:
        repair = repair_cache(cache)
        assert repair.left == []
        assert repair.n_rows_lost == ({"m": 129} if part == "embeddings/m/features" else {})
        for rows in cache.embeddings("m").pending_shards():
            cache.embeddings("m").commit(rows, features_of(rows), {})
        done = cache.complete_rows(["m"])
        np.testing.assert_array_equal(cache.embeddings("m").read(done), features_of(done))
    assert verify_cache(EmbeddingCache.open(full)).findings == []


@pytest.mark.parametrize("part", PARTS)
def test_open__half_copied_without_the_copies(full: Path, features_of: Features, part: str) -> None:
    """An error of one line that names the place and what to do, at the latest when it is needed."""
    for place in (full / part, full / "copies"):
        shutil.rmtree(place)

    def read() -> None:
        cache = EmbeddingCache.open(full)
        assert cache.samples.paths
        assert cache.column("label").tolist() == ["cat"] * 130
        cache.embeddings("m").read(np.array([5]))

    with pytest.raises(CorruptCacheError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{full}/{part}")
    assert "\n" not in message
    assert "copy the cache again" in message or "restore it" in message or "dvme cache repair" in message


def test_open__without_any_copy_all_can_be_read_and_the_copies_come_back(full: Path, features_of: Features) -> None:
    before = {str(file.relative_to(full)): file.read_bytes() for file in full.rglob("*") if file.is_file()}
    shutil.rmtree(full / "copies")
    cache = EmbeddingCache.open(full)
    np.testing.assert_array_equal(cache.embeddings("m").read(np.array([5])), features_of([5]))
    assert not verify_cache(cache).is_sound
    with EmbeddingCache.writing(full) as cache:
        assert repair_cache(cache).left == []
    assert {str(file.relative_to(full)): file.read_bytes() for file in full.rglob("*") if file.is_file()} == before
