"""BYOL's haiku parameters under torchvision's ResNet names.

Source: deepmind-research/byol, byol_experiment.py and utils/networks.py (Grill et al. 2020, arXiv 2006.07733);
dm-haiku, nets/resnet.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dvme.backbones.conversion.inert import Inert
from dvme.backbones.conversion.pickled_arrays import PickledArray
from dvme.backbones.conversion.resnet import check_resnet
from dvme.errors import CheckpointError
from dvme.text import first_few

EXPERIMENT = "experiment_state"
PARAMETERS, STATE = "online_params", "online_state"
FIELDS = {"_ByolExperimentState": (PARAMETERS, "target_params", STATE, "target_state", "opt_state")}
"""Fields of named tuples by their class, which a file may name without telling its fields."""
STEM = re.compile(r"(?:.*/)?initial_(conv|batchnorm)(?:_1)?")
BLOCK = re.compile(r"(?:.*/)?block_group_(\d+)/(?:.*/)?block_(\d+)/~/(conv|batchnorm)_(\d+)")
SHORTCUT = re.compile(r"(?:.*/)?block_group_(\d+)/(?:.*/)?block_(\d+)/~/shortcut_(conv|batchnorm)")
AVERAGE = re.compile(r"(.*)/~/(mean|var)_ema")
HEAD = re.compile(r"(?:.*/)?(projector|predictor|classifier|logits)(?:/.*)?")
SHORT = {"conv": "conv", "batchnorm": "bn"}
SHORTCUT_PARTS = {"conv": "0", "batchnorm": "1"}
PADDING_REMARK = (
    "haiku pads strided convolutions and the max-pooling more on the right and below: dvme's byol does so as well, "
    "in torchvision's ResNet the embeddings would only come close"
)


def is_byol(content: Any) -> bool:
    """Whether a pickle's content is a checkpoint as BYOL's trainer writes it."""
    return isinstance(content, Mapping) and EXPERIMENT in content


def map_byol(content: Mapping[Any, Any], source: str) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """(float32 tensors of the online ResNet by torchvision's names, names left out, remarks).

    Raises:
        CheckpointError: if a module is not known, or they do not make up a ResNet.
    """
    experiment = _children(content[EXPERIMENT])
    if PARAMETERS not in experiment or STATE not in experiment:
        held = first_few(experiment)
        raise CheckpointError(f"{source} has no {PARAMETERS} and {STATE} in its {EXPERIMENT}, it holds {held}")
    state: dict[str, Tensor] = {}
    dropped = [str(key) for key in content if key != EXPERIMENT]
    dropped += [f"{EXPERIMENT}.{key}" for key in experiment if key not in (PARAMETERS, STATE)]
    for part, rename in ((PARAMETERS, _parameters), (STATE, _averages)):
        for module, entries in _modules(experiment[part], part, source).items():
            if HEAD.fullmatch(module):
                dropped.append(f"{EXPERIMENT}.{part}.{module}")
                continue
            for name, tensor in rename(module, entries, source).items():
                if name in state:
                    raise CheckpointError(f"{source} has two modules for {name}, one is {module}")
                state[name] = tensor
    check_resnet(state, source)
    return state, dropped, [PADDING_REMARK]


def _children(value: Any) -> Mapping[Any, Any]:
    """What a mapping holds, or a record of a mapping or a named tuple."""
    if isinstance(value, Inert):
        fields = FIELDS.get(value.origin.rpartition(".")[2], ())
        if fields and len(fields) == len(value.args):
            return dict(zip(fields, value.args, strict=True))
        found = dict(value.children())
        # Mappings of other versions of haiku keep their content in an attribute.
        inner = [found[key] for key in ("_mapping", "_storage") if isinstance(found.get(key), Mapping)]
        return inner[0] if inner else found
    return value if isinstance(value, Mapping) else {}


def _modules(value: Any, part: str, source: str) -> dict[str, Mapping[Any, Any]]:
    modules = {str(name): _children(entries) for name, entries in _children(value).items()}
    if empty := [name for name, entries in modules.items() if not entries]:
        raise CheckpointError(f"{source} holds {first_few(empty)} in its {part} without values; fetch it again")
    return modules


def _renamed(module: str, source: str) -> tuple[str, bool]:
    """(torchvision's name, whether it is a convolution) of a module."""
    if match := STEM.fullmatch(module):
        return f"{SHORT[match[1]]}1", match[1] == "conv"
    if match := BLOCK.fullmatch(module):
        name = f"layer{int(match[1]) + 1}.{int(match[2])}.{SHORT[match[3]]}{int(match[4]) + 1}"
        return name, match[3] == "conv"
    if match := SHORTCUT.fullmatch(module):
        prefix = f"layer{int(match[1]) + 1}.{int(match[2])}.downsample"
        return f"{prefix}.{SHORTCUT_PARTS[match[3]]}", match[3] == "conv"
    raise CheckpointError(f"{source} holds {module}, which is no part of BYOL's ResNet v1 as known")


def _parameters(module: str, entries: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    name, is_conv = _renamed(module, source)
    parts = {"w": "weight"} if is_conv else {"scale": "weight", "offset": "bias"}
    if set(entries) != set(parts):
        raise CheckpointError(f"{source} has {first_few(entries)} in {module}, expected {first_few(parts)}")
    if not is_conv:
        return {f"{name}.{ours}": _vector(entries[theirs], module, source) for theirs, ours in parts.items()}
    kernel = _tensor(entries["w"], module, source)
    if kernel.ndim != 4:
        raise CheckpointError(f"{source} has {tuple(kernel.shape)} in {module}, expected four dimensions")
    return {f"{name}.weight": kernel.permute(3, 2, 0, 1).contiguous()}  # height, width, in, out


def _averages(module: str, entries: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    match = AVERAGE.fullmatch(module)
    if match is None or "average" not in entries:
        raise CheckpointError(f"{source} holds {module}, which is no average of a normalisation")
    name, is_conv = _renamed(match[1], source)
    if is_conv:
        raise CheckpointError(f"{source} holds {module}, an average of a convolution")
    return {f"{name}.running_{match[2]}": _vector(entries["average"], module, source)}


def _vector(value: Any, module: str, source: str) -> Tensor:
    """(1, 1, 1, C) as haiku keeps it, to (C,)."""
    tensor = _tensor(value, module, source)
    if tensor.ndim == 0 or tensor.numel() != tensor.shape[-1]:
        raise CheckpointError(f"{source} has {tuple(tensor.shape)} in {module}, expected one value per channel")
    return tensor.reshape(-1)


def _tensor(value: Any, module: str, source: str) -> Tensor:
    if not isinstance(value, PickledArray) or value.tensor is None:
        raise CheckpointError(f"{source} has something in {module} that is not numbers")
    return value.tensor.float()
