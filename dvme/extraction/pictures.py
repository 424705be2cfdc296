"""Images as the pixels that training takes: what was embedded, to the bit, and a larger cut to move about in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

import numpy as np

from dvme.backbones.description.spec import BackboneSpec
from dvme.errors import DataError, parameter
from dvme.extraction.decoding import CHANGED, Decoder, Unread, Way, Work
from dvme.runtime import Runtime
from dvme.text import counted, first_few
from dvme.training.pictures import Pictures


def read_pictures(
    work: Sequence[Work],
    spec: BackboneSpec,
    runtime: Runtime,
    tell: Callable[[int, int], None],
    most_bytes: int,
) -> Pictures:
    """Read and decode each image once, and cut it twice: as the backbone embeds it, and the square around that.

    Args:
        work: images, in the order that the pictures have; each must still have its content.
        spec: of the backbone.
        runtime: workers and the largest image.
        tell: called with the images that are done and all of them.
        most_bytes: that the pictures may take.

    Raises:
        DataError: if they do not fit, before any is read; or if images are gone, changed or broken.
    """
    ways = list(dict.fromkeys((Way.of(spec), _square(spec))))
    _check_room(len(work), spec, ways, most_bytes)
    if runtime.max_pixels is None:  # these very contents were decoded before, so that none of them is a surprise
        runtime = replace(runtime, max_pixels=sys.maxsize)
    decoder = Decoder(ways, runtime.max_pixels)
    cuts = [np.empty((len(work), *_shape(way)), dtype=np.uint8) for way in ways]
    failed: dict[int, str | Unread] = {}

    def keep(position: int) -> None:
        contents = decoder.read_and_decode(work[position]).contents
        for cut, content in zip(cuts, contents, strict=True):
            if isinstance(content, np.ndarray):
                cut[position] = content
            else:
                failed[position] = content

    tell(0, len(work))
    pool = ThreadPoolExecutor(runtime.n_workers, thread_name_prefix="pictures")
    try:
        pending = [pool.submit(keep, position) for position in range(len(work))]
        for n_done, future in enumerate(as_completed(pending), start=1):
            future.result()
            tell(n_done, len(work))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failed:
        raise DataError(_lost(failed, work))
    return Pictures(crops=cuts[0], squares=cuts[-1])


def _square(spec: BackboneSpec) -> Way:
    """The central square of the resized image, that the plain crop is cut from."""
    return Way(spec.reading, replace(spec.preprocess, crop=spec.preprocess.resize))


def _shape(way: Way) -> tuple[int, int, int]:
    return way.preprocess.crop, way.preprocess.crop, way.preprocess.channels


def _check_room(n_images: int, spec: BackboneSpec, ways: Sequence[Way], most_bytes: int) -> None:
    """Refuse pictures that memory does not hold.

    Raises:
        DataError: naming their bytes, and what there is.
    """
    each = sum(int(np.prod(_shape(way))) for way in ways)
    if n_images * each > most_bytes:
        needed = f"the pixels of {counted(n_images, 'image')} for {spec.name} take {n_images * each:,} bytes"
        room = f" and may take {most_bytes:,}, enough for {most_bytes // each:,}; "
        raise DataError(needed + room + "choose fewer images or a smaller size, or pass more as " + parameter("memory"))


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
