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
    spec, arguments = model.spec, own_arguments(model)
    if arguments is None:
        message = f"{spec.name} at its input size cannot be described in a file, so that its weights could not be kept"
        step = "; leave it out of " + parameter("backbones") + ", or the methods that train weights out of "
        raise OptionError(message + step + parameter("heads"))
    own = replace(
        spec,
        name=UNTYPED.sub("-", spec.name).strip("-."),
        method="fine-tuning",
        architecture_args=arguments,
        dim=model.dim,
        checkpoint=Checkpoint(filename=WEIGHTS, url="", wrapping="stated"),
        source="checkpoint",
        licence="not stated" if is_random else spec.licence,
        remark=f"{'random weights' if is_random else spec.name}, trained on images of the user's",
        trained_on="",
        is_transductive=False,
        adapted_from="" if is_random else spec.name,
    )
    assert OWN_NAME.fullmatch(own.name)
    return own


def own_arguments(model: Trainable) -> dict[str, Any] | None:
    """Arguments by which a model's architecture has tensors of just its names and shapes; None where none do.

    They are of the input that it has, in size and channels, whatever it was made from.
    """
    spec, state = model.spec, _shapes(model.network)
    plain = {key: value for key, value in spec.architecture_args.items() if key != "num_classes"}
    of_input = {"img_size": spec.preprocess.crop}, {"in_chans": spec.preprocess.channels}
    for further in ({}, *of_input, of_input[0] | of_input[1]):
        if _made(replace(spec, architecture_args=plain | further)) == state:
            return plain | further
    return None


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
