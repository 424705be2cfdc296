"""Several backbones in one pass: each image is decoded once, and nothing else shows that it was shared."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

import dvme
from dvme.data.encoded import Encoded
from dvme.data.reading import Reading
from dvme.errors import ImageError
from dvme.extraction import decoding
from dvme_cache import EmbeddingCache, RowState

RUNTIME = dvme.Runtime(device="cpu", batch_size=8, workers=2)
CNN, VIT, GREY = "cnn", "vit@size=32", "cnn@in-chans=1@mode=squash"
ALL = (CNN, VIT, GREY)
N = 36
Decoded = Counter[bytes]
Failing = set[bytes]

CNN_TOML = """
name = "cnn"
architecture = "test_resnet"
pooling = "average"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "cnn.pth"
"""
VIT_TOML = """
name = "vit"
architecture = "test_vit"
architecture_args = { img_size = 64, depth = 1 }
pooling = "class-token"
[preprocess]
resize = 64
crop = 64
interpolation = "bicubic"
mode = "squash"
[checkpoint]
filename = "vit.pth"
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "cnn": timm.create_model("test_resnet", num_classes=0),
            "vit": timm.create_model("test_vit", num_classes=0, img_size=64, depth=1),
        }
    return {name: dict(model.state_dict()) for name, model in made.items()}


@pytest.fixture
def own(states: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two described backbones and their weights, which is the working directory."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name, text in (("cnn", CNN_TOML), ("vit", VIT_TOML)):
        (folder / f"{name}.toml").write_text(text)
        torch.save(states[name], folder / f"{name}.pth")
    monkeypatch.chdir(folder)
    return folder


def typed(name: str) -> str:
    """What a user types for a name in the cache."""
    base, at, options = name.partition("@")
    return f"{base}.toml{at}{options}"


def extract(images: Path, cache: Path, *names: str, **options: Any) -> dict[str, Any]:
    report = dvme.extract(images, cache, backbones=[typed(name) for name in names], **{"runtime": RUNTIME} | options)
    assert [outcome.backbone for outcome in report.outcomes] == list(names)
    return {outcome.backbone: outcome for outcome in report.outcomes}


def stored(cache: Path, name: str) -> NDArray[Any]:
    """Every embedding that is done, NaN elsewhere."""
    table = EmbeddingCache.open(cache).embeddings(name)
    done = np.flatnonzero(table.states() == RowState.DONE)
    found = np.full((len(table.states()), table.dim), np.nan, dtype=table.dtype)
    found[done] = table.read(done)
    return found


def files_of(cache: Path, name: str) -> Mapping[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (cache / "embeddings").rglob("*") if name in str(path)}


@pytest.fixture
def failing() -> Failing:
    """Contents that cannot be decoded."""
    return set()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch, failing: Failing) -> Decoded:
    """How often each content was decoded."""
    counts: Decoded = Counter()
    decode = decoding.decode

    def counting(image: Encoded, max_pixels: int | None, reading: Reading) -> Any:
        counts[image.data] += 1
        if image.data in failing:
            raise ImageError("is out of order")
        return decode(image, max_pixels, reading)

    monkeypatch.setattr(decoding, "decode", counting)
    return counts


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file was read to be decoded."""
    counts: Counter[Path] = Counter()
    original = decoding._read

    def counting(item: decoding.Work) -> Any:
        counts[item.path] += 1
        return original(item)

    monkeypatch.setattr(decoding, "_read", counting)
    return counts


@pytest.fixture
def first_twenty(class_folders: Path, tmp_path: Path) -> Path:
    """A folder with the first images of each class, 20 in all."""
    folder = tmp_path / "first"
    for name, count in (("dark", 12), ("grey", 8)):
        (folder / name).mkdir(parents=True)
        for path in sorted((class_folders / name).iterdir())[:count]:
            shutil.copy(path, folder / name)
    return folder


def test_extract__each_image_is_decoded_once_and_the_embeddings_are_those_of_each_alone(
    own: Path, class_folders: Path, tmp_path: Path, decoded: Decoded, read: Counter[Path]
) -> None:
    outcomes = extract(class_folders, tmp_path / "all.zarr", *ALL)
    assert len(decoded) == len(read) == N
    assert set(decoded.values()) == set(read.values()) == {1}
    assert {name: (one.computed, one.reused, one.failed) for name, one in outcomes.items()} == dict.fromkeys(
        ALL, (N, 0, 0)
    )
    together = {name: stored(tmp_path / "all.zarr", name) for name in ALL}
    for number, name in enumerate(ALL):
        extract(class_folders, tmp_path / f"{number}.zarr", name)
        np.testing.assert_array_equal(stored(tmp_path / f"{number}.zarr", name), together[name])
    assert set(decoded.values()) == {1 + len(ALL)}
    assert all(np.isfinite(values).all() for values in together.values())


@pytest.mark.parametrize("rows_per_shard", [7, 100])
def test_extract__whatever_the_shards(
    rows_per_shard: int, own: Path, class_folders: Path, tmp_path: Path, decoded: Decoded
) -> None:
    extract(class_folders, tmp_path / "all.zarr", CNN, VIT, rows_per_shard=rows_per_shard)
    assert set(decoded.values()) == {1}
    extract(class_folders, tmp_path / "cnn.zarr", CNN, rows_per_shard=rows_per_shard)
    np.testing.assert_array_equal(stored(tmp_path / "cnn.zarr", CNN), stored(tmp_path / "all.zarr", CNN))


def test_extract__backbones_that_crop_alike_share_the_crop(
    own: Path, class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop, n_crops = decoding.crop_image, Counter[int]()

    def counting(image: Image.Image, preprocess: Any) -> NDArray[np.uint8]:
        n_crops[preprocess.crop] += 1
        return crop(image, preprocess)

    monkeypatch.setattr(decoding, "crop_image", counting)
    extract(class_folders, tmp_path / "c.zarr", "vit@size=32", "vit@pool=class-and-mean@size=32", "vit")
    assert n_crops == {32: N, 64: N}


def test_extract__the_order_of_the_backbones_does_not_matter(own: Path, class_folders: Path, tmp_path: Path) -> None:
    extract(class_folders, tmp_path / "a.zarr", CNN, VIT)
    extract(class_folders, tmp_path / "b.zarr", VIT, CNN)
    for name in (CNN, VIT):
        np.testing.assert_array_equal(stored(tmp_path / "a.zarr", name), stored(tmp_path / "b.zarr", name))


def test_extract__one_is_complete_already(own: Path, class_folders: Path, tmp_path: Path, decoded: Decoded) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, CNN)
    before = files_of(cache, "cnn")
    decoded.clear()
    outcomes = extract(class_folders, cache, CNN, VIT)
    assert set(decoded.values()) == {1}
    assert (outcomes[CNN].computed, outcomes[CNN].reused) == (0, N)
    assert (outcomes[VIT].computed, outcomes[VIT].reused) == (N, 0)
    assert files_of(cache, "cnn") == before
    decoded.clear()
    extract(class_folders, cache, CNN, VIT)
    assert not decoded


@pytest.mark.parametrize("rows_per_shard", [8, 5])
def test_extract__they_lack_different_images(
    rows_per_shard: int, own: Path, class_folders: Path, first_twenty: Path, tmp_path: Path, decoded: Decoded
) -> None:
    """One has the first 20 images in shards of 8, the other nothing, and shards of 8 or 5."""
    cache = tmp_path / "c.zarr"
    extract(first_twenty, cache, CNN, rows_per_shard=8)
    shutil.copytree(cache, tmp_path / "apart.zarr")
    had = stored(cache, CNN)[:20]
    decoded.clear()
    outcomes = extract(class_folders, cache, CNN, VIT, rows_per_shard=rows_per_shard)
    assert (outcomes[CNN].computed, outcomes[CNN].reused) == (N - 20, 20)
    assert (outcomes[VIT].computed, outcomes[VIT].reused) == (N, 0)
    contents = [Path(path).read_bytes() for path in EmbeddingCache.open(cache).column("path")]
    times = np.array([decoded[content] for content in contents])
    assert (times == 1).all()
    for name in (CNN, VIT):
        extract(class_folders, tmp_path / "apart.zarr", name, rows_per_shard=rows_per_shard)
        np.testing.assert_array_equal(stored(cache, name), stored(tmp_path / "apart.zarr", name))
    np.testing.assert_array_equal(stored(cache, CNN)[:20], had)


def test_extract__progress_is_told_for_each(own: Path, class_folders: Path, first_twenty: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    extract(first_twenty, cache, CNN, rows_per_shard=8)
    told: dict[str, list[tuple[int, int]]] = {}
    extract(
        class_folders,
        cache,
        CNN,
        VIT,
        rows_per_shard=8,
        progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total)),
    )
    for name, total in ((CNN, 16), (VIT, N)):
        assert told[name] == sorted(told[name])
        assert told[name][-1] == (total, total)
        assert {item[1] for item in told[name]} == {total}


def test_extract__interrupted_in_the_middle_then_resumed(own: Path, class_folders: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == VIT and done >= 20:
            raise KeyboardInterrupt

    cache = tmp_path / "c.zarr"
    with pytest.raises(KeyboardInterrupt):
        extract(class_folders, cache, *ALL, rows_per_shard=8, progress=interrupt)
    n_kept = {name: int(np.isfinite(stored(cache, name)).all(axis=1).sum()) for name in ALL}
    assert {count % 8 for count in n_kept.values()} <= {0, N % 8}, "whole batches"
    assert n_kept[VIT] >= 20, "what was told to be done is kept"
    outcomes = extract(class_folders, cache, *ALL, rows_per_shard=8)
    assert {name: N - one.computed for name, one in outcomes.items()} == n_kept
    extract(class_folders, tmp_path / "whole.zarr", *ALL, rows_per_shard=8)
    for name in ALL:
        np.testing.assert_array_equal(stored(cache, name), stored(tmp_path / "whole.zarr", name))


def test_extract__an_image_that_fails_fails_for_all_and_is_tried_once_by_a_retry(
    own: Path, class_folders: Path, tmp_path: Path, decoded: Decoded, failing: Failing
) -> None:
    cache = tmp_path / "c.zarr"
    bad = (class_folders / "dark" / "03.png").read_bytes()
    failing.add(bad)
    outcomes = extract(class_folders, cache, *ALL)
    for one in outcomes.values():
        assert (one.computed, one.failed, one.reasons) == (N - 1, 1, {"dark/03.png": "is out of order"})
    assert decoded[bad] == 1
    failing.clear()
    extract(class_folders, cache, *ALL)
    assert decoded[bad] == 1  # left alone
    outcomes = extract(class_folders, cache, *ALL, retry_failed=True)
    assert {(one.computed, one.reused, one.failed) for one in outcomes.values()} == {(1, N - 1, 0)}
    assert decoded[bad] == 2
    assert set(decoded.values()) == {1, 2}
    for name in ALL:
        assert np.isfinite(stored(cache, name)).all()


def test_extract__an_image_that_one_way_of_cropping_refuses(own: Path, class_folders: Path, tmp_path: Path) -> None:
    Image.new("RGB", (660, 10)).save(class_folders / "dark" / "wide.png")
    outcomes = extract(class_folders, tmp_path / "c.zarr", CNN, VIT)  # the second squashes
    assert (outcomes[CNN].computed, outcomes[VIT].computed) == (N, N + 1)
    assert outcomes[CNN].reasons == {"dark/wide.png": "is 660 x 10 pixels, longer than 50 to 1"}
    assert outcomes[VIT].reasons == {}


def test_extract__a_file_that_cannot_be_read_just_now_stays_pending_for_all(
    own: Path, class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme.extraction.beginning.spool_bytes", lambda: 0)
    target = class_folders / "dark" / "05.png"
    whole = target.read_bytes()

    def vanish(stage: str, done: int, total: int) -> None:
        if stage == "hash" and done == total:
            target.unlink()

    first = extract(class_folders, tmp_path / "c.zarr", *ALL, progress=vanish)
    assert {(one.computed, one.failed) for one in first.values()} == {(N - 1, 1)}
    assert all("cannot be read" in one.reasons["dark/05.png"] for one in first.values())
    target.write_bytes(whole)
    second = extract(class_folders, tmp_path / "c.zarr", *ALL)
    assert {(one.computed, one.reused, one.failed) for one in second.values()} == {(1, N - 1, 0)}


def test_extract__features_are_those_of_the_plain_model(own: Path, class_folders: Path, tmp_path: Path) -> None:
    extract(class_folders, tmp_path / "c.zarr", CNN, GREY)
    model = timm.create_model("test_resnet", num_classes=0)
    model.load_state_dict(torch.load(own / "cnn.pth"))
    model.eval()
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    for row in (0, 17, 35):
        image = Image.open(str(cache.column("path")[row]))  # 40 x 32 pixels
        # Short side to 36, which makes 45 x 36; the crop starts at round(6.5) = 6 and at 2.
        colour = np.asarray(image.resize((45, 36), Image.Resampling.BILINEAR).crop((6, 2, 38, 34)))
        squashed = image.resize((36, 36), Image.Resampling.BILINEAR).crop((2, 2, 34, 34)).convert("L")
        batch = torch.from_numpy(colour.copy()).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        grey = (torch.from_numpy(np.asarray(squashed).copy())[None, None].float() / 255 - 0.449) / 0.226
        with torch.inference_mode():
            expected = {CNN: model((batch - mean) / std)[0], GREY: model(grey.repeat(1, 3, 1, 1))[0]}
        for name, features in expected.items():
            np.testing.assert_allclose(
                stored(tmp_path / "c.zarr", name)[row], features, rtol=0, atol=1e-4 * float(features.abs().max())
            )


def test_extract__a_variation_beside_its_base(own: Path, class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, "vit")
    outcomes = extract(class_folders, cache, "vit", "vit@pool=class-and-mean", "vit@size=32")
    assert [one.reused for one in outcomes.values()] == [N, 0, 0]
    assert [one.dim for one in outcomes.values()] == [64, 128, 64]
    assert set(EmbeddingCache.open(cache).backbones) == set(outcomes)
    both = stored(cache, "vit@pool=class-and-mean")
    scale = float(np.abs(both).max())
    np.testing.assert_allclose(both[:, :64], stored(cache, "vit"), rtol=0, atol=1e-4 * scale)
    assert not np.allclose(stored(cache, "vit"), stored(cache, "vit@size=32"), atol=1e-2 * scale)


def test_extract__weights_given_by_the_base_name_serve_every_variation(
    own: Path, class_folders: Path, tmp_path: Path
) -> None:
    extract(class_folders, tmp_path / "beside.zarr", *ALL)
    weights = {}
    for name in ("cnn", "vit"):
        weights[name] = (own / f"{name}.pth").rename(tmp_path / f"elsewhere-{name}.pth")
    extract(class_folders, tmp_path / "given.zarr", *ALL, weights=weights)
    for name in ALL:
        np.testing.assert_array_equal(stored(tmp_path / "given.zarr", name), stored(tmp_path / "beside.zarr", name))


def test_extract__architecture_of_a_file(states: dict[str, Any], class_folders: Path, tmp_path: Path) -> None:
    nested = {f"module.backbone.{key}": value for key, value in states["cnn"].items()}
    torch.save({"state_dict": nested | {"module.fc.weight": torch.zeros(2, 384)}, "epoch": 1}, tmp_path / "w.pth")
    cache, names = tmp_path / "c.zarr", ["mine@size=32", "mine@in-chans=1@size=32"]
    options = {"weights": {"mine": tmp_path / "w.pth"}, "architectures": {"mine": "test_resnet"}, "runtime": RUNTIME}
    report = dvme.extract(class_folders, cache, backbones=["mine@size=32", "mine@size=32@in-chans=1"], **options)  # type: ignore[arg-type]
    assert [one.backbone for one in report.outcomes] == ["mine@size=32", "mine@size=32@in-chans=1"]
    assert [one.computed for one in report.outcomes] == [N, N]
    again = dvme.extract(class_folders, cache, backbones=names, **options)  # type: ignore[arg-type]
    assert [one.reused for one in again.outcomes] == [N, N]
    verified = dvme.cache.verify(cache, images=True, weights={"mine": tmp_path / "w.pth"}, sample=5)
    assert verified.is_sound
    assert [one.n_compared for one in verified.comparisons] == [5, 5]


def test_verify__rebuilds_from_the_cache_alone(own: Path, class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, *ALL)
    for name in ("cnn", "vit"):
        (own / f"{name}.toml").unlink()
    beside = dvme.cache.verify(cache, images=True, sample=10, runtime=dvme.Runtime(batch_size=3))
    assert beside.is_sound  # the weights are where they were
    weights = {name: (own / f"{name}.pth").rename(tmp_path / f"{name}.pth") for name in ("cnn", "vit")}
    gone = dvme.cache.verify(cache, images=True, sample=10)
    assert not gone.is_sound
    assert all("pass a local copy with weights=" in one.skipped for one in gone.comparisons)
    given = dvme.cache.verify(cache, images=True, sample=10, weights=weights)
    assert given.is_sound
    assert {one.backbone: (one.n_compared, one.n_different, one.skipped) for one in given.comparisons} == dict.fromkeys(
        ALL, (10, 0, "")
    )


def test_verify__other_weights_than_the_embeddings_are_of(own: Path, class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, CNN)
    other = timm.create_model("test_resnet", num_classes=0).state_dict()
    torch.save(other, tmp_path / "other.pth")
    report = dvme.cache.verify(cache, images=True, weights={"cnn": tmp_path / "other.pth"})
    assert not report.is_sound
    assert "weights" in report.comparisons[0].skipped


def test_verify__finds_an_embedding_that_is_not_of_its_image(own: Path, class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    extract(class_folders, cache, CNN, VIT)
    with EmbeddingCache.writing(cache) as store:
        table = store.embeddings(VIT)
        features = table.read(np.arange(N))
        features[4] = features[30]
        table.commit(np.arange(N), features, {})
    report = dvme.cache.verify(cache, images=True, sample=N)
    assert [(one.backbone, one.n_different) for one in report.comparisons] == [(CNN, 0), (VIT, 1)]


def test_provenance__keeps_the_specification(own: Path, class_folders: Path, tmp_path: Path) -> None:
    extract(class_folders, tmp_path / "c.zarr", GREY)
    kept = EmbeddingCache.open(tmp_path / "c.zarr").embeddings(GREY).provenance["spec"]
    assert (kept["name"], kept["architecture"], kept["pooling"]) == (GREY, "test_resnet", "average")
    assert (kept["preprocess"]["mean"], kept["preprocess"]["mode"]) == ([0.449], "squash")
    assert kept["checkpoint"]["local"] == str(own / "cnn.pth")
