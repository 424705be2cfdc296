"""Masks as pictures: pixel by pixel, and in colours that everybody can tell apart."""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from dvme.data.masks import VOID
from dvme.report.mask_pictures import (
    BACKGROUND,
    MISSED,
    ONE_CLASS,
    RIGHT,
    TOO_MUCH,
    UNKNOWN,
    class_colours,
    colour_picture,
    error_picture,
    mask_picture,
)

DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Of linear RGB; Machado, Oliveira and Fernandes 2009, severity 1."""


def hexes(picture: Image.Image) -> list[list[str]]:
    return [["#" + bytes(pixel).hex().upper() for pixel in row] for row in np.asarray(picture.convert("RGB"))]


def test_mask_picture__has_the_colour_of_each_class() -> None:
    planes = np.array([[[1, 0, VOID, 1]], [[0, 1, VOID, 1]]], dtype=np.uint8)
    one, two = class_colours(2)
    assert hexes(mask_picture(planes)) == [[one, two, UNKNOWN, two]]
    assert hexes(mask_picture(planes[:1, :, :2])) == [[ONE_CLASS, BACKGROUND]]
    assert len({*class_colours(6), RIGHT, TOO_MUCH, MISSED}) == 9
    assert class_colours(7)[6] == one


def test_error_picture__by_hand() -> None:
    truth = np.array([[[1, 1, 0, 0, VOID, VOID, 1]], [[0, 0, 0, 0, VOID, VOID, 0]]], dtype=np.uint8)
    taken = np.array([[[1, 0, 1, 0, 1, 0, 0]], [[0, 0, 0, 0, 0, 0, 1]]], dtype=bool)
    found = hexes(error_picture(taken, truth))
    assert found == [[RIGHT, MISSED, TOO_MUCH, BACKGROUND, UNKNOWN, UNKNOWN, MISSED]]


def test_colour_picture__is_blocks() -> None:
    colours = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = np.asarray(colour_picture(colours, (4, 6)))
    np.testing.assert_array_equal(found, colours.repeat(2, axis=0).repeat(3, axis=1))


def test_error_colours__are_apart_for_everybody() -> None:
    """CIE76 in CIELAB; 2.3 is just noticeable."""
    for matrix in [np.eye(3), *map(np.array, DEFICIENCIES.values())]:
        seen = {name: _lab(matrix @ _linear(name)) for name in (RIGHT, TOO_MUCH, MISSED, BACKGROUND, UNKNOWN)}
        assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen.values(), 2)) > 20


def _linear(name: str) -> np.ndarray:
    values = np.array(list(bytes.fromhex(name[1:]))) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    white = to_xyz @ np.ones(3)
    x, y, z = np.cbrt(np.clip(to_xyz @ np.clip(linear, 0, 1) / white, 0.008856, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
