"""Images for heads that take pixels: listed and identified, and asked of trained U-Nets some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvme.data import Columns, load_samples
from dvme.data.hashing import identify
from dvme.data.names import named_images
from dvme.errors import OptionError, parameter
from dvme.extraction.decoding import Decoder, Unread, Work
from dvme.heads.saved_head import SavedHead
from dvme.prediction.backbones import OwnBackbones
from dvme.prediction.sources import as_cache
from dvme.runtime import Progress, Runtime
from dvme.segmentation.unet.fitted import ROWS, FittedUnet
from dvme.segmentation.unet.images import pixels_of
from dvme.training.pictures import Pictures
from dvme_cache import EmbeddingCache


@dataclass(frozen=True)
class Listed:
    """The images that predictions are wanted of."""

    ids: Sequence[str]
    """As the source names them, in its order."""
    work: Sequence[Work]
    """Where they are, and their contents; rows are positions."""
    store: EmbeddingCache | None = None
    """The cache that names them."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def listed(
    images: str | Path,
    saved: SavedHead,
    own: OwnBackbones,
    runtime: Runtime,
    progress: Progress,
    columns: Columns,
    *,
    skip_missing: bool,
) -> Listed:
    """The images of a source, or those that a cache knows; nothing is decoded.

    Raises:
        DataError, OptionError: if there are none, or they cannot be asked for like this.
    """
    if own != OwnBackbones():
        what = parameter("backbones") + ", " + parameter("architectures") + " and " + parameter("weights")
        raise OptionError(f"{saved.name} has weights of its own; leave out " + what)
    store = as_cache(images)
    if store is None:
        samples = load_samples(images, columns, skip_missing=skip_missing, images_only=True)
        found = identify(samples, runtime.n_workers, partial(progress, "find"))
        left_out = {**samples.unlisted, **dict.fromkeys(samples.missing, "no file is there"), **found.unread}
        work = [Work(*each) for each in zip(range(len(found.digests)), found.samples.paths, found.digests, strict=True)]
        return Listed(found.samples.ids, work, None, left_out, samples.remarks)
    if columns.frame is not None:
        message = f"{images} is a cache, in which each image has its row already; leave out "
        raise OptionError(message + parameter("frame", "each"))
    rows = np.flatnonzero(~store.samples.is_pruned)
    names, paths = named_images(store.samples.paths, store.column("path"), rows)
    contents = [store.samples.ids[row].tobytes() for row in rows.tolist()]
    work = [Work(place, Path(path), content) for place, (path, content) in enumerate(zip(paths, contents, strict=True))]
    return Listed(names.tolist(), work, store)


def asked_of_unets(
    saved: SavedHead, work: Sequence[Work], runtime: Runtime
) -> Iterator[tuple[int, list[NDArray[np.float32]] | str]]:
    """What the U-Nets of all folds say of each image, some images at a time.

    Yields:
        The position of each image once, and (K, S, S) logits of each fold, or why there are none.
    """
    device = runtime.torch_device()
    fits = [_placed(fold.head, device) for fold in saved.folds]
    decoder = Decoder([pixels_of(fits[0].spec)], runtime.max_pixels)
    with ThreadPoolExecutor(runtime.n_workers, thread_name_prefix="pictures") as pool:
        for start in range(0, len(work), ROWS):
            some = work[start : start + ROWS]
            contents = [prepared.contents[0] for prepared in pool.map(decoder.read_and_decode, some)]
            crops = [each for each in contents if isinstance(each, np.ndarray)]
            answers: Iterator[tuple[NDArray[np.float32], ...]] = iter(())
            if crops:
                stacked = np.stack(crops)
                pictures, rows = Pictures(stacked, stacked), np.arange(len(stacked))
                answers = zip(*(fit.logits(pictures, rows) for fit in fits), strict=True)
            for item, content in zip(some, contents, strict=True):
                if isinstance(content, np.ndarray):
                    yield item.row, list(next(answers))
                else:
                    yield item.row, content.reason if isinstance(content, Unread) else content


def _placed(fitted: FittedUnet, device: str) -> FittedUnet:
    return replace(fitted, network=fitted.network.to(device))
