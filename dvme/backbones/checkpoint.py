"""Strict loading: every key of a checkpoint is used or allowed to be left over, else it is an error."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dvme.backbones.spec import Checkpoint
from dvme.errors import CheckpointError

COUNTER = "num_batches_tracked"
LISTED_AT_MOST = 4
UNREADABLE = (RuntimeError, EOFError, OSError, LookupError, ValueError, AssertionError, TypeError, AttributeError)


def read_checkpoint(path: Path) -> Any:
    """The content of a checkpoint file. Nothing in it is executed.

    Raises:
        CheckpointError: if the file is torn, or holds Python objects besides tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = (
            f"{path} is not a plain checkpoint: it is torn, or holds Python objects besides tensors, and dvme "
            "never runs code from a checkpoint; save its tensors with safetensors.torch.save_file and pass that file"
        )
        raise CheckpointError(message) from error
    except (*UNREADABLE, SafetensorError, zipfile.BadZipFile, struct.error) as error:
        is_telling = str(error) and not isinstance(error, LookupError)
        reason = str(error).splitlines()[0] if is_telling else f"not a checkpoint ({type(error).__name__})"
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}; fetch it again") from error


def fit_keys(content: Any, rule: Checkpoint, target: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Map a checkpoint's tensors to the keys of a model.

    Args:
        content: what `read_checkpoint` returned.
        rule: nesting, keys to keep, allowed leftovers.
        target: the model's `state_dict()`.
        source: name of the file for messages.

    Returns:
        A plain dict with exactly the target's keys; batch counters that the file lacks keep the target's value.

    Raises:
        CheckpointError: naming missing, unexpected and mis-shaped keys.
    """
    kept, strangers = _split_by_rule(_descend(content, rule, source), rule)
    if rule.match == "position":
        fitted, problems = _by_position(kept, target)
    else:
        fitted, problems = _by_name(kept, target)
    if strangers:
        problems.append(f"unexpected keys {_listed(strangers)}")
    if problems:
        raise CheckpointError(f"{source} does not fit: {'; '.join(problems)}; is it the file of this backbone?")
    counters = {key: value for key, value in target.items() if key.endswith(COUNTER)}
    return counters | fitted


def _descend(content: Any, rule: Checkpoint, source: str) -> dict[str, Tensor]:
    for key in rule.nesting:
        if isinstance(content, Mapping) and key in content:
            content = content[key]
        elif not rule.is_nesting_optional:
            held = _listed(list(content)) if isinstance(content, Mapping) else type(content).__name__
            wanted = ".".join(rule.nesting)
            raise CheckpointError(f"{source} does not fit: no {key!r} on the way to {wanted}; it holds {held}")
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{source} does not fit: it holds no state dict")
    alien = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if alien:
        raise CheckpointError(f"{source} does not fit: {_listed(alien)} are not tensors; it is nested differently")
    return {str(key): value for key, value in content.items()}


def _split_by_rule(state: dict[str, Tensor], rule: Checkpoint) -> tuple[dict[str, Tensor], list[str]]:
    """(kept under their stripped names, keys that no rule covers)."""
    kept: dict[str, Tensor] = {}
    strangers: list[str] = []
    for key, value in state.items():
        match = re.match(rule.keep, key)
        if match:
            kept[key[match.end() :]] = value
        elif rule.drop is None or not re.match(rule.drop, key):
            strangers.append(key)
    return kept, strangers


def _by_name(kept: dict[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    missing = [key for key in target if key not in kept and not key.endswith(COUNTER)]
    unexpected = [key for key in kept if key not in target]
    misshaped = [
        f"{key} {tuple(kept[key].shape)} instead of {tuple(target[key].shape)}"
        for key in target
        if key in kept and kept[key].shape != target[key].shape
    ]
    named = {"missing keys": missing, "unexpected keys": unexpected, "wrong shapes": misshaped}
    return kept, [f"{what} {_listed(keys)}" for what, keys in named.items() if keys]


def _by_position(kept: dict[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Pair keys in order; the last part of each name (weight, running_var, ...) and the shape must agree."""
    sources = [key for key in kept if not key.endswith(COUNTER)]
    targets = [key for key in target if not key.endswith(COUNTER)]
    if len(sources) != len(targets):
        return {}, [f"{len(sources)} tensors where the architecture has {len(targets)}"]
    misfits = [
        f"{theirs} {tuple(kept[theirs].shape)} for {ours} {tuple(target[ours].shape)}"
        for theirs, ours in zip(sources, targets, strict=True)
        if kept[theirs].shape != target[ours].shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]
    ]
    fitted = {ours: kept[theirs] for theirs, ours in zip(sources, targets, strict=True)}
    return fitted, [f"wrong order {_listed(misfits)}"] if misfits else []


def _listed(keys: Sequence[str]) -> str:
    """The first few of many names."""
    shown = ", ".join(str(key) for key in keys[:LISTED_AT_MOST])
    return f"{shown}, ... ({len(keys)} in all)" if len(keys) > LISTED_AT_MOST else shown
