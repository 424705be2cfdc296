"""Images as the pixels that training takes: what was embedded, to the bit, and a larger cut to move about in."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec
from dvme.errors import DataError, parameter
from dvme.extraction.decoding import CHANGED, Decoder, Unread, Way, Work
from dvme.runtime import Runtime
from dvme.text import counted, first_few
from dvme.training.pictures import Pictures
from dvme_cache.files import make_folders


def read_pictures(
    work: Sequence[Work],
    spec: BackboneSpec,
    runtime: Runtime,
    tell: Callable[[int, int], None],
    most_bytes: int,
    folder: Path | None = None,
    unusable: dict[int, str] | None = None,
) -> Pictures:
    """Read and decode each image once, and cut it twice: as the backbone embeds it, and the square around that.

    Where memory does not hold the pixels, they lie in a file without a name, which is gone with the process.

    Args:
        work: images, in the order that the pictures have; each must still have its content.
        spec: of the backbone.
        runtime: workers and the largest image.
        tell: called with the images that are done and all of them.
        most_bytes: that the pictures may take of memory.
        folder: made for a file of the pixels that take more; None: there is to be none.
        unusable: told which images are gone, changed or broken, and why; the others move up. None: these are refused.

    Raises:
        DataError: if they do not fit, before any is read; or if images are gone, changed or broken.
    """
    ways = list(dict.fromkeys((Way.of(spec), _square(spec))))
    cuts = _room(len(work), spec, ways, most_bytes, folder)
    if runtime.max_pixels is None:  # these very contents were decoded before, so that none of them is a surprise
        runtime = replace(runtime, max_pixels=sys.maxsize)
    decoder = Decoder(ways, runtime.max_pixels)
    failed: dict[int, str | Unread] = {}

    def keep(position: int) -> None:
        contents = decoder.read_and_decode(work[position]).contents
        for cut, content in zip(cuts, contents, strict=True):
            if isinstance(content, np.ndarray):
                cut[position] = content
            else:
                failed[position] = content

    _for_all(keep, len(work), runtime, tell)
    if failed and (unusable is None or len(failed) == len(work)):
        raise DataError(_lost(failed, work))
    if failed and unusable is not None:
        unusable |= {row: content.reason if isinstance(content, Unread) else content for row, content in failed.items()}
        cuts = [_without(cut, failed) for cut in cuts]
    return Pictures(crops=cuts[0], squares=cuts[-1])


def check_unchanged(work: Sequence[Work], runtime: Runtime, tell: Callable[[int, int], None]) -> None:
    """Read each image, and refuse what `read_pictures` would refuse of files that are gone or changed.

    Raises:
        DataError: naming the first.
    """
    decoder, failed = Decoder((), None), dict[int, str | Unread]()

    def look(position: int) -> None:
        content = decoder.read(work[position])
        if isinstance(content, Unread):
            failed[position] = content

    _for_all(look, len(work), runtime, tell)
    if failed:
        raise DataError(_lost(failed, work))


def _without(cut: NDArray[np.uint8], failed: Collection[int]) -> NDArray[np.uint8]:
    """Pixels without those of some images, in the same memory."""
    kept = [row for row in range(len(cut)) if row not in failed]
    for place, row in enumerate(kept):
        cut[place] = cut[row]
    return cut[: len(kept)]


def _for_all(do: Callable[[int], None], n_images: int, runtime: Runtime, tell: Callable[[int, int], None]) -> None:
    """Do something with each image, in the runtime's threads."""
    tell(0, n_images)
    pool = ThreadPoolExecutor(runtime.n_workers, thread_name_prefix="pictures")
    try:
        pending = [pool.submit(do, position) for position in range(n_images)]
        for n_done, future in enumerate(as_completed(pending), start=1):
            future.result()
            tell(n_done, n_images)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _square(spec: BackboneSpec) -> Way:
    """The central square of the resized image, that the plain crop is cut from."""
    return Way(spec.reading, replace(spec.preprocess, crop=spec.preprocess.resize))


def _shape(way: Way) -> tuple[int, int, int]:
    return way.preprocess.crop, way.preprocess.crop, way.preprocess.channels


def _room(
    n_images: int, spec: BackboneSpec, ways: Sequence[Way], most_bytes: int, folder: Path | None
) -> list[NDArray[np.uint8]]:
    """(N, H, W, C) for each way of cutting, in memory or else in a file.

    Raises:
        DataError: naming their bytes, and what there is, if neither holds them.
    """
    shapes = [(n_images, *_shape(way)) for way in ways]
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) <= most_bytes:
        return [np.empty(shape, dtype=np.uint8) for shape in shapes]
    each = sum(sizes) // n_images
    needed = f"the pixels of {counted(n_images, 'image')} for {spec.name} take {sum(sizes):,} bytes"
    if folder is None:
        room = f" and may take {most_bytes:,}, enough for {most_bytes // each:,}; "
        raise DataError(needed + room + "choose fewer images or a smaller size, or pass more as " + parameter("memory"))
    make_folders(folder)
    free = shutil.disk_usage(folder).free
    if sum(sizes) > free:
        room = f", memory may hold {most_bytes:,} and the disk of {folder} has {free:,} left; "
        raise DataError(
            needed + room + "make room there, choose a smaller size, or pass more as " + parameter("memory")
        )
    with tempfile.TemporaryFile(dir=folder) as file:  # lives on until nothing is mapped to it
        file.truncate(sum(sizes))
        if sys.platform == "linux":
            os.posix_fallocate(file.fileno(), 0, sum(sizes))  # a disk that fills up later would end the process
        whole = np.asarray(np.memmap(file, np.uint8, "r+"))
    return [part.reshape(shape) for part, shape in zip(np.split(whole, np.cumsum(sizes)[:-1]), shapes, strict=True)]


def _lost(failed: dict[int, str | Unread], work: Sequence[Work]) -> str:
    """One line: how many cannot be used, the first of them, and the next step."""
    first = min(failed)
    content, path = failed[first], first_few([work[first].path], 1)
    if not isinstance(content, Unread):
        reason, step = content, "mend or replace it, and run dvme extract again"
    elif content.reason == CHANGED:
        reason, step = "not what was embedded any more", "run dvme extract again, which embeds what it is now"
    else:
        reason = content.reason.rpartition(";")[0] or content.reason
        step = "make it readable there, or run dvme extract again, which finds moved files"
    lost = f"{len(failed):,} of {counted(len(work), 'image')} cannot be trained on"
    return f"{lost}; the first is {path}: {reason}; {step}"
