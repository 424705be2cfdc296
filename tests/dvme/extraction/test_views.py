"""`extract(..., views=K)`: each view is what it should be, whoever computes it and when."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pixel_backbone import as_embedding, pixel_backbone

import dvme
from dvme.backbones.description.spec import Preprocess
from dvme.backbones.description.variation import view_in
from dvme.backbones.loading import model as loading
from dvme.backbones.model.augment import view_image
from dvme.data.images import decode_image
from dvme.errors import OptionError
from dvme.extraction import decoding
from dvme_cache import EmbeddingCache, FingerprintMismatchError, content_id

PREPROCESS = Preprocess(resize=14, crop=12, mean=(0.0,), std=(1.0,))
RUNTIME = dvme.Runtime(device="cpu", batch_size=4, workers=2)
NAMES = ["pixels", "pixels@view=1", "pixels@view=2"]
N = 11


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey and coloured images of all shapes, and a backbone that gives back what it sees."""
    folder = tmp_path_factory.mktemp("views")
    rng = np.random.default_rng(0)
    for index in range(N):
        shape = (20 + index, 30 - index, 3) if index % 2 else (20 + index, 24)
        path = folder / "images" / "abc"[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return folder


def _extract(own: Path, cache: Path, images: Path | None = None, **options: Any) -> Path:
    given = {"backbones": pixel_backbone(own), "views": 3, "runtime": RUNTIME} | options
    dvme.extract(images or own / "images", cache, **given)
    return cache


def _by_content(cache: Path, name: str) -> dict[bytes, NDArray[Any]]:
    store = EmbeddingCache.open(cache)
    rows = store.complete_rows([name])
    return dict(zip((store.samples.content_ids[row] for row in rows), store.embeddings(name).read(rows), strict=True))


def test_extract__each_view_is_the_picture_that_its_name_says(own: Path, tmp_path: Path) -> None:
    cache = _extract(own, tmp_path / "c.zarr")
    assert EmbeddingCache.open(cache).backbones == NAMES
    for name in NAMES:
        found = _by_content(cache, name)
        assert len(found) == N
        for path in (own / "images").rglob("*.png"):
            data = path.read_bytes()
            pixels = view_image(decode_image(data), PREPROCESS, view_in(name), content_id(data))
            np.testing.assert_allclose(found[content_id(data)], as_embedding(pixels), atol=1e-6)


def test_extract__the_plain_view_is_what_it_is_without_views(own: Path, tmp_path: Path) -> None:
    several, alone = _extract(own, tmp_path / "s.zarr"), _extract(own, tmp_path / "a.zarr", views=1)
    one, other = (EmbeddingCache.open(cache).embeddings("pixels") for cache in (several, alone))
    assert one.fingerprint == other.fingerprint
    assert not any("view" in field for field in one.fingerprint.fields)
    np.testing.assert_array_equal(one.read(np.arange(N)), other.read(np.arange(N)))


def test_extract__views_depend_on_neither_order_batch_workers_nor_company(own: Path, tmp_path: Path) -> None:
    expected = {name: _by_content(_extract(own, tmp_path / "c.zarr"), name) for name in NAMES}
    moved = tmp_path / "moved"
    for number, path in enumerate(sorted((own / "images").rglob("*.png"), reverse=True)):
        moved.mkdir(exist_ok=True)
        shutil.copy(path, moved / f"{number:02d}.png")
    ways: list[dict[str, Any]] = [
        {"images": moved, "runtime": dvme.Runtime(device="cpu", batch_size=1, workers=1)},
        {"images": moved, "runtime": dvme.Runtime(device="cpu", batch_size=7, workers=5), "rows_per_shard": 3},
        {"backbones": f"{pixel_backbone(own)}@view=2", "views": 1},
        {"views": 6},
    ]
    for number, way in enumerate(ways):
        cache = _extract(own, tmp_path / f"{number}.zarr", **way)
        for name in set(NAMES) & set(EmbeddingCache.open(cache).backbones):
            for content, row in _by_content(cache, name).items():
                np.testing.assert_array_equal(row, expected[name][content])


def test_extract__later_views_join_earlier_ones_and_are_kept(own: Path, tmp_path: Path) -> None:
    cache = _extract(own, tmp_path / "c.zarr", views=1)
    report = dvme.extract(own / "images", cache, backbones=pixel_backbone(own), views="3", runtime=RUNTIME)
    assert [(each.reused, each.computed) for each in report.outcomes] == [(N, 0), (0, N), (0, N)]
    other = dvme.extract(own / "images", cache, backbones=pixel_backbone(own), views="2:crop", runtime=RUNTIME)
    assert [each.backbone for each in other.outcomes] == ["pixels", "pixels@view=1:crop"]
    assert [each.computed for each in other.outcomes] == [0, N]


def test_extract__an_image_is_decoded_once_and_the_model_loaded_once(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    decode, build = decoding.decode, loading.build_model
    monkeypatch.setattr(decoding, "decode", lambda *args: counts.update(["decoded"]) or decode(*args))
    monkeypatch.setattr(loading, "build_model", lambda *args: counts.update(["loaded"]) or build(*args))
    _extract(own, tmp_path / "c.zarr", views=5)
    assert counts == {"decoded": N, "loaded": 1}


def test_extract__another_view_under_its_name_is_refused(own: Path, tmp_path: Path) -> None:
    cache = _extract(own, tmp_path / "c.zarr", views=2)
    with EmbeddingCache.writing(cache) as store:
        table = store.embeddings("pixels@view=1")
        with pytest.raises(FingerprintMismatchError, match=r"view\.revision"):
            store.check_fingerprint("pixels@view=1", table.fingerprint.with_fields({"view.revision": 2}))


def test_plan_extraction__a_line_for_each_view(own: Path, tmp_path: Path) -> None:
    plan = dvme.plan_extraction(
        own / "images", tmp_path / "c.zarr", backbones=pixel_backbone(own), views=3, runtime=RUNTIME
    )
    assert [(each.backbone, each.n_computed) for each in plan.backbones] == [(name, N) for name in NAMES]
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.parametrize(("views", "suffix"), [(0, ""), ("x", ""), (65, ""), ("3:flip", ""), (2, "@view=1")])
def test_extract__refuses_views_that_there_are_not(own: Path, tmp_path: Path, views: Any, suffix: str) -> None:
    with pytest.raises(OptionError, match="view"):
        _extract(own, tmp_path / "c.zarr", backbones=pixel_backbone(own) + suffix, views=views)
    assert not (tmp_path / "c.zarr").exists()


def test_verify_export_import__take_views_as_backbones(own: Path, tmp_path: Path) -> None:
    cache = _extract(own, tmp_path / "c.zarr")
    dvme.cache.export(cache, tmp_path / "e.h5")
    dvme.cache.import_embeddings(tmp_path / "e.h5", tmp_path / "i.zarr")
    for name in NAMES:
        one, other = (_by_content(place, name) for place in (cache, tmp_path / "i.zarr"))
        assert one.keys() == other.keys()
        np.testing.assert_array_equal([one[key] for key in one], [other[key] for key in one])
    assert dvme.cache.verify(tmp_path / "i.zarr").is_sound
