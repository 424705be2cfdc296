"""Images with masks as files: discs in noise, and what a cache would keep of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.data.masks import Masks
from dvme.data.masks.cell import BACKGROUND, NOTHING, Cell, Layer
from dvme.extraction.decoding import Work
from dvme_cache import content_id

VALUE_OF_NOTHING = 255


@dataclass(frozen=True)
class Drawings:
    """N images and their masks."""

    work: list[Work]
    masks: Masks
    labels: list[NDArray[np.uint8]]
    """(H, W) each: 0 background, class + 1, 255 void."""


def discs(
    folder: Path, n: int, *, sizes: Sequence[tuple[int, int]] = ((80, 96),), n_classes: int = 1, seed: int = 0
) -> Drawings:
    """Bright discs of classes that differ in their colour, in noise."""
    rng, images, labels = np.random.default_rng(seed), [], []
    for number in range(n):
        height, width = sizes[number % len(sizes)]
        label = np.zeros((height, width), dtype=np.uint8)
        y, x = np.mgrid[:height, :width]
        for which in range(n_classes):
            radius = rng.uniform(0.15, 0.25) * min(height, width)
            middle = rng.uniform(radius, height - radius), rng.uniform(radius, width - radius)
            label[(y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= radius**2] = which + 1
        pixels = rng.normal(90, 25, (height, width, 3))
        for which in range(n_classes):
            pixels[label == which + 1, which % 3] += 90
        images.append(pixels.clip(0, 255).astype(np.uint8))
        labels.append(label)
    return drawn(folder, images, labels, n_classes)


def drawn(folder: Path, images: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]], n_classes: int) -> Drawings:
    """As files, masks as label images."""
    work, cells = [], []
    names = tuple(f"class {which}" for which in range(n_classes))
    values = {"0": BACKGROUND, f"{VALUE_OF_NOTHING}": NOTHING} | {f"{which + 1}": which for which in range(n_classes)}
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path, mask = folder / f"{number}.png", folder / f"{number}-mask.png"
        Image.fromarray(image).save(path)
        Image.fromarray(label).save(mask)
        work.append(Work(number, path, content_id(path.read_bytes())))
        presence = "".join("01"[int((label == which + 1).any())] for which in range(n_classes))
        layer, digest = Layer((str(mask),), (), values), content_id(mask.read_bytes()).hex()
        cells.append(Cell(names, True, (label.shape[0], label.shape[1]), presence, digest, (layer,)).text)
    return Drawings(work, Masks.of(np.array(cells, dtype=object)), [*labels])
