"""Whether the disk has room for what a run is going to keep; of dense features it is said before they are computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    """Say how much the dense features of a run take, and refuse what the disk cannot hold.

    Args:
        request: what is asked.
        present: the cache as it is; None where nothing of it is gone on with.
        models: of the run.
        digests: content ids of the images, which may repeat.

    Raises:
        OptionError: naming what there is room for, and how to need less.
    """
    dense = [model for model in models if model.grids]
    if not dense:
        return
    options, distinct, total = request.options, set(digests), 0
    for model in dense:
        done = frozenset[bytes]() if present is None else contents_done(present, [model.spec.name], options)
        n_images, n_bytes = len(distinct - done), row_bytes(model.grids, model.dim, options.dtype) + CACHE_BYTES_PER_ROW
        if options.part is not None:
            n_images = -(-n_images // options.part.n_parts)
        total += n_images * n_bytes
        if request.tell is not None and n_images:
            of = f"{bytes_text(n_bytes)} an image, {bytes_text(n_images * n_bytes)} in all"
            request.tell(f"{model.spec.name}: {maps_text(model.grids)}, {options.dtype}: {of}")
    if is_url(request.cache):
        return
    free = free_bytes(request.cache) + _given_back(request, [model.spec.name for model in dense])
    if total > free:
        what = f"the dense features of {counted(len(distinct), 'image')} take {bytes_text(total)}"
        smaller = "" if options.dtype == INT8 else parameter("dtype", INT8) + ", "
        step = f"{smaller}fewer layers or a smaller size need less, or name another place"
        raise OptionError(f"{what}, and {request.cache} has room for {bytes_text(free)}; " + step)


def _given_back(request: ExtractRequest, names: Collection[str]) -> int:
    """Bytes of what is replaced, which goes before anything new is written."""
    if not request.options.replace or not EmbeddingCache.exists(request.cache):
        return 0
    store = EmbeddingCache.open(request.cache)
    return sum(store.n_bytes(name) for name in store.backbones if name in names)
