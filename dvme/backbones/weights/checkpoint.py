"""Strict loading: every key of a checkpoint is used or allowed to be left over, else it is an error."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from dvme.backbones.description.spec import Checkpoint, Layout
from dvme.backbones.weights.file_kinds import damaged_member, is_no_checkpoint, is_safetensors
from dvme.backbones.weights.key_problems import COUNTER, listed, name_problems
from dvme.backbones.weights.layouts import CONVERSIONS
from dvme.backbones.weights.weight_choice import Taken, rivals, take
from dvme.backbones.weights.weight_sets import WeightSet, is_generic_classifier, weight_sets
from dvme.errors import CheckpointError
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

UNREADABLE = (RuntimeError, EOFError, OSError, LookupError, ValueError, AssertionError, TypeError, AttributeError)


def read_checkpoint(path: Path) -> Any:
    """The content of a checkpoint file. Nothing in it is executed.

    Raises:
        CheckpointError: if the file is torn or no checkpoint, or holds Python objects besides tensors.
    """
    try:
        refusal = is_no_checkpoint(path)
        damage = None if refusal else damaged_member(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error.strerror or error}") from error
    if damage:
        refusal = f"{path} is damaged: {damage}; fetch it again"
    if refusal:
        raise CheckpointError(refusal)
    try:
        if is_safetensors(path):  # by what it holds: it may be called .bin or .pth, and PyTorch's files .safetensors
            from safetensors.torch import load_file

            return load_file(path)
        # Of pickle protocols; an open file, for torch goes by the suffix of a path.
        with warnings.catch_warnings(action="ignore", category=UserWarning), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = (
            f"{path} is not a plain checkpoint: it is torn, or holds Python objects besides tensors, and loading "
            f"never runs code from a file; dvme backbones convert {path} makes a .safetensors file of its tensors"
        )
        raise CheckpointError(message) from error
    except (*UNREADABLE, SafetensorError, zipfile.BadZipFile, struct.error) as error:
        is_telling = str(error) and not isinstance(error, LookupError)
        reason = str(error).splitlines()[0] if is_telling else f"not a checkpoint ({type(error).__name__})"
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}; fetch it again") from error


@dataclass(frozen=True)
class Fit:
    """A checkpoint's tensors under an architecture's names, and an account of every key."""

    state: dict[str, Tensor]
    """Exactly the target's keys; batch counters that the file lacks keep the target's value."""
    used: list[str]
    """Keys of the file whose tensors are in `state`, without nesting."""
    left_over: list[str]
    """Keys of the file that the layout allows to be left over."""
    taken: Taken = field(default_factory=Taken)
    """Which of several sets of weights it is."""


def fit_checkpoint(
    content: Any,
    checkpoint: Checkpoint,
    target: Mapping[str, Tensor],
    *,
    source: str,
    own_classifier: Callable[[], Collection[str]] = tuple,
) -> Fit:
    """Fit a file in the one of a checkpoint's layouts that it comes nearest to.

    Args:
        content: what `read_checkpoint` returned.
        checkpoint: its layouts.
        target: the model's `state_dict()`, without classifier.
        source: name of the file for messages.
        own_classifier: names of the parameters of the architecture's classifier, asked for where they matter.

    Raises:
        CheckpointError: naming what keeps the file from that layout.
    """
    if checkpoint.wrapping == "usual":
        return _fit_usual(content, checkpoint, target, source, own_classifier)
    return _fit_nearest(content, checkpoint, target, source)


def _fit_nearest(content: Any, checkpoint: Checkpoint, target: Mapping[str, Tensor], source: str) -> Fit:
    layouts = (checkpoint, *checkpoint.other_layouts)
    nearest = max(layouts, key=lambda layout: _nearness(content, layout, target, source))
    fit = fit_keys(content, nearest, target, source=source)
    state = _descend(content, nearest, source)
    others = rivals(content, {key: state[key] for key in fit.used})
    return replace(fit, taken=Taken(".".join(nearest.nesting), others=others, is_stated=True))


def _fit_usual(
    content: Any,
    checkpoint: Checkpoint,
    target: Mapping[str, Tensor],
    source: str,
    own_classifier: Callable[[], Collection[str]],
) -> Fit:
    """Fit the first set of weights in a file that fits, without its classifier."""
    has_rules = bool(checkpoint.keep) or checkpoint.drop is not None
    names = [key for key in target if not key.endswith(COUNTER)]

    def is_classifier(key: str) -> bool:
        return key not in target and (is_generic_classifier(key) or key in own_classifier())

    def load(item: WeightSet) -> tuple[Fit, dict[str, Tensor]]:
        is_plain = not has_rules and checkpoint.match == "name"
        dropped = _classifier(item.tensors, checkpoint, names, is_classifier) if is_plain else []
        kept = {key: value for key, value in item.tensors.items() if key not in dropped}
        fit = _fit_nearest(kept, replace(checkpoint, nesting=()), target, source)
        return replace(fit, left_over=[*fit.left_over, *dropped]), {key: kept[key] for key in fit.used}

    nesting = checkpoint.nesting
    sets = weight_sets(content, names, has_rules=has_rules)
    stated = [item for item in sets if item.path[: len(nesting)] == nesting]
    if not stated and checkpoint.is_nesting_optional:
        stated = sets
    if not stated:  # which is refused, but for a mapping that is empty there
        stated = [WeightSet(nesting, _descend(content, checkpoint, source), [], len(nesting))]
    fit, taken, beside = take(
        content,
        stated,
        load,
        names=lambda: names,
        is_classifier=is_classifier,
        source=source,
        nesting=nesting if stated is not sets else (),
    )
    return replace(fit, taken=taken, left_over=[*fit.left_over, *beside])


def _classifier(
    state: Mapping[str, Tensor], layout: Layout, names: Collection[str], is_classifier: Callable[[str], bool]
) -> list[str]:
    """The keys of a state dict that are a classifier's; of the architecture's own only where the rest is whole."""
    renamed = {key: _new_name(key, layout) for key in state}
    if set(names) <= set(renamed.values()):
        return [key for key, name in renamed.items() if is_classifier(name)]
    return [key for key, name in renamed.items() if is_generic_classifier(name) and name not in names]


def fit_keys(content: Any, layout: Layout, target: Mapping[str, Tensor], *, source: str) -> Fit:
    """Fit a file in one layout, as `fit_checkpoint` does in the nearest.

    Raises:
        CheckpointError: naming missing, unexpected and mis-shaped keys, and those of another kind of number.
    """
    kept, left_over, strangers = _split_by_layout(_descend(content, layout, source), layout)
    try:
        converted = CONVERSIONS[layout.tensors](_renamed(kept, layout))
    except CheckpointError as error:
        raise CheckpointError(f"{source} does not fit: {error}; is it the file of this backbone?") from error
    if layout.match == "position":
        fitted, problems = _by_position(converted, target)
    else:
        fitted, problems = converted, name_problems(converted, target)
    if strangers:
        problems.append(f"unexpected keys {listed(strangers)}")
    if problems:
        raise CheckpointError(f"{source} does not fit: {'; '.join(problems)}; is it the file of this backbone?")
    counters = {key: value for key, value in target.items() if key.endswith(COUNTER)}
    is_counted = layout.match == "name"  # by position, counters are passed over
    used = [key for key in kept if is_counted or not key.endswith(COUNTER)]
    return Fit(counters | fitted, used, left_over)


def _nearness(content: Any, layout: Layout, target: Mapping[str, Tensor], source: str) -> tuple[int, int]:
    """(parameters of the target that a file in this layout names, minus the keys that fit nothing)."""
    try:
        kept, _, strangers = _split_by_layout(_descend(content, layout, source), layout)
        renamed = _renamed(kept, layout)
    except CheckpointError:
        return -1, 0
    n_found = len(renamed) if layout.match == "position" else len(renamed.keys() & target.keys())
    return n_found, n_found - len(renamed) - len(strangers)


def state_dict_of(content: Any, source: str) -> dict[str, Tensor]:
    """A file's state dict, if it is one.

    Raises:
        CheckpointError: naming what is no tensor.
    """
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{source} does not fit: it holds no state dict")
    alien = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if alien:
        raise CheckpointError(f"{source} does not fit: {listed(alien)} are not tensors; it is nested differently")
    return {str(key): value for key, value in content.items()}


def _descend(content: Any, layout: Layout, source: str) -> dict[str, Tensor]:
    for key in layout.nesting:
        if isinstance(content, Mapping) and key in content:
            content = content[key]
        elif isinstance(content, Mapping) and any(str(name).startswith(f"{key}.") for name in content):
            # A safetensors file is flat: what was nested is a prefix there.
            prefix = f"{key}."
            content = {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}
        elif not layout.is_nesting_optional:
            held = listed(list(content)) if isinstance(content, Mapping) else type(content).__name__
            wanted = ".".join(layout.nesting)
            raise CheckpointError(f"{source} does not fit: no {key!r} on the way to {wanted}; it holds {held}")
    return state_dict_of(content, source)


def _split_by_layout(
    state: dict[str, Tensor], layout: Layout
) -> tuple[dict[str, tuple[str, Tensor]], list[str], list[str]]:
    """(kept, by their own key: the name without prefix and the tensor; left over; keys that no rule covers)."""
    kept: dict[str, tuple[str, Tensor]] = {}
    left_over: list[str] = []
    strangers: list[str] = []
    for key, value in state.items():
        match = re.match(layout.keep, key)
        if layout.drop is not None and re.match(layout.drop, key):
            left_over.append(key)
        elif match:
            kept[key] = (key[match.end() :], value)
        else:
            strangers.append(key)
    return kept, left_over, strangers


def _renamed(kept: Mapping[str, tuple[str, Tensor]], layout: Layout) -> dict[str, Tensor]:
    """The tensors under the architecture's names.

    Raises:
        CheckpointError: if two keys become one.
    """
    renamed: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for key, (rest, value) in kept.items():
        name = _new_name(rest, layout)
        if name in renamed:
            raise CheckpointError(f"{origins[name]} and {key} are both {name}")
        renamed[name], origins[name] = value, key
    return renamed


def _new_name(name: str, layout: Layout) -> str:
    for old, new in layout.rename:
        name = re.sub(old, new, name)
    return name


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
    return fitted, [f"wrong order {listed(misfits)}"] if misfits else name_problems(fitted, target)
