"""A row of an array as the bytes of a picture file, so that it is identified and decoded like the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

COLOURS = 3
DEPTHS = {1: 255, 2: 65_535}
"""Bytes of a value to its largest one, which is white."""
IMAGE_AXES = (3, 4)
"""Axes of an array of images: (N, H, W) or (N, H, W, C)."""

Bytes = bytes | memoryview


@dataclass(frozen=True)
class Form:
    """What the images of an array have in common."""

    n_rows: int
    header: bytes
    """Of a PGM file, or of a PPM file for RGB."""
    n_bytes: int
    """Of the values of one image."""
    dtype: np.dtype[Any]
    """`uint8`, or `uint16` in any order of bytes."""

    def picture(self, values: Bytes) -> bytes:
        """The picture file of an image, given its values as they lie in memory, row by row.

        Source: the specification of PGM and PPM (netpbm): a header of text, then the values, the high byte first.
        """
        if self.dtype.itemsize > 1:
            values = np.frombuffer(values, dtype=self.dtype).astype(">u2").tobytes()
        return b"".join((self.header, values))


def form_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Form:
    """The form of an array of images.

    Raises:
        ValueError: saying what its rows are instead, and what to do.
    """
    reason = _why_not(shape, dtype)
    if reason:
        raise ValueError(reason)
    height, width, *channels = shape[1:]
    kind = b"P6" if channels == [COLOURS] else b"P5"
    return Form(
        n_rows=shape[0],
        header=b"%s\n%d %d\n%d\n" % (kind, width, height, DEPTHS[dtype.itemsize]),
        n_bytes=int(np.prod(shape[1:])) * dtype.itemsize,
        dtype=dtype,
    )


def are_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether the rows of an array are images."""
    return not _why_not(shape, dtype)


def is_like_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether somebody may have meant an array's rows as images, or as something near to them."""
    return len(shape) in {*IMAGE_AXES, 5} and dtype.kind in "uifb" and min(shape[1:3]) > 1


def _why_not(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Why the rows are no images, and the next step; "" if they are."""
    text = "x".join(map(str, shape[1:]))
    if 0 in shape:
        return "holds no images, for its shape is " + "x".join(map(str, shape))
    if len(shape) not in IMAGE_AXES:
        return f"has rows of {text or 'one value'}; a row is an image of height x width, or height x width x 3"
    last = shape[-1]
    if len(shape) == 3 and last in {1, COLOURS, 4}:
        return f"looks like one image of {shape[0]}x{text} rather than many; save it as a PNG file, or as (1, H, W, C)"
    if len(shape) == 4 and last not in {1, COLOURS}:
        return _of_four_axes(shape, text)
    return _of_type(dtype, has_colours=len(shape) == 4 and last == COLOURS)


def _of_type(dtype: np.dtype[Any], *, has_colours: bool) -> str:
    if dtype.kind == "f":
        return f"has values of type {dtype}, of which nobody knows which is white; save it as uint8, or grey as uint16"
    if dtype.kind != "u" or dtype.itemsize not in DEPTHS:
        return f"has values of type {dtype}; save it as uint8, or grey as uint16"
    return "has 16 bits per colour channel; save it as uint8" if has_colours and dtype.itemsize > 1 else ""


def _of_four_axes(shape: tuple[int, ...], text: str) -> str:
    if shape[-1] in {2, 4}:
        return f"has images of {shape[-1]} channels; save the grey or the three colours alone, without alpha"
    if shape[1] in {1, COLOURS}:
        return f"has channels first, {text}; save it as (N, height, width, channels)"
    return (
        f"has volumes of {text}, and backbones take flat images; save slices of them, such as the middle one "
        f"array[:, {shape[1] // 2}], as (N, height, width)"
    )
