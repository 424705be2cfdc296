"""Cached embeddings: the backbone that made them, and how near another computation of it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec, Precision
from dvme.backbones.description.variation import split_name, vary_name
from dvme.backbones.loading.registry import get_spec, names
from dvme.backbones.own.custom import spec_from_mapping
from dvme.errors import DataError, DvmeError

if TYPE_CHECKING:
    from dvme_cache import EmbeddingCache, Embeddings

TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "tf32": 0.03, "fp16": 0.03, "bf16": 0.3}
"""Largest allowed difference by what the backbone computes in, relative to the largest element of the embedding.

Devices, batch sizes and library versions move the last bits (about 1e-6 of float32 on one machine), and storing as
float16 rounds by up to 5e-4. Of fp16 and bf16 the last bits are worth more: efficientnet-lite0 differs from itself in
float32 by up to 0.014 and 0.15, and two devices by as much. Another image, another crop or other weights move an
embedding by about its own size."""


def kept_names(store: EmbeddingCache, typed: Sequence[str]) -> list[str]:
    """Backbones as a cache names them: the order in which variations are typed is no difference.

    Those that the cache has not stay as they are.
    """
    kept = {vary_name(name, {}): name for name in store.backbones}
    return [name if name in store.backbones else kept.get(vary_name(name, {}), name) for name in typed]


def kept_spec(embeddings: Embeddings) -> BackboneSpec:
    """What the name stands for or, where it is the user's own, what the cache kept of it.

    Raises:
        UnknownNameError, DataError: if it is neither, or was imported.
    """
    kept = embeddings.provenance.get("spec")
    if kept and split_name(embeddings.name)[0] not in names():
        return spec_from_mapping(kept, source=f"the specification of {embeddings.name} in the cache")
    try:
        return get_spec(embeddings.name)
    except DvmeError as error:
        if is_imported(embeddings.fingerprint.fields):
            raise DataError(f"{embeddings.name} was imported, and no model of it is known") from error
        raise


def is_imported(fields: Mapping[str, Any]) -> bool:
    """Whether a fingerprint of these fields is of embeddings that another tool made."""
    return not {"imported", "made_by"}.isdisjoint(fields)


def relative_differences(cached: NDArray[Any], now: NDArray[Any]) -> NDArray[np.float64]:
    """(B,) largest difference of two embeddings (B, D), relative to the largest element of the second.

    Infinite where the second is not finite, as of an image that cannot be decoded any more.
    """
    is_finite = np.isfinite(now).all(axis=1)
    differences = np.full(len(now), np.inf)
    largest = np.maximum(np.abs(now[is_finite]).max(axis=1), np.finfo(np.float32).tiny)
    differences[is_finite] = np.abs(cached[is_finite] - now[is_finite]).max(axis=1) / largest
    return differences
