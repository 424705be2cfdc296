"""JPEG files decoded to a part of their size: which part, the same picture, and near enough to the whole."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from dvme.backbones.description.variation import vary
from dvme.backbones.loading.model import load_backbone
from dvme.backbones.loading.registry import get_spec
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode
from dvme.data.reading import Reading
from dvme.errors import ImageError, OptionError

BOUND = 0.99
"""The least cosine to the embedding of the whole image that the documentation states, at twice the resize or more."""


def gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture, which any way of making it smaller leaves nearly the same."""
    across, down = np.meshgrid(np.linspace(20, 230, width), np.linspace(20, 230, height))
    pixels = np.stack([across, down, (across + down) / 2], axis=2).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("size", "least", "expected"),
    [
        ((1024, 1024), 512, (512, 512)),
        ((1023, 1600), 512, (512, 800)),  # 511.5 and 800
        ((1022, 1600), 512, (1022, 1600)),  # 511
        ((2048, 1030), 256, (512, 258)),  # 257.5
        ((2041, 3001), 256, (256, 376)),  # 255.125 and 375.125
        ((4000, 2040), 256, (1000, 510)),  # 255 would be too few
        ((640, 427), 100, (160, 107)),
        ((500, 400), 512, (500, 400)),
        ((129, 121), 16, (17, 16)),
    ],
)
def test_decode__draft_is_the_smallest_that_has_so_many_pixels(
    size: tuple[int, int], least: int, expected: tuple[int, int]
) -> None:
    data = saved(Image.new("L", size, 90), quality=30)
    assert decode(data, None, Reading(draft=str(least))).image.size == expected
    assert decode(data).image.size == size


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 95, "optimize": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decode__draft_is_the_same_picture(mode: str, options: dict[str, Any]) -> None:
    data = saved(gradient(600, 450, mode), **options)
    draft = decode(data, None, Reading(draft="200")).image
    whole = decode(data).image
    assert (draft.mode, draft.size) == (whole.mode, (300, 225))
    reduced = np.asarray(whole.resize((300, 225), Image.Resampling.BOX), dtype=float)
    assert np.abs(np.asarray(draft, dtype=float) - reduced).max() <= 3


def test_decode__draft_stands_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = saved(gradient(600, 400), exif=exif)
    draft = decode(data, None, Reading(draft="100")).image
    assert draft.size == (100, 150)
    reduced = np.asarray(decode(data).image.resize((100, 150), Image.Resampling.BOX), dtype=float)
    assert np.abs(np.asarray(draft, dtype=float) - reduced).max() <= 3


def test_decode__draft_of_four_inks() -> None:
    data = saved(gradient(400, 400, "CMYK"), quality=95)
    draft, whole = decode(data, None, Reading(draft="100")).image, decode(data).image
    reduced = np.asarray(whole.resize((100, 100), Image.Resampling.BOX), dtype=float)
    assert np.abs(np.asarray(draft, dtype=float) - reduced).max() <= 4
    without = data.replace(b"Adobe", b"adobe")
    with pytest.raises(ImageError, match="no Adobe marker"):
        decode(without, None, Reading(draft="100"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_decode__draft_changes_nothing_of_other_files(kind: str) -> None:
    data = saved(gradient(300, 200), kind)
    draft, whole = decode(data, None, Reading(draft="50")).image, decode(data).image
    assert draft.size == (300, 200)
    np.testing.assert_array_equal(np.asarray(draft), np.asarray(whole))


def test_decode__draft_is_judged_by_the_size_of_the_file() -> None:
    data = saved(Image.new("L", (800, 600)))
    with pytest.raises(ImageError, match="has 480,000 pixels, more than 400,000"):
        decode(data, 400_000, Reading(draft="16"))


def test_decode__draft_of_a_torn_file_fails_as_the_whole_does() -> None:
    data = saved(gradient(600, 450))
    torn = data[: len(data) // 2]
    for reading in (Reading(), Reading(draft="100")):
        with pytest.raises(ImageError, match="cannot be decoded"):
            decode(torn, None, reading)


def test_vary__draft() -> None:
    spec = vary(get_spec("efficientnet-lite0"), {"draft": "0512"})
    assert (spec.name, spec.reading) == ("efficientnet-lite0@draft=512", Reading(draft="512"))
    with pytest.raises(OptionError, match=r"draft=255 of efficientnet-lite0 is fewer pixels than the 256 .* draft=256"):
        vary(get_spec("efficientnet-lite0"), {"draft": "255"})
    with pytest.raises(OptionError, match="fewer pixels than the 512"):
        vary(get_spec("efficientnet-lite0"), {"draft": "256", "size": "448"})
    for wrong in ("x", "-1", "15", "65501", "1.5", ""):
        with pytest.raises(OptionError, match="draft="):
            vary(get_spec("efficientnet-lite0"), {"draft": wrong})


def test_embed__draft_of_twice_the_resize_is_within_the_bound() -> None:
    torch.set_num_threads(1)
    spec = vary(get_spec("efficientnet-lite0"), {"size": "128"})
    model, draft = load_backbone(spec), 2 * spec.preprocess.resize
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    places = [(0, 0, 640, 427), (0, 0, 427, 427), (213, 0, 640, 427)]
    files = [saved(photo.crop(place).resize((1200, 800)), quality=88) for photo in photographs for place in places]
    pixels = [
        crop_image(decode(file, None, reading).image, spec.preprocess)
        for reading in (Reading(), Reading(draft=str(draft)))
        for file in files
    ]
    assert decode(files[0], None, Reading(draft=str(draft))).image.size == (600, 400)
    embedded = torch.nn.functional.normalize(model.embed(torch.from_numpy(np.stack(pixels))).double(), dim=1)
    cosines = (embedded[: len(files)] * embedded[len(files) :]).sum(dim=1)
    assert BOUND <= float(cosines.min()) < 1
