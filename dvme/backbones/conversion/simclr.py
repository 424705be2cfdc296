"""SimCLR's TensorFlow variables under torchvision's ResNet names.

Source: google-research/simclr, resnet.py and model.py (Chen et al. 2020, arXiv 2002.05709 and 2006.10029).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dvme.backbones.conversion.resnet import DEPTHS, check_resnet, units
from dvme.backbones.conversion.tensor_bundle import Bundle, open_bundle
from dvme.errors import CheckpointError
from dvme.text import first_few

BACKBONE = "base_model/"
SLOT = "/Momentum"
LAYER = re.compile(r"base_model/(conv2d|batch_normalization)(?:_([1-9]\d*))?/(\w+)")
NORM_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
PADDING_REMARK = (
    "TensorFlow pads the max-pooling on the right and below only: dvme's simclr-v1 and simclr-v2 do so as well, "
    "in torchvision's ResNet the embeddings would only come close"
)

Layers = dict[int, dict[str, str]]
"""Variable names by the layer's number in order of creation, then by the last part of the name."""


def read_simclr(prefix: Path) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """(tensors by torchvision's names, variables left out, remarks) of a SimCLR v1 or v2 checkpoint.

    Raises:
        CheckpointError: if it is damaged, or is not a SimCLR ResNet without selective kernels.
    """
    bundle = open_bundle(prefix)
    wanted = [name for name in bundle.entries if name.startswith(BACKBONE) and not name.endswith(SLOT)]
    if not wanted:
        held = first_few(bundle.entries)
        raise CheckpointError(f"{prefix} holds no base_model/; of TensorFlow only SimCLR is known, this has {held}")
    convs, norms = _layers(wanted, str(prefix))
    depth = _depth(bundle, convs, norms)
    state = _renamed(bundle, depth, convs, norms)
    check_resnet(state, str(prefix))
    kept = set(wanted)
    return state, [name for name in bundle.entries if name not in kept], [PADDING_REMARK]


def _layers(names: list[str], source: str) -> tuple[Layers, Layers]:
    """(convolutions, normalisations); anything else is an error."""
    found: dict[str, Layers] = {"conv2d": {}, "batch_normalization": {}}
    parts = {"conv2d": {"kernel"}, "batch_normalization": set(NORM_PARTS)}
    strangers = []
    for name in names:
        match = LAYER.fullmatch(name)
        if match is None or match[3] not in parts[match[1]]:
            strangers.append(name)
        else:
            found[match[1]].setdefault(int(match[2] or 0), {})[match[3]] = name
    if strangers:
        raise CheckpointError(f"{source} holds {first_few(strangers)}, which is no part of a SimCLR ResNet as known")
    for kind, layers in found.items():
        if sorted(layers) != list(range(len(layers))):
            raise CheckpointError(f"{source} lacks some of its {kind} layers; fetch it again")
        for i, layer in layers.items():
            if lacking := parts[kind] - set(layer):
                raise CheckpointError(f"{source} has no {min(lacking)} of {kind} {i}; fetch it again")
    return found["conv2d"], found["batch_normalization"]


def _depth(bundle: Bundle, convs: Layers, norms: Layers) -> int:
    by_count = {len(list(units(blocks))): depth for depth, blocks in DEPTHS.items()}
    if len(convs) == len(norms) and len(convs) in by_count:
        return by_count[len(convs)]
    stem = bundle.entries[convs[0]["kernel"]].shape if convs else ()
    # A selective kernel adds two mixing convolutions, of which only the first is normalised; its stem is three 3x3.
    if len(norms) < len(convs) and stem[:2] == (3, 3):
        message = (
            f"{bundle.prefix} has selective kernels (sk1), which neither torchvision nor timm can build as SimCLR "
            "did; take the checkpoint with sk0"
        )
        raise CheckpointError(message)
    known = ", ".join(f"{n} of ResNet-{depth}" for n, depth in by_count.items())
    counts = f"{len(convs)} convolutions and {len(norms)} normalisations"
    raise CheckpointError(f"{bundle.prefix} has {counts}; it can be converted with {known}, as many of each")


def _renamed(bundle: Bundle, depth: int, convs: Layers, norms: Layers) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for i, unit in enumerate(units(DEPTHS[depth])):
        kernel = _float32(bundle, convs[i]["kernel"])
        if kernel.ndim != 4:
            shape = tuple(kernel.shape)
            raise CheckpointError(f"{convs[i]['kernel']} in {bundle.prefix} is {shape}, expected four dimensions")
        state[f"{unit.conv}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()  # height, width, in, out
        for theirs, ours in NORM_PARTS.items():
            state[f"{unit.norm}.{ours}"] = _float32(bundle, norms[i][theirs])
    return state


def _float32(bundle: Bundle, name: str) -> Tensor:
    return torch.from_numpy(bundle.read(name).astype(np.float32))
