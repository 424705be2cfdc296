"""Masks, predictions and their errors as pictures, in colours that the colour-blind can tell apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.data.masks import VOID
from dvme.report.figures.style import PALETTE

BACKGROUND, UNKNOWN = "#262C35", "#7B8494"
"""Of pixels without a class, and of those whose class nobody knows."""
RIGHT, TOO_MUCH, MISSED = "#F0F0F0", "#56B4E9", "#E69F00"
"""The last two are of Okabe and Ito 2008; the first differs from both by how light it is."""
ONE_CLASS = RIGHT
CLASSES = tuple(colour for colour in PALETTE if colour not in (TOO_MUCH, MISSED))
"""Of several classes; a colour of errors is none of them."""


def class_colours(n_classes: int) -> list[str]:
    """Of each class; those of many classes come again."""
    return [ONE_CLASS] if n_classes == 1 else [CLASSES[c % len(CLASSES)] for c in range(n_classes)]


def mask_picture(planes: NDArray[np.uint8]) -> Image.Image:
    """(L, h, w) planes of 1, 0 and VOID; of structures that lie over each other the last one is seen."""
    layers = [(UNKNOWN, (planes == VOID).all(axis=0))]
    layers += [(colour, plane == 1) for colour, plane in zip(class_colours(len(planes)), planes, strict=True)]
    return _painted(layers)


def error_picture(predicted: NDArray[np.bool_], planes: NDArray[np.uint8]) -> Image.Image:
    """What is right, what is too much and what is missed of (L, h, w) planes.

    A pixel of another class than it is taken for is missed; where nobody knows the class, nothing is wrong.
    """
    is_true, is_false = planes == 1, planes == 0
    layers = [
        (UNKNOWN, (planes == VOID).all(axis=0)),
        (RIGHT, (predicted & is_true).any(axis=0)),
        (TOO_MUCH, (predicted & is_false).any(axis=0)),
        (MISSED, (~predicted & is_true).any(axis=0)),
    ]
    return _painted(layers)


def colour_picture(colours: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """(r, c, 3) colours of cells, as blocks of an image of h rows and w columns."""
    return Image.fromarray(colours).resize(size[::-1], Image.Resampling.NEAREST)


def _painted(layers: list[tuple[str, NDArray[np.bool_]]]) -> Image.Image:
    """A picture of few colours; later layers cover earlier ones."""
    names = list(dict.fromkeys([BACKGROUND, *(colour for colour, _ in layers)]))
    found = np.zeros(layers[0][1].shape, dtype=np.uint8)
    for colour, where in layers:
        found[where] = names.index(colour)
    picture = Image.fromarray(found, mode="P")
    picture.putpalette(b"".join(bytes.fromhex(name[1:]) for name in names))
    return picture
