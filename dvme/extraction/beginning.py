"""From listed images to identified ones, and the backbones loaded meanwhile, where they are needed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Self

from dvme.data.encoded import Encoded
from dvme.data.hashing import Identified, identify
from dvme.data.spool import Spool, spool_bytes
from dvme.data.stamps import Stamps
from dvme.defaults import ENGINE
from dvme.extraction.decoding import CHANGED
from dvme.extraction.models import KnownBackbone, check_fingerprints, load_known
from dvme.extraction.opening import ExtractRequest, Opened
from dvme.extraction.passes import BackboneOutcome
from dvme.extraction.room import check_room, contents_done
from dvme.files import check_space
from dvme.runtime import Progress
from dvme.sets.direct import is_public_set
from dvme_cache import EmbeddingCache
from dvme_cache.files import is_url

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone


@dataclass(frozen=True)
class Begun:
    """What a run goes on with."""

    models: Sequence[Backbone | KnownBackbone]
    """Loaded where something has to be computed, as far as that is known yet."""
    found: Identified
    stamps: Stamps | None
    """Where the run trusts them, as they were saved."""

    def forget_changed(self, outcomes: Iterable[BackboneOutcome]) -> None:
        """Trust no longer what vouched for files that turned out to be others, once they were decoded."""
        if self.stamps is not None:
            reasons = {name: why for outcome in outcomes for name, why in outcome.reasons.items()}
            named = zip(self.found.samples.ids, self.found.samples.paths, strict=True)
            self.stamps.forget([path for name, path in named if reasons.get(name) == CHANGED])
            self.stamps.save()


def begin_run(request: ExtractRequest, opened: Opened, progress: Progress, *, is_planned: bool = False) -> Begun:
    """Identify the images in threads, and meanwhile load the backbones, as soon as an image shows that they are needed.

    Backbones that are known from an earlier load are compared with the cache before anything is read. The bytes of
    images that will be decoded are kept, as far as there is room.

    Args:
        request: what is asked.
        opened: what was listed.
        progress: told (`hash`, done, total), by another thread while backbones are loaded, and (`load`, done, total).
        is_planned: nothing will be decoded or kept: only what nothing is known of is loaded.

    Raises:
        DataError, OptionError, WeightsError, CheckpointError, FingerprintMismatchError: the first that shows, on
            either side. The other side is ended then.
    """
    options = request.options
    present = EmbeddingCache.open(request.cache) if EmbeddingCache.exists(request.cache) else None
    present = None if options.replace else present
    known = [model for model in opened.models if isinstance(model, KnownBackbone)]
    is_known = len(known) == len(opened.models)
    if present is not None and is_known:
        check_fingerprints(present, known, options.dtype_of)
    names = [model.spec.name for model in opened.models]
    done = frozenset[bytes]() if present is None else contents_done(present, names, options)
    n_parts = 1 if options.part is None else options.part.n_parts  # which may all be on this machine
    is_decoding = not is_planned and request.runtime.engine == ENGINE
    spool = Spool(spool_bytes() // n_parts) if is_decoding else None
    stamps = Stamps.of(_place(request)) if request.trust_mtime else None
    models: Sequence[Backbone | KnownBackbone] = known
    with _Hashing(opened, request, progress, stamps, done, spool, is_planned=is_planned) as hashing:
        if not is_known or (not is_planned and hashing.has_news()):
            if not is_planned and not is_url(request.cache):
                check_space(request.cache)
            progress("load", 0, len(opened.models))
            models = load_known(opened.models, hashing.check)
            progress("load", len(models), len(models))
            if present is not None:
                check_fingerprints(present, models, options.dtype_of)
        found = hashing.result()
    if present is not None:
        check_fingerprints(present, models, options.dtype_of, found.kinds)
    check_room(request, present, models, found.digests)
    return Begun(models, found, stamps)


class _Hashing:
    """Images that are identified in threads, from when a block begins until it ends."""

    def __init__(
        self,
        opened: Opened,
        request: ExtractRequest,
        progress: Progress,
        stamps: Stamps | None,
        done: Collection[bytes],
        spool: Spool | None,
        *,
        is_planned: bool,
    ) -> None:
        self._stamps, self._done, self._spool, self._is_planned = stamps, done, spool, is_planned
        self._is_ended, self._may_go_on = Event(), Event()
        self._has_news = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hash")
        tell = partial(progress, "hash")
        workers = request.runtime.n_workers
        self._found = self._thread.submit(
            identify, opened.samples, workers, tell, stamps=stamps, hear=self._hear, check=self._check_wanted
        )
        self._found.add_done_callback(lambda _: self._may_go_on.set())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._stamps is not None and not self._is_planned:
            self._stamps.save(is_whole=self._found.done() and self._found.exception() is None)

    def has_news(self) -> bool:
        """Wait for the first image with something to compute, or for the last image; whether there is such a one."""
        self._may_go_on.wait()
        return self._has_news

    def check(self) -> None:
        """Raise what has ended the identification, if anything has."""
        if self._found.done():
            self._found.result()

    def result(self) -> Identified:
        """Wait for all images.

        Raises:
            What ended their identification.
        """
        found = self._found.result()
        return found if self._spool is None else found.with_spool(self._spool)

    def _check_wanted(self) -> None:
        if self._is_ended.is_set():
            raise _EndedError

    def _hear(self, content_id: bytes, image: Encoded | None) -> None:
        if content_id in self._done:
            return
        self._has_news = True
        self._may_go_on.set()
        if self._spool is not None and image is not None:
            self._spool.keep(content_id, image)


class _EndedError(Exception):
    """Nobody waits for the images any more."""


def _place(request: ExtractRequest) -> str:
    """What images are asked for as, by one spelling."""
    images = os.fspath(request.images)
    if is_public_set(images):
        name, _, folder = images.partition(":")
        return f"{name}:{os.path.realpath(folder)}"
    return os.path.realpath(images)
