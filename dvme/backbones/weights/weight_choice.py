"""Which set of weights in a checkpoint file is taken, which could have been, and what lies beside it.

Every key beside the set has to be accounted for: another set, an average, a classifier or a count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dvme.backbones.weights.key_problems import COUNTER
from dvme.backbones.weights.weight_sets import (
    BOOKKEEPING,
    DEEPEST,
    LAST_STEP,
    WeightSet,
    is_wrapper,
    says_average,
    weight_sets,
)
from dvme.errors import CheckpointError
from dvme.text import first_few
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

CONTAINERS = re.compile(r".*state_dict.*|network_weights|model_ema")
"""Keys of a training checkpoint that no module is called by."""
NO_WEIGHTS = re.compile(r"(optim|optimizer|lr_scheduler|scheduler|scaler|amp|rng|callbacks|loops|hyper_parameters)")
TOML = "a TOML file (examples/own_backbone.toml)"
T = TypeVar("T")


@dataclass(frozen=True)
class Taken:
    """Which set of weights was taken from a file, and which were not."""

    label: str = ""
    """Of the set that was taken."""
    is_averaged: bool = False
    others: tuple[tuple[str, int], ...] = ()
    """(place, number of tensors) of the sets that could have been taken too, and of averages that could not."""
    is_stated: bool = False
    """Whether the backbone's layout says which."""
    nesting: tuple[str, ...] = ()
    """What a TOML file says to take the first of the others, if it can be taken."""

    def remark(self) -> str:
        """One line for whoever ran it; "" where there was no choice."""
        if not self.others:
            return ""
        kind = "as its layout says" if self.is_stated else "not an average"
        if self.is_averaged:
            kind = "the average over training"
        others = first_few(label for label, _ in self.others)
        way = f"; a TOML file with nesting = {_listed(self.nesting)} takes the other" if self.nesting else ""
        return f"weights are taken from {self.label} ({kind}), not from {others}{way}"


def take(
    content: Any,
    sets: list[WeightSet],
    load: Callable[[WeightSet], tuple[T, Mapping[str, Tensor]]],
    *,
    names: Callable[[], Collection[str]],
    is_classifier: Callable[[str], bool],
    source: str,
    nesting: tuple[str, ...] = (),
) -> tuple[T, Taken, list[str]]:
    """The first set that loads.

    Args:
        content: of the file.
        sets: those of it to try, the one to prefer first.
        load: gives the result and the tensors that were used, by their names in the set.
        names: of the model's parameters, asked for where nothing loads, to tell what comes nearest.
        is_classifier: whether a key may be left over as a part of a classifier.
        source: the file's name, for messages.
        nesting: where a user says that the set is.

    Returns:
        What was loaded, the account of the sets, and the keys beside the set in its own mapping.

    Raises:
        CheckpointError: if none loads, two could be meant, or a key beside the set is not accounted for.
    """
    failures: list[tuple[WeightSet, CheckpointError]] = []
    for item in sets:
        if not item.is_usual(len(nesting)):
            continue
        try:
            result, used = load(item)
        except CheckpointError as error:
            failures.append((item, error))
            continue
        others = [other for other in weight_sets(content, used) if other.path != item.path]
        whole = [other for other in others if other.has(used)]
        _check_choice(item, [other for other in whole if other.path[: len(nesting)] == nesting], used, source)
        _check_beside(item, whole, is_classifier, source, nesting)
        partial = [] if item.is_averaged else [other for other in others if _is_partial(other, whole, used)]
        return result, _account(item, whole, partial, content), item.beside
    known = set(names())
    nearest = max(failures, key=lambda failure: len(failure[0].tensors.keys() & known))[1]
    way = f"{TOML} says which keys to keep"
    for item in weight_sets(content, known):
        if not item.is_usual(len(nesting)) and item.tensors.keys() >= known:
            way = f"{item.label} has them all: {_toml_way(item)} takes it"
            break
    raise CheckpointError(f"{nearest} If so, {way}") from nearest


def rivals(content: Any, used: Mapping[str, Tensor]) -> tuple[tuple[str, int], ...]:
    """(place, number of tensors) of the other sets of a file that hold what a stated layout took from one."""
    if not used:
        return ()
    name, first = next(iter(used.items()))
    found = [item for item in weight_sets(content, used) if item.has(used)]
    return tuple((item.label, len(item.tensors)) for item in found if item.tensors[name] is not first)


def choice_between_sets(content: Any) -> str:
    """What loading will choose where a file holds several sets of weights of one kind; "" where it holds one."""
    for item in weight_sets(content, ()):
        found = weight_sets(content, item.tensors)
        others = [other for other in found if other.path != item.path and other.has(item.tensors)]
        if others:
            return _account(item, others, [], content).remark()
    return ""


def _check_choice(item: WeightSet, others: list[WeightSet], used: Mapping[str, Tensor], source: str) -> None:
    for other in others:
        if other.rank == item.rank and not _is_equal(other, used):
            message = f"{source} does not fit: it holds two sets of weights, {item.label} and {other.label}"
            raise CheckpointError(f"{message}, and no name says which is meant; {_toml_way(item)} takes the first")


def _is_equal(other: WeightSet, used: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(other.tensors[key], value) for key, value in used.items() if not key.endswith(COUNTER))


def _check_beside(
    item: WeightSet,
    others: list[WeightSet],
    is_classifier: Callable[[str], bool],
    source: str,
    nesting: tuple[str, ...],
) -> None:
    """Refuse keys in the mapping of a set that are no part of it, no classifier, no average and no count."""
    siblings = [other for other in others if other.path[: item.n_nested] == item.path[: item.n_nested]]
    prefixes = [other.prefix for other in siblings]
    within = "".join(f"{part}." for part in nesting[item.n_nested :])  # of a flat file, the part that is stated
    keys = [key for key in item.beside if key.startswith(within)]
    strangers = [key for key in keys if not _is_accounted(key, item, prefixes, is_classifier)]
    if strangers:
        message = f"{source} does not fit: unexpected keys {first_few(strangers)} beside {item.label}"
        raise CheckpointError(f"{message}; {_toml_way(item)} passes over what is beside it")


def _is_accounted(key: str, item: WeightSet, prefixes: list[str], is_classifier: Callable[[str], bool]) -> bool:
    parts = key.split(".")
    names = {key.removeprefix(prefix) for prefix in prefixes if key.startswith(prefix)}
    if names & item.tensors.keys() or any(map(says_average, parts[:-1])):
        return True
    if item.n_nested == 0 and item.prefix:  # perhaps a converted file: what was another mapping is a prefix there
        is_elsewhere = CONTAINERS.fullmatch(item.path[0]) is not None and parts[0] != item.path[0]
        if is_elsewhere or NO_WEIGHTS.match(parts[0]):
            return True
    n_wrappers = next((i for i, part in enumerate(parts) if not is_wrapper(part)), len(parts) - 1)
    rests = [".".join(parts[start:]) for start in range(n_wrappers + 1)]
    return any(map(is_classifier, rests)) or BOOKKEEPING.fullmatch(rests[-1]) is not None


def _is_partial(other: WeightSet, whole: list[WeightSet], used: Mapping[str, Tensor]) -> bool:
    """Whether a set is an average without running statistics, or under other names."""
    is_outer = any(found.path[: len(other.path)] == other.path for found in whole)
    return other.is_averaged and other not in whole and not is_outer and len(other.tensors) > len(used) // 4


def _account(item: WeightSet, whole: list[WeightSet], partial: list[WeightSet], content: Any) -> Taken:
    told = {other.label: len(other.tensors) for other in whole if other.rank != item.rank}
    told |= dict(_nameless(content, ()))
    told |= {f"{other.label} (not a whole set)": len(other.tensors) for other in partial}
    nesting = next((other.path for other in whole if other.rank != item.rank), ())
    is_averaged = item.is_averaged or any(LAST_STEP in other.path for other in whole)
    return Taken(item.label, is_averaged, tuple(told.items()), nesting=nesting)


def _nameless(content: Any, path: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Averages that are kept as a list of tensors, or without running statistics: nothing that could be loaded."""
    if not isinstance(content, Mapping) or len(path) > DEEPEST:
        return
    for key, value in content.items():
        place = (*path, str(key))
        if isinstance(value, list | tuple) and value and all(isinstance(entry, torch.Tensor) for entry in value):
            if any(map(says_average, place)):
                yield f"{'.'.join(place)} (tensors without names)", len(value)
        elif isinstance(key, str):
            yield from _nameless(value, place)


def _toml_way(item: WeightSet) -> str:
    return f"{TOML} with nesting = {_listed(item.path)}"


def _listed(path: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{part}"' for part in path) + "]"
