from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dvme.data import decode_image
from dvme.data.sources.arrays.pictures import are_images, form_of, is_like_images
from dvme_cache import content_id


@pytest.mark.parametrize("shape", [(3, 5, 6), (3, 5, 6, 1), (3, 5, 6, 3)])
def test_picture__equals_the_file_that_pillow_saves(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(values[1].squeeze())
    saved = io.BytesIO()
    image.save(saved, "PPM")
    picture = form_of(shape, values.dtype).picture(values[1].tobytes())
    assert content_id(picture) == content_id(saved.getvalue())
    assert np.array_equal(np.asarray(decode_image(picture)), values[1].squeeze())


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_picture__deep_grey_is_exact(dtype: str) -> None:
    values = np.array([[[0, 1, 256, 4095, 65534, 65535]]], dtype=dtype)
    picture = form_of(values.shape, values.dtype).picture(values[0].tobytes())
    assert picture == b"P5\n6 1\n65535\n" + bytes([0, 0, 0, 1, 1, 0, 15, 255, 255, 254, 255, 255])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), values[0])


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((9, 28, 28), "f4", "nobody knows which is white"),
        ((9, 28, 28), "i8", "save it as uint8"),
        ((9, 28, 28), "?", "save it as uint8"),
        ((9, 28, 28, 3), "u2", "16 bits per colour channel"),
        ((9, 28, 28, 28), "u1", "such as the middle one array[:, 14]"),
        ((9, 3, 28, 28), "u1", "channels first"),
        ((9, 28, 28, 4), "u1", "without alpha"),
        ((64, 48, 3), "u1", "one image of 64x48x3 rather than many"),
        ((0, 28, 28), "u1", "holds no images"),
        ((9, 12), "u1", "a row is an image"),
        ((9, 2, 28, 28, 1), "u1", "a row is an image"),
    ],
)
def test_form_of__says_what_the_rows_are(shape: tuple[int, ...], dtype: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        form_of(shape, np.dtype(dtype))
    assert reason in str(error.value)
    assert not are_images(shape, np.dtype(dtype))


def test_is_like_images__not_labels_nor_embeddings() -> None:
    likely = [(9, 28, 28), (9, 28, 28, 3), (9, 28, 28, 28)]
    others = [(9,), (9, 1), (9, 512), (9, 1, 1, 1)]
    assert [is_like_images(shape, np.dtype("u1")) for shape in (*likely, *others)] == [True] * 3 + [False] * 4
