"""Whether the disk has room for what a run is going to keep; of dense features it is said before they are computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dvme.backbones.description.dense import maps_text
from dvme.backbones.model.quantised import INT8, row_bytes
from dvme.errors import OptionError, parameter
from dvme.extraction.models import KnownBackbone
from dvme.extraction.opening import ExtractRequest
from dvme.extraction.passes import Options
from dvme.files import free_bytes
from dvme.text import bytes_text, counted
from dvme_cache import CorruptCacheError, EmbeddingCache, RowState
from dvme_cache.files import is_url

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

CACHE_BYTES_PER_ROW = 5
"""State and checksum beside the features."""


def contents_done(cache: EmbeddingCache, names: Sequence[str], options: Options) -> frozenset[bytes]:
    """Content ids of which a cache has the embedding by every backbone, or the reason why there is none.

    Those that are another part's count as well. Damage of embeddings is not looked for, and what the cache has is taken
    to have the models' fingerprints.
    """
    if not set(names) <= set(cache.backbones):
        return frozenset()
    settled = [RowState.DONE] if options.retry_failed else [RowState.DONE, RowState.FAILED]
    ids = cache.samples.ids
    is_done = np.ones(len(ids), dtype=bool)
    for embeddings in map(cache.embeddings, names):
        own = options.own(np.arange(len(ids)), embeddings.shard_rows)
        try:
            is_done[own] &= np.isin(embeddings.states(options.shards_of(embeddings))[own], settled)
        except CorruptCacheError:  # states that are torn: the run mends them, and finds what is lost
            return frozenset()
    return frozenset(content.tobytes() for content in ids[is_done])


def check_room(
    request: ExtractRequest,
    present: EmbeddingCache | None,
    models: Sequence[Backbone | KnownBackbone],
    digests: Collection[bytes],
) -> None:
    """Say how much the dense features of a run take, and refuse what the disk cannot hold; see `check_dense`.

    Args:
        request: what is asked.
        present: the cache as it is; None where nothing of it is gone on with.
        models: of the run.
        digests: content ids of the images, which may repeat.
    """
    options = request.options
    given_back = _given_back(request, [model.spec.name for model in models if model.grids])
    smaller = "" if options.dtype == INT8 else parameter("dtype", INT8) + ", "
    step = smaller + "fewer layers or a smaller size need less, or name another place"
    wanted = [(model, options) for model in models]
    check_dense(request.cache, present, wanted, digests, tell=request.tell, step=step, given_back=given_back)


def check_dense(
    place: str | Path,
    present: EmbeddingCache | None,
    models: Sequence[tuple[Backbone | KnownBackbone, Options]],
    digests: Collection[bytes],
    *,
    tell: Callable[[str], None] | None,
    step: str,
    given_back: int = 0,
) -> None:
    """Say how much dense features take that are going to be kept, and refuse what the disk cannot hold.

    Args:
        place: of the cache.
        present: the cache as it is; None where nothing of it is gone on with.
        models: that are extracted, with how; those that give one vector an image do not count.
        digests: content ids of the images, which may repeat.
        tell: told a line each.
        step: how to need less.
        given_back: bytes that are deleted before.

    Raises:
        OptionError: naming what there is room for, and the step.
    """
    distinct, total = set(digests), 0
    for model, options in models:
        if not model.grids:
            continue
        done = frozenset[bytes]() if present is None else contents_done(present, [model.spec.name], options)
        dtype = options.dtype_of(model)
        n_images, n_bytes = len(distinct - done), row_bytes(model.grids, model.dim, dtype) + CACHE_BYTES_PER_ROW
        if options.part is not None and (present is None or model.spec.name not in present.backbones):
            n_images = -(-n_images // options.part.n_parts)
        total += n_images * n_bytes
        if tell is not None and n_images:
            of = f"{bytes_text(n_bytes)} an image, {bytes_text(n_images * n_bytes)} in all"
            tell(f"{model.spec.name}: {maps_text(model.grids)}, {dtype}: {of}")
    if not total or is_url(place):
        return
    free = free_bytes(place) + given_back
    if total > free:
        what = f"the dense features of {counted(len(distinct), 'image')} take {bytes_text(total)}"
        raise OptionError(f"{what}, and {place} has room for {bytes_text(free)}; " + step)


def _given_back(request: ExtractRequest, names: Collection[str]) -> int:
    """Bytes of what is replaced, which goes before anything new is written."""
    if not request.options.replace or not EmbeddingCache.exists(request.cache):
        return 0
    store = EmbeddingCache.open(request.cache)
    return sum(store.n_bytes(name) for name in store.backbones if name in names)
