"""Cached embeddings against what their backbone gives for the images now."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.description.spec import BackboneSpec, Precision
from dvme.backbones.description.variation import split_name
from dvme.backbones.loading.registry import get_spec, names
from dvme.backbones.own.custom import spec_from_mapping
from dvme.data import MISSING
from dvme.errors import DvmeError, message_of
from dvme.extraction.decoding import Work
from dvme.extraction.embedding import extract_shards
from dvme.extraction.gathering import Target
from dvme.extraction.models import load_specs
from dvme.runtime import Runtime
from dvme_cache import EmbeddingCache, Embeddings, FingerprintMismatchError, RowState

TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "tf32": 0.03, "fp16": 0.03, "bf16": 0.3}
"""Largest allowed difference by what the backbone computes in, relative to the largest element of the embedding.

Devices, batch sizes and library versions move the last bits (about 1e-6 of float32 on one machine), and storing as
float16 rounds by up to 5e-4. Of fp16 and bf16 the last bits are worth more: efficientnet-lite0 differs from itself in
float32 by up to 0.014 and 0.15, and two devices by as much. Another image, another crop or other weights move an
embedding by about its own size."""


@dataclass(frozen=True)
class Comparison:
    """Random embeddings of one backbone, computed again."""

    backbone: str
    n_compared: int
    n_different: int
    """Beyond the tolerance."""
    largest_difference: float
    """Relative to the largest element of the embedding; nan where none was compared."""
    n_unavailable: int
    """Images that are no longer where they were, or hold something else now."""
    different: list[str]
    """First-seen paths of those beyond the tolerance."""
    skipped: str = ""
    """Why none was compared."""

    @property
    def is_equal(self) -> bool:
        """Whether no compared embedding differs."""
        return self.n_different == 0


def compare_with_images(
    store: EmbeddingCache, name: str, weights: str | Path | None, runtime: Runtime, n_images: int, seed: int
) -> Comparison:
    """Embed at most so many random images of the cache again by one of its backbones, and compare."""
    embeddings = store.embeddings(name)
    try:
        (model,) = load_specs([(_spec_of(embeddings), None if weights is None else Path(weights))], runtime)
        store.check_fingerprint(name, model.fingerprint(embeddings.dtype))
    except (DvmeError, FingerprintMismatchError) as error:
        return Comparison(name, 0, 0, float("nan"), 0, [], skipped=message_of(error))
    paths, ids = store.column("path"), store.samples.ids
    done = np.flatnonzero(embeddings.states() == RowState.DONE)
    chosen = np.sort(np.random.default_rng(seed).choice(done, min(n_images, len(done)), replace=False))
    present = [int(row) for row in chosen if paths[row] != MISSING]
    work = {row: Work(row, Path(paths[row]), ids[row].tobytes()) for row in present}
    if runtime.max_pixels is None:  # these very contents were decoded before, so that none of them is a surprise
        runtime = replace(runtime, max_pixels=sys.maxsize)
    differences: dict[int, float] = {}

    def compare(rows: NDArray[Any], now: NDArray[Any], failed: Mapping[int, str]) -> None:
        del failed  # not a number either
        cached = embeddings.read(rows).astype(np.float64)
        differences.update(zip(rows.tolist(), _differences(cached, now).tolist(), strict=True))

    target = Target(model, [np.array(present, dtype=np.int64)] if present else [], "float32", compare)
    extract_shards([target], lambda rows: [work[row] for row in rows], runtime, lambda *_: None)
    tolerance, first_seen = TOLERANCES[model.spec.precision], store.samples.paths
    different = [row for row, value in differences.items() if value > tolerance]
    return Comparison(
        backbone=name,
        n_compared=len(differences),
        n_different=len(different),
        largest_difference=max(differences.values(), default=float("nan")),
        n_unavailable=len(chosen) - len(differences),
        different=[first_seen[row] for row in different],
    )


def _spec_of(embeddings: Embeddings) -> BackboneSpec:
    """What the name stands for or, where it is the user's own, what the cache kept of it.

    Raises:
        UnknownNameError, DataError: if it is neither.
    """
    kept = embeddings.provenance.get("spec")
    if kept and split_name(embeddings.name)[0] not in names():
        return spec_from_mapping(kept, source=f"the specification of {embeddings.name} in the cache")
    return get_spec(embeddings.name)


def _differences(cached: NDArray[Any], now: NDArray[Any]) -> NDArray[np.float64]:
    """(B,) largest difference of two embeddings (B, D), relative to the largest element of the second.

    Infinite where the second is not finite, as of an image that cannot be decoded any more.
    """
    is_finite = np.isfinite(now).all(axis=1)
    differences = np.full(len(now), np.inf)
    largest = np.maximum(np.abs(now[is_finite]).max(axis=1), np.finfo(np.float32).tiny)
    differences[is_finite] = np.abs(cached[is_finite] - now[is_finite]).max(axis=1) / largest
    return differences
