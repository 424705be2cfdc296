"""Images with dense features and masks, made up: a real cache of long rows, and masks as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.data.masks import VOID, Masks
from dvme.data.masks.cell import BACKGROUND, NOTHING, Cell, Layer
from dvme.data.masks.masks import digest_of
from dvme.segmentation.maps import DenseMaps
from dvme.segmentation.scene import Scene
from dvme_cache import EmbeddingCache, Fingerprint, content_id


def scene_of(
    folder: Path,
    maps: Mapping[str, Sequence[NDArray[Any]]],
    labels: NDArray[np.uint8] | Mapping[str, NDArray[np.uint8]],
    names: Sequence[str] = ("cell",),
    images: Sequence[bytes] = (),
) -> Scene:
    """A scene of N images.

    Args:
        folder: becomes home to the cache and the masks.
        maps: of each backbone, (N, r, c, C) features of each of its layers.
        labels: (N, H, W) of 0, 1 to L and VOID; or of each of several structures (N, H, W) of 0, 1 and VOID.
        names: of the L classes, where they exclude each other.
        images: N image files, which lie beside the masks; none: there are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_images = len(next(iter(maps.values()))[0])
    files = images or [f"image {image}".encode() for image in range(n_images)]
    ids = [content_id(file) for file in files]
    for image, file in enumerate(images):
        (folder / f"{image}.png").write_bytes(file)
    with EmbeddingCache.writing(folder / "c.zarr") as cache:
        rows = cache.samples.add(ids, [f"{image}.png" for image in range(n_images)])
        for name, layers in maps.items():
            grids = ",".join("x".join(map(str, layer.shape[1:])) for layer in layers)
            flat = np.concatenate([layer.reshape(n_images, -1) for layer in layers], axis=1).astype(np.float32)
            whole = {"preprocess.mode": "squash", "preprocess.resize": 224, "preprocess.crop": 224}
            fingerprint = Fingerprint({"weights": name, "dense": "last", "maps": grids, **whole})
            table = cache.ensure_embeddings(name, fingerprint, dim=flat.shape[1], dtype="float32", provenance={})
            table.write(np.asarray(rows), flat)
        opened = {name: DenseMaps(cache.embeddings(name)) for name in maps}
    if isinstance(labels, Mapping):
        cells = [_cell(folder, image, tuple(labels), list(labels.values()), False) for image in range(n_images)]
    else:
        cells = [_cell(folder, image, tuple(names), [labels], True) for image in range(n_images)]
    given = np.array([list(each) for each in ids], dtype=np.uint8)
    return Scene(opened, np.asarray(rows, dtype=np.int64), given, Masks.of(np.array(cells, dtype=object)))


def _cell(folder: Path, image: int, names: tuple[str, ...], stacks: list[NDArray[np.uint8]], is_exclusive: bool) -> str:
    layers, digests, letters = [], [], ["0"] * len(names)
    for place, stack in enumerate(stacks):
        path = folder / f"mask-{image}-{place}.png"
        Image.fromarray(stack[image]).save(path)
        digests.append(content_id(path.read_bytes()))
        first = {str(value): value - 1 for value in range(1, len(names) + 1)} if is_exclusive else {"1": place}
        layers.append(Layer((str(path),), values={"0": BACKGROUND, str(VOID): NOTHING} | first))
        for index in first.values():
            letters[index] = "1" if (stack[image] == (index + 1 if is_exclusive else 1)).any() else "0"
    n_rows, n_columns = stacks[0][image].shape
    return Cell(names, is_exclusive, (n_rows, n_columns), "".join(letters), digest_of(digests), tuple(layers)).text


def discs(n_images: int, size: int, n_classes: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    """(N, size, size) label images of some discs each, of classes that later ones cover."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n_images, size, size), dtype=np.uint8)
    down, across = np.mgrid[:size, :size] + 0.5
    for own in labels:
        for place in range(3 * n_classes):
            (y, x), radius = rng.uniform(0, size, 2), rng.uniform(0.08, 0.22) * size
            own[(down - y) ** 2 + (across - x) ** 2 < radius**2] = place % n_classes + 1
    return labels
