"""Pictures of segmentations: which images, what is kept of them, and that a torn folder is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import discs, scene_of

from dvme.metrics.segmentation import UNKNOWN
from dvme.study.pictures import DESCRIPTION, EDGE, Picture, Pictures, PictureStore, chosen, pictures_of, reduced


def counts_of(scores: list[float]) -> np.ndarray:
    """(n, 1, 3) of images whose Dice these are; nan: nothing is known."""
    rows = [(UNKNOWN,) * 3 if np.isnan(score) else (round(100 * score), 100, 100) for score in scores]
    return np.array(rows, dtype=np.int64).reshape(-1, 1, 3)


def test_chosen__best_median_and_worst_by_hand() -> None:
    scores = [0.5, 0.9, 0.1, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4, 1.0, 0.0]  # the median is 0.5
    assert chosen(counts_of(scores)) == [
        *(("best", place) for place in (9, 1, 5)),
        *(("median", place) for place in (7, 0, 8)),
        *(("worst", place) for place in (10, 2, 6)),
    ]


@pytest.mark.parametrize("n_images", range(12))
def test_chosen__no_image_twice(n_images: int) -> None:
    found = chosen(counts_of([place / 20 for place in range(n_images)]))
    places = [place for _, place in found]
    assert len(set(places)) == len(places) == min(n_images, 3 * max(1, min(3, n_images // 3)))
    assert [kind for kind, _ in found] == sorted(kind for kind, _ in found)  # best, median, worst


def test_chosen__what_has_nothing_to_be_seen_is_left_out() -> None:
    counts = counts_of([0.5, float("nan"), 0.2, 0.9])
    counts[3] = 0  # empty and found empty: Dice 1
    assert chosen(counts) == [("best", 0), ("worst", 2)]


def test_reduced__is_the_pixel_in_the_middle() -> None:
    planes = np.arange(2 * 6 * 12).reshape(2, 6, 12)
    np.testing.assert_array_equal(reduced(planes, 4), planes[:, 1::3, 1::3])
    assert reduced(planes, 12) is planes
    assert reduced(np.zeros((1, 1000, 3)), 100).shape == (1, 100, 1)


def test_pictures__are_read_as_they_were_written(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, {"a@dense=last": [np.zeros((4, 2, 2, 3))]}, discs(4, 8, 2), ("one", "two"))
    rng, counts = np.random.default_rng(0), np.array([[[1, 2, 2]] * 2, [[2, 2, 2]] * 2, [[0, 2, 2]] * 2])
    planes = rng.random((4, 2, 8, 8)) > 0.5
    positions = np.array([3, 1, 0])
    found = pictures_of(lambda position: planes[position], counts, positions, (8, 8), scene.masks, scene.ids)
    assert [(each.kind, each.dice) for each in found.images] == [("best", 1.0), ("median", 0.5), ("worst", 0.0)]
    assert {each.ceiling for each in found.images} == {1.0}  # a grid as fine as the mask
    store = PictureStore(tmp_path)
    store.write("key", found)
    assert store.read("key") == found
    for each, position in zip(found.images, (1, 3, 0), strict=True):
        assert each.content == scene.ids[position].tobytes().hex()
        np.testing.assert_array_equal(each.planes, planes[position])
    assert sorted(each.name for each in (tmp_path / "pictures" / "key").iterdir()) == [
        *("1-best.png", "2-median.png", "3-worst.png"),
        DESCRIPTION,
    ]
    assert not PictureStore(None).has("key")


def test_picture__is_small_and_opens_anywhere(tmp_path: Path) -> None:
    planes = discs(1, 900).astype(bool)
    own = Picture.of("best", "00", (1.0, 1.0), planes)
    (tmp_path / "p.png").write_bytes(own.png)
    with Image.open(tmp_path / "p.png") as image:
        assert (image.mode, image.size) == ("1", (EDGE, EDGE))
    assert len(own.png) < EDGE * EDGE / 8 + 200


@pytest.mark.parametrize("file", ["1-best.png", DESCRIPTION])
@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\nnot one", b"{}"])
def test_pictures__torn_ones_are_none(tmp_path: Path, file: str, content: bytes | None) -> None:
    store = PictureStore(tmp_path)
    store.write("key", Pictures((2, 2), (Picture.of("best", "00", (0.5, 1.0), np.ones((1, 4, 4), dtype=bool)),)))
    assert store.has("key")
    path = tmp_path / "pictures" / "key" / file
    path.unlink() if content is None else path.write_bytes(content)
    assert store.read("key") is None
