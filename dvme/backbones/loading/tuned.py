"""A backbone whose weights were trained further, described so that a file of its weights makes it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from dvme.backbones.description.spec import BackboneSpec, Checkpoint
from dvme.backbones.loading.trainable import Trainable
from dvme.backbones.model.architectures import create
from dvme.backbones.own.custom import OWN_NAME
from dvme.errors import DataError, DvmeError, OptionError, parameter

WEIGHTS = "weights.safetensors"
UNTYPED = re.compile(r"[^A-Za-z0-9._+-]+")


def tuned_spec(model: Trainable, *, is_random: bool = False) -> BackboneSpec:
    """The description of a model with the weights that training left in it, under the name of the published one.

    Its architecture is the one of the input that it has: a file of its weights fits without any further adaptation.

    Args:
        model: its network has the names and shapes of the weights, which WEIGHTS is to hold by these names.
        is_random: whether training began with random weights, of which the publisher knows nothing.

    Raises:
        OptionError: if no architecture by name has these weights.
    """
    spec = model.spec
    checkpoint = Checkpoint(filename=WEIGHTS, url="", wrapping="stated")
    plain = {key: value for key, value in spec.architecture_args.items() if key != "num_classes"}
    of_input = {"img_size": spec.preprocess.crop}, {"in_chans": spec.preprocess.channels}
    state = _shapes(model.network)
    for further in ({}, *of_input, of_input[0] | of_input[1]):
        own = replace(
            spec,
            name=UNTYPED.sub("-", spec.name).strip("-."),
            method="fine-tuning",
            architecture_args=plain | further,
            dim=model.dim,
            checkpoint=checkpoint,
            source="checkpoint",
            licence="not stated" if is_random else spec.licence,
            remark=f"{'random weights' if is_random else spec.name}, trained on images of the user's",
            trained_on="",
            is_transductive=False,
            adapted_from="" if is_random else spec.name,
        )
        if _made(own) == state:
            assert OWN_NAME.fullmatch(own.name)
            return own
    raise OptionError(
        f"{spec.name} at its input size cannot be described in a file, so that its weights could not be kept; leave it "
        "out of " + parameter("backbones") + ", or the methods that train weights out of " + parameter("heads")
    )


def _made(spec: BackboneSpec) -> Mapping[str, Any] | None:
    """Names and shapes of the weights that a description asks for; None where nothing can be made of it."""
    try:
        try:
            with torch.device("meta"):  # names and shapes alone: no memory, no initial values
                return _shapes(create(spec))
        except (DataError, NotImplementedError):  # some initialisations look at values
            with torch.random.fork_rng(devices=[]):
                return _shapes(create(spec))
    except DvmeError:
        return None


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
