"""Whether a checkpoint is what it should be: its keys accounted for, real photographs run through it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.variation import split_name
from dvme.backbones.loading.registry import named_spec
from dvme.backbones.model.preprocess import crop_image
from dvme.backbones.weights.finding import check_weights
from dvme.runtime import Runtime
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = deferred("torch")

TOO_SIMILAR, RATHER_SIMILAR = 0.9999, 0.98
TOO_SMALL, TOO_LARGE = 1e-4, 1e4
TOO_MANY_DEAD = 0.5
DEAD = 1e-6
"""Spread of a dimension over all photographs, relative to the root mean square, below which it says nothing."""


@dataclass(frozen=True)
class Statistics:
    """Features of crops of two photographs."""

    dim: int
    n_dead: int
    """Dimensions that are the same for every crop."""
    n_not_finite: int
    """Values that are not finite."""
    rms: float
    """Root mean square of the finite values."""
    low: float
    high: float
    similarity: float
    """Mean cosine of crops of different photographs."""
    own_similarity: float
    """Mean cosine of different crops of one photograph."""


@dataclass(frozen=True)
class Diagnosis:
    """What a checkpoint holds and gives."""

    name: str
    architecture: str
    path: str
    """The file; "" if none is needed."""
    n_used: int
    """Tensors of the file that the model has."""
    left_over: dict[str, int]
    """Tensors that the layout leaves over, by the first parts of their names, and other sets of weights by place."""
    choice: str
    """Which of several sets of weights was taken, a sentence; "" where the file holds one."""
    features: Statistics
    untrained: Statistics | None
    """Of the same architecture without weights: what a load that did nothing would give; None for a model of one's
    own, which is built with its weights."""
    problems: list[str]
    remarks: list[str]
    """What need not be wrong, and is worth a look."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


def diagnose(
    name: str,
    *,
    weights: str | Path | None = None,
    architecture: str | None = None,
    runtime: Runtime | None = None,
) -> Diagnosis:
    """Load a checkpoint strictly and look at the features of two real photographs.

    Args:
        name: of a backbone, as `get_spec` takes it.
        weights: a local checkpoint.
        architecture: take the checkpoint as a torchvision-style one of this architecture.
        runtime: where to compute.

    Raises:
        UnknownNameError, WeightsError, CheckpointError, OptionError: if it cannot be loaded.
    """
    spec = named_spec(name, {} if architecture is None else {split_name(name)[0]: architecture})
    weights = None if weights is None else Path(weights)
    check_weights(spec, weights)
    device = torch.device((runtime or Runtime()).torch_device())
    from dvme.backbones.loading.building import build_model

    loaded = build_model(spec, weights)
    features, untrained = _statistics(spec, loaded.model, device), None
    if not spec.build:
        arguments = {key: value for key, value in spec.architecture_args.items() if key != "num_classes"}
        without = replace(spec, source="random", checkpoint=None, architecture_args=arguments)
        untrained = _statistics(without, build_model(without).model, device)
    return Diagnosis(
        name=spec.name,
        architecture=spec.architecture,
        path=str(loaded.path or ""),
        n_used=len(loaded.used),
        left_over=_by_prefix(loaded.left_over) | dict(loaded.taken.others),
        choice=loaded.taken.remark(),
        features=features,
        untrained=untrained,
        problems=problems_of(features),
        remarks=_remarks(features),
    )


def problems_of(features: Statistics) -> list[str]:
    """What is wrong with features, a line each; nothing for a backbone that works."""
    found = []
    if features.n_not_finite:
        found.append(f"{features.n_not_finite:,} values are not finite")
    if not TOO_SMALL < features.rms < TOO_LARGE:
        found.append(f"the scale is off: a root mean square of {features.rms:.3g}")
    if features.n_dead > TOO_MANY_DEAD * features.dim:
        found.append(f"{features.n_dead:,} of {features.dim:,} dimensions are the same for every image")
    if features.similarity > TOO_SIMILAR:
        found.append(f"different photographs give the same features (cosine {features.similarity:.5f})")
    return found


def _remarks(features: Statistics) -> list[str]:
    if not RATHER_SIMILAR < features.similarity <= TOO_SIMILAR:
        return []
    cosine = f"cosine {features.similarity:.4f}"
    return [f"different photographs look nearly the same to it ({cosine}), as they do to many untrained networks"]


def _statistics(spec: BackboneSpec, model: nn.Module, device: torch.device) -> Statistics:
    from dvme.backbones.loading.model import Backbone

    backbone = Backbone(spec, model, device)
    crops = [[crop_image(part, spec.preprocess) for part in _parts(photo)] for photo in _photographs()]
    embedded = [backbone.embed(torch.from_numpy(np.stack(parts))).cpu().double().numpy() for parts in crops]
    return statistics_of(*embedded)


def statistics_of(first: NDArray[np.float64], second: NDArray[np.float64]) -> Statistics:
    """Statistics of features (K, D) of the crops of one photograph, and of another."""
    both = np.concatenate([first, second])
    is_finite = np.isfinite(both)
    finite = np.where(is_finite, both, 0.0)
    rms = float(np.sqrt(np.square(finite).sum() / max(is_finite.sum(), 1)))
    unit = finite / np.maximum(np.linalg.norm(finite, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    cosines = unit @ unit.T  # (2 K, 2 K)
    n_first = len(first)
    is_first = np.arange(len(both)) < n_first
    is_own = np.triu(is_first[:, None] == is_first, k=1)  # each pair of crops of one photograph once
    return Statistics(
        dim=both.shape[1],
        n_dead=int((np.ptp(finite, axis=0) <= DEAD * rms).sum()),
        n_not_finite=int((~is_finite).sum()),
        rms=rms,
        low=float(finite.min()),
        high=float(finite.max()),
        similarity=float(cosines[:n_first, n_first:].mean()),
        own_similarity=float(cosines[is_own].mean()),
    )


def _photographs() -> list[Image.Image]:
    """The two that scikit-learn carries: a temple, and a flower."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(photo) for photo in load_sample_images().images]


def _parts(photo: Image.Image) -> Iterable[Image.Image]:
    """The whole photograph, and four overlapping quarters of it."""
    width, height = photo.size
    yield photo
    for left in (0, width // 3):
        for top in (0, height // 3):
            yield photo.crop((left, top, left + 2 * width // 3, top + 2 * height // 3))


def _by_prefix(keys: Iterable[str]) -> dict[str, int]:
    """Number of keys by their name up to the first number or the last part."""
    return dict(Counter(re.sub(r"(\.\d.*|\.[^.]*)$", "", key) or key for key in keys))
