"""Cached embeddings against what their backbone gives for the images now."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.backbones.loading.kept import TOLERANCES, kept_spec, relative_differences
from dvme.backbones.model.quantised import HALF_A_SCALE, INT8, values_of
from dvme.data import MISSING
from dvme.errors import DvmeError, message_of
from dvme.extraction.decoding import Work
from dvme.extraction.embedding import extract_shards
from dvme.extraction.gathering import Target
from dvme.extraction.models import load_specs
from dvme.runtime import Runtime
from dvme_cache import EmbeddingCache, FingerprintMismatchError, RowState


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
        (model,) = load_specs([(kept_spec(embeddings), None if weights is None else Path(weights))], runtime)
        dtype = str(embeddings.fingerprint.fields.get("dtype", embeddings.dtype))
        store.check_fingerprint(name, model.fingerprint(dtype))
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
        cached = values_of(embeddings.read(rows), model.grids)
        differences.update(zip(rows.tolist(), relative_differences(cached, now).tolist(), strict=True))

    target = Target(model, [np.array(present, dtype=np.int64)] if present else [], "float32", compare)
    extract_shards([target], lambda rows: [work[row] for row in rows], runtime, lambda *_: None)
    rounding = HALF_A_SCALE if dtype == INT8 else 0.0
    tolerance, first_seen = TOLERANCES[model.spec.precision] + rounding, store.samples.paths
    different = [row for row, value in differences.items() if value > tolerance]
    return Comparison(
        backbone=name,
        n_compared=len(differences),
        n_different=len(different),
        largest_difference=max(differences.values(), default=float("nan")),
        n_unavailable=len(chosen) - len(differences),
        different=[first_seen[row] for row in different],
    )
