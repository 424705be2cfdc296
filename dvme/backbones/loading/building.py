"""A spec and a weights file to a model: loaded strictly as published, then adapted to its input."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import torch

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.loading.timm_loading import LoadedModel, load_timm_model
from dvme.backbones.loading.timm_models import published_weights
from dvme.backbones.model.adaptation import adapt
from dvme.backbones.model.architectures import create, own_classifier
from dvme.backbones.weights.checkpoint import fit_checkpoint, read_checkpoint
from dvme.backbones.weights.finding import check_weights, find_weights, obtain_weights

RANDOM_SEED = 0


def build_model(spec: BackboneSpec, weights: Path | None = None, *, seed: int = RANDOM_SEED) -> LoadedModel:
    """Build a model at its published size, load its weights strictly, then adapt it to its input.

    Args:
        spec: what to build.
        weights: a local checkpoint, instead of a package or a download.
        seed: of the weights of a random backbone.

    Raises:
        WeightsError: if the weights are not here and cannot be fetched.
        CheckpointError: if they do not fit the architecture exactly.
        OptionError: if the model cannot take the spec's input, or takes no weights.
    """
    check_weights(spec, weights)
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random state alone
        torch.default_generator.manual_seed(seed)  # the CPU's only; torch.manual_seed also seeds every GPU
        loaded = _loaded(spec, weights)
    adapt(loaded.model, spec)
    return loaded


def _loaded(spec: BackboneSpec, weights: Path | None) -> LoadedModel:
    if spec.source in {"timm", "hub"}:
        return load_timm_model(spec, find_weights(spec, weights) or published_weights(spec))
    model = create(spec)
    if spec.source in {"random", "built"}:
        return LoadedModel(model)
    path = obtain_weights(spec, weights)
    assert spec.checkpoint is not None
    target = model.state_dict()
    fit = fit_checkpoint(
        read_checkpoint(path),
        spec.checkpoint,
        target,
        source=f"{spec.name}: {path}",
        own_classifier=cache(partial(own_classifier, spec, target)),
    )
    model.load_state_dict(fit.state, strict=True)
    return LoadedModel(model, path, fit.used, fit.left_over, fit.taken)
