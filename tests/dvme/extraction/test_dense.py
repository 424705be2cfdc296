"""Dense features through everything that a cache does: as of any backbone, whose row is long."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from small_networks import write_network

import dvme
from dvme.backbones.description.dense import Grid, grids_of
from dvme.backbones.model.quantised import quantised, values_of
from dvme.errors import DataError, OptionError
from dvme.segmentation.maps import DenseMaps
from dvme_cache import CorruptCacheError, EmbeddingCache, FingerprintMismatchError, RowState

RUNTIME = dvme.Runtime(device="cpu", batch_size=2, workers=2)
N = 12
DENSE, LEVELS = "vit@dense=last-2", "cnn@dense=2+4"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def skip_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: many small caches are written here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def class_folders(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """root/class/img with 3 classes of 4 images."""
    for level, name in enumerate(("dark", "grey", "light")):
        for index in range(4):
            save_image(tmp_path / "images" / name / f"{index:02d}.png", seed=100 * level + index, level=level)
    return tmp_path / "images"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.nn.Module]]:
    """Two described networks, and their folder."""
    folder = tmp_path_factory.mktemp("own")
    return folder, {name: write_network(folder, name) for name in ("vit", "cnn")}


@pytest.fixture
def own(networks: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.nn.Module]:
    """They, in the working directory."""
    monkeypatch.chdir(networks[0])
    return networks[1]


def typed(name: str) -> str:
    base, at, options = name.partition("@")
    return f"{base}.toml{at}{options}"


def extract(images: Path, cache: Path, *names: str, **options: Any) -> Any:
    return dvme.extract(images, cache, backbones=[typed(name) for name in names], **{"runtime": RUNTIME} | options)


def rows_of(cache: Path, name: str) -> NDArray[Any]:
    table = EmbeddingCache.open(cache).embeddings(name)
    return table.read(np.flatnonzero(table.states() == RowState.DONE))


def chunks(cache: Path) -> dict[str, bytes]:
    """Every file of embeddings but for what says when they were made."""
    files = (path for path in (cache / "embeddings").rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def expected_maps(model: Any, cache: Path, images: Path, indices: list[int], norm: bool) -> list[NDArray[Any]]:
    """By Pillow and timm alone: each image squashed to 32 x 32."""
    found: list[list[Any]] = [[] for _ in indices]
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for path in EmbeddingCache.open(cache).samples.paths:
        with Image.open(images / path) as image:
            pixels = np.array(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
        batch = ((torch.from_numpy(pixels).permute(2, 0, 1) / 255 - mean) / std)[None]
        with torch.inference_mode():
            levels = model.forward_intermediates(batch, indices=indices, norm=norm, intermediates_only=True)
        for own, level in zip(found, levels, strict=True):
            own.append(level[0].permute(1, 2, 0).flatten(0, 1).numpy())
    return [np.stack(each) for each in found]


def test_extract__maps_of_timm_in_one_pass_with_others(
    own: dict[str, Any], class_folders: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c.zarr"
    report = extract(class_folders, cache, "vit", DENSE, LEVELS, dtype="float32")
    assert [item.backbone for item in report.outcomes] == ["vit", DENSE, LEVELS]
    assert [item.computed for item in report.outcomes] == [N] * 3
    store = EmbeddingCache.open(cache)
    for name, indices, norm in ((DENSE, [1, 2], True), (LEVELS, [1, 3], False)):
        maps = DenseMaps(store.embeddings(name))
        expected = expected_maps(own[name[:3]], cache, class_folders, indices, norm)
        for found, level in zip(maps.read(np.arange(N)), expected, strict=True):
            np.testing.assert_allclose(found, level, rtol=0, atol=1e-4 * np.abs(level).max())
    assert grids_of(store.embeddings(DENSE).fingerprint.fields) == (Grid(2, 2, 64),) * 2
    again = extract(class_folders, cache, "vit", DENSE, LEVELS, dtype="float32")
    assert [item.reused for item in again.outcomes] == [N] * 3


def test_extract__dense_and_layers_are_options_of_all_names_that_say_nothing(
    own: dict[str, Any], class_folders: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, "vit", "cnn@dense=2", dense=True)
    extract(class_folders, cache, "vit", layers="1, 3,1")
    assert EmbeddingCache.open(cache).backbones == ["cnn@dense=2", "vit@dense=1+3", "vit@dense=last"]
    extract(class_folders, tmp_path / "both.zarr", "vit", "cnn@dense=2")
    stores = {name: EmbeddingCache.open(tmp_path / "both.zarr").embeddings(name) for name in ("vit", "cnn@dense=2")}
    types = {name: table.fingerprint.fields["dtype"] for name, table in stores.items()}
    assert types == {"vit": "float32", "cnn@dense=2": "float16"}
    with pytest.raises(OptionError, match="vit@dense=9 has layers 1 to 3"):
        extract(class_folders, cache, "vit", layers="9")
    with pytest.raises(OptionError, match="contradict each other"):
        extract(class_folders, cache, "vit@pool=average", dense=True)
    with pytest.raises(OptionError, match="of the plain image only"):
        extract(class_folders, cache, "vit", dense=True, views=2)


def test_int8__a_byte_a_value_of_the_same_features(own: dict[str, Any], class_folders: Path, tmp_path: Path) -> None:
    extract(class_folders, tmp_path / "whole.zarr", DENSE, dtype="float32")
    extract(class_folders, tmp_path / "bytes.zarr", DENSE, dtype="int8")
    whole, stored = (rows_of(tmp_path / f"{name}.zarr", DENSE) for name in ("whole", "bytes"))
    np.testing.assert_array_equal(stored, quantised(whole, (Grid(2, 2, 64),) * 2)[0])
    assert (stored.dtype, stored.shape) == (np.uint8, (N, 2 * 4 * (64 + 2)))
    with pytest.raises(FingerprintMismatchError, match="dtype: cached 'int8', asked 'float16'"):
        extract(class_folders, tmp_path / "bytes.zarr", DENSE, dtype="float16")
    with pytest.raises(OptionError, match="is for dense features, vit gives one vector"):
        extract(class_folders, tmp_path / "none.zarr", "vit", dtype="int8")
    assert not (tmp_path / "none.zarr").exists()


def test_int8__a_token_without_a_scale_fails_its_image(
    class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path, "vit", scale=1e9)
    report = extract(class_folders, tmp_path / "c.zarr", "vit@dense=last", dtype="int8")
    (item,) = report.outcomes
    assert (item.computed, item.failed) == (0, N)
    assert set(item.reasons.values()) == {"its vit@dense=last embedding is not finite in int8"}
    table = EmbeddingCache.open(tmp_path / "c.zarr").embeddings("vit@dense=last")
    assert (table.states() == RowState.FAILED).all()
    assert dvme.cache.verify(tmp_path / "c.zarr").is_sound


def test_extract__interrupted_and_in_parts_the_same_bytes(
    own: dict[str, Any], class_folders: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"dtype": "int8", "rows_per_shard": 4}
    extract(class_folders, tmp_path / "whole.zarr", DENSE, LEVELS, **options)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == LEVELS and 6 <= done < total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(class_folders, tmp_path / "late.zarr", DENSE, LEVELS, progress=stop, **options)
    resumed = extract(class_folders, tmp_path / "late.zarr", DENSE, LEVELS, **options)
    assert all(0 < item.reused < N for item in resumed.outcomes)
    for part in ("2/2", "1/2"):
        extract(class_folders, tmp_path / "parts.zarr", DENSE, LEVELS, part=part, **options)
    whole = chunks(tmp_path / "whole.zarr")
    assert chunks(tmp_path / "late.zarr") == whole
    assert chunks(tmp_path / "parts.zarr") == whole


def test_repair__a_flipped_bit_costs_one_row_that_is_made_again(
    own: dict[str, Any], class_folders: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, DENSE, dtype="int8")
    before = rows_of(cache, DENSE)
    (file,) = (cache / "embeddings").rglob("features/c/0/0")
    data = bytearray(file.read_bytes())
    data[5 * before.shape[1] + 3] ^= 1
    file.write_bytes(data)
    found = dvme.cache.verify(cache)
    assert not found.is_sound
    assert [(finding.kind, finding.n_rows, finding.backbone) for finding in found.findings] == [("damaged", 1, DENSE)]
    with pytest.raises(CorruptCacheError, match="the first is 5"):
        DenseMaps(EmbeddingCache.open(cache).embeddings(DENSE)).read(np.arange(N))
    assert dvme.cache.repair(cache).n_rows_lost == {DENSE: 1}
    assert dvme.cache.verify(cache).is_sound
    (item,) = extract(class_folders, cache, DENSE, dtype="int8").outcomes
    assert (item.reused, item.computed) == (N - 1, 1)
    after = rows_of(cache, DENSE)
    grids = (Grid(2, 2, 64),) * 2
    np.testing.assert_array_equal(np.delete(after, 5, axis=0), np.delete(before, 5, axis=0))
    np.testing.assert_allclose(values_of(after, grids)[5], values_of(before, grids)[5], rtol=0, atol=0.05)
    (found_again,) = dvme.cache.verify(cache, images=True, runtime=RUNTIME).comparisons
    assert (found_again.n_compared, found_again.n_different, found_again.skipped) == (N, 0, "")
    assert 1e-4 < found_again.largest_difference < 5e-3, "half a scale"


def test_export__comes_back_to_the_byte(own: dict[str, Any], class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    (class_folders / "dark" / "00.png").write_bytes(b"no image")
    extract(class_folders, cache, DENSE, dtype="int8")
    extract(class_folders, cache, LEVELS, dtype="float16")
    for suffix in (".h5", ".npz", ".parquet"):
        copy = tmp_path / f"copy{suffix}.zarr"
        dvme.cache.export(cache, tmp_path / f"x{suffix}")
        dvme.cache.import_embeddings(tmp_path / f"x{suffix}", copy)
        assert chunks(copy) == chunks(cache)
        assert dvme.cache.verify(copy).is_sound
        assert len(rows_of(copy, DENSE)) == N - 1
    with pytest.raises(DataError, match=r"too many for the columns of a CSV; export to \.h5, \.npz or \.parquet"):
        dvme.cache.export(cache, tmp_path / "x.csv")
    assert not list(tmp_path.glob("x.csv*"))


def test_prune__erases_bytes(own: dict[str, Any], class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, DENSE, dtype="int8")
    gone = rows_of(cache, DENSE)[:4]
    shutil.rmtree(class_folders / "dark")
    dvme.cache.prune(cache, class_folders, confirmed=True)
    (file,) = (cache / "embeddings").rglob("features/c/0/0")
    stored = np.frombuffer(file.read_bytes()[:-4], dtype=np.uint8).reshape(-1, gone.shape[1])
    assert not stored[:4].any()
    assert stored[4:N].any(axis=1).all()
    assert dvme.cache.verify(cache).is_sound


def test_info__grids_and_bytes(own: dict[str, Any], class_folders: Path, tmp_path: Path) -> None:
    extract(class_folders, tmp_path / "c.zarr", DENSE, "vit")
    plain, dense = dvme.info(tmp_path / "c.zarr").backbones
    assert (dense.maps, dense.row_bytes, dense.stored_as) == ("2 of 2 x 2 x 64", 2 * 256 * 2, "float16")
    assert (plain.maps, plain.row_bytes) == ("", 64 * 4)
