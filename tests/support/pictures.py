"""A cache of real image files with made-up embeddings, and names that try to be markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from light import light
from numpy.typing import NDArray
from PIL import Image

import dvme
from dvme_cache import EmbeddingCache, Fingerprint, content_id

EVIL = "<script>window.broken = true</script>"
CLASSES = (f"a {EVIL}", "b & 'c' \"d\"", "e" * 300)


def write_pictures(
    root: Path, *, n_images: int = 60, classes: tuple[str, ...] = CLASSES, signal: float = 2.0, dim: int = 8
) -> Path:
    """`root/c.zarr` over `n_images` small pictures in `root/images`: two backbones, groups, and a column `site`."""
    labels = np.arange(n_images) % len(classes)
    paths, ids = [], []
    for image, label in enumerate(labels.tolist()):
        path = root / "images" / f"{image:03d} <script>alert({image})<" / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(image).integers(0, 80, (24, 32, 3)) + 50 * min(label, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        paths.append(str(path))
        ids.append(content_id(path.read_bytes()))
    columns = {
        "path": paths,
        "label": [classes[label] for label in labels],
        "group": [f"{EVIL} {image // 2}" for image in range(n_images)],
        f"site {EVIL}": [f"{EVIL} {image % 2}" for image in range(n_images)],
        "age": [str(20 + image) for image in range(n_images)],
    }
    with EmbeddingCache.writing(root / "c.zarr") as cache:
        rows = cache.samples.add(ids, paths)
        cache.update_columns(rows, columns)
        for seed, name in enumerate(("one", f"two {EVIL}")):
            values = _features(labels, signal, seed, dim)
            table = cache.ensure_embeddings(
                name, Fingerprint({"weights": name}), dim=dim, dtype="float32", provenance={}
            )
            for shard in table.pending_shards():
                table.commit(shard, values[shard], {})
    return root / "c.zarr"


def write_study(root: Path) -> Path:
    """`root/c.zarr` of 120 pictures, and its finished run `root/run` with a fusion by attention, by light heads."""
    cache = write_pictures(root, n_images=120, signal=0.7)
    options = dvme.SubsetOptions(sizes=["50%", "full"], n_folds=2)
    dvme.sweep(cache, root / "run", heads=light("linear", "dvme"), controls=False, options=options)
    return root


def _features(labels: NDArray[Any], signal: float, seed: int, dim: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(int(labels.max()) + 1, dim))
    return (signal * centres[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32)
