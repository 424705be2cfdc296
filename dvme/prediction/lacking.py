"""Embeddings that no cache has of images that are predicted: computed, as the head needs them, into one."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from dvme.data import Samples
from dvme.data.hashing import Identified
from dvme.errors import parameter
from dvme.extraction.indexing import index_samples
from dvme.prediction.backbones import Source
from dvme.runtime import Progress, Runtime
from dvme_cache import EmbeddingCache, FingerprintMismatchError


def without_labels(samples: Samples, positions: NDArray[np.int64]) -> Samples:
    """Some images without what is said of them: no study learns from an image because it was predicted."""
    chosen = positions.tolist()
    nothing = [""] * len(chosen)
    paths, ids = ([values[i] for i in chosen] for values in (samples.paths, samples.ids))
    return Samples(paths, ids, nothing, nothing, nothing, given=frozenset())


def extract_lacking(
    found: Identified,
    place: str,
    sources: Sequence[Source],
    donors: Collection[EmbeddingCache],
    runtime: Runtime,
    progress: Progress,
    tell: Callable[[str], None] | None = None,
) -> tuple[int, dict[str, str]]:
    """Bring the images' embeddings into a cache, as the head needs them; a mismatch is found before any of it.

    How much dense features take is told first.

    Returns:
        How many images an embedding was computed of, and by image why one could not be read.

    Raises:
        FingerprintMismatchError: if the cache has others under their name.
        OptionError: if the disk cannot hold dense features.
    """
    from dvme.extraction.passes import Options, extract_all
    from dvme.extraction.room import check_dense

    present = EmbeddingCache.open(place) if EmbeddingCache.exists(place) else None
    if present is not None:
        _check_kept(present, sources)
    is_retrying = runtime.max_pixels is not None
    wanted = [(source.model, Options(dtype=source.dtype, retry_failed=is_retrying)) for source in sources]
    check_dense(place, present, wanted, found.digests, tell=tell, step="predict fewer images at a time, or make room")
    by_dtype: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_dtype[source.dtype].append(source)
    n_computed, reasons = 0, dict[str, str]()
    # Pillow's warnings come from decoding threads, which cannot filter them on their own.
    with warnings.catch_warnings(action="ignore", category=UserWarning), EmbeddingCache.writing(place) as store:
        index = index_samples(store, found)
        for dtype, some in by_dtype.items():
            models = [source.model for source in some]
            others = [donor for donor in donors if donor.location != store.location]
            options = Options(dtype=dtype, retry_failed=is_retrying)
            outcomes, _ = extract_all(store, models, index, options, runtime, progress, others)
            n_computed = max(n_computed, *(each.computed for each in outcomes))
            for outcome in outcomes:
                reasons |= outcome.reasons
    return n_computed, reasons


def _check_kept(store: EmbeddingCache, sources: Sequence[Source]) -> None:
    """Refuse to mix embeddings that were made differently.

    Raises:
        FingerprintMismatchError: naming the first that is another.
    """
    for source in sources:
        if source.name in store.backbones:
            expected, found = source.model.fingerprint(source.dtype), store.embeddings(source.name).fingerprint
            differing = ", ".join(name for name, *_ in expected.differences(found))
            if differing:
                message = f"{store.location} keeps {source.name} embeddings of another {differing}"
                raise FingerprintMismatchError(
                    f"{message}; pass another " + parameter("cache") + ", or remove that one"
                )
