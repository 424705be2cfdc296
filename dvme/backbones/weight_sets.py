"""The sets of weights in a checkpoint file: where training programs put them, and which of several is taken.

The average over training comes before the weights of the last step, as in timm; a prefix that wraps a model
(`module.`, `_orig_mod.`, `model.backbone.`) is taken off; every key beside the
set that is taken has to be accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from dvme.errors import CheckpointError
from dvme.wording import first_few
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?|averaging|shadow|polyak|teacher)(?![a-z])")
"""In the name of what holds an average over training; a teacher is the average of its student."""
TRAINED = re.compile(r"(?<![a-z])(online|student|raw|current)(?![a-z])")
"""In the name of what holds the weights themselves, perhaps inside of what holds both."""
ORDER = ("state_dict_ema", "model_ema", "state_dict", "model", "network_weights", "model_state_dict")
"""Which of two sets of one kind is taken: timm's order, then MONAI's and nnU-Net's."""
LAST_STEP = "current_model_state"
"""Where Lightning's WeightAveraging moves the weights themselves: its `state_dict` is the average then."""
WRAPPERS = frozenset({
    *ORDER, *("module", "net", "network", "backbone", "encoder", "trunk", "base_model", "student", "model_state"),
    *("callbacks", "classy_state_dict", "feature_extractor", "weights", "params", "_forward_module"),
    LAST_STEP,
})  # fmt: skip
"""What stands before a model's own names where it is a part of another module, or of a converted file."""
COMPILED = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile and its like put into names, anywhere in them."""
BOOKKEEPING = re.compile(r"(n_averaged|num_updates|decay|initted|step|epoch|global_step)$")
CONTAINERS = re.compile(r".*state_dict.*|network_weights|model_ema")
"""Keys of a training checkpoint that no module is called by."""
NO_WEIGHTS = re.compile(r"(optim|optimizer|lr_scheduler|scheduler|scaler|amp|rng|callbacks|loops|hyper_parameters)")
GENERIC_CLASSIFIER = re.compile(r"((fc|classifier)\.|head\.(?!norm\.))")
TOML = "a TOML file (examples/own_backbone.toml)"
COUNTER = "num_batches_tracked"
DEEPEST = 5
T = TypeVar("T")


@dataclass(frozen=True)
class WeightSet:
    """Tensors that may be a model's state dict, and where they lie in their file."""

    path: tuple[str, ...]
    """Keys on the way to them, then the parts of the prefix of their names."""
    tensors: dict[str, Tensor]
    """By their names without that prefix."""
    beside: list[str]
    """Keys of the same mapping that are no part of the set, relative to that mapping."""
    n_nested: int
    """How many of the keys on the way are mappings; the others are prefixes."""

    @property
    def label(self) -> str:
        """`state_dict.model`."""
        return ".".join(self.path) or "the top of the file"

    @property
    def prefix(self) -> str:
        """Of its keys, within their mapping."""
        return "".join(f"{part}." for part in self.path[self.n_nested :])

    @property
    def is_averaged(self) -> bool:
        """Whether its place says that it is an average over training."""
        said = [_says_average(part) for part in self.path if _says_average(part) or _says_trained(part)]
        return bool(said) and said[-1]

    @property
    def rank(self) -> tuple[bool, int]:
        """Which comes first; two of one rank cannot be told apart by their names."""
        known = [ORDER.index(part) for part in self.path[: max(self.n_nested, 1)] if part in ORDER]
        return not self.is_averaged, min(known, default=len(ORDER))

    def is_usual(self, n_stated: int) -> bool:
        """Whether its prefix, after so many stated parts, is one that wraps a model; others are for users to state."""
        return all(map(_is_wrapper, self.path[max(self.n_nested, n_stated) :]))

    def has(self, names: Mapping[str, Tensor]) -> bool:
        """Whether it has all of these names, but for counters, with the same shapes."""
        return all(
            key in self.tensors and self.tensors[key].shape == value.shape
            for key, value in names.items()
            if not key.endswith(COUNTER)
        )


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


def weight_sets(content: Any, names: Collection[str], *, has_rules: bool = False) -> list[WeightSet]:
    """Every set of tensors in a file's content that could be a state dict, the one to prefer first.

    Args:
        content: what `read_checkpoint` returned.
        names: parameters of the model, as far as known; a prefix that all of them have in common is recognised.
        has_rules: whether the user's own rules say which keys to take; then no prefix is taken off.
    """
    found = []
    for place, tensors in _mappings(content, ()):
        state = _uncompiled(tensors)
        if has_rules:
            found.append(WeightSet(place, state, [], len(place)))
            continue
        for parts in _prefixes(state, names):
            own = _below(state, parts)
            if own and not _is_wrapped(own):
                prefix = "".join(f"{part}." for part in parts)
                beside = [key for key in state if key.removeprefix(prefix) not in own or not key.startswith(prefix)]
                found.append(WeightSet((*place, *parts), own, beside, len(place)))
    return sorted(found, key=lambda item: item.rank)


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
    first = next(iter(used.values()))
    found = [item for item in weight_sets(content, used) if item.has(used)]
    return tuple((item.label, len(item.tensors)) for item in found if not _is_same(item, used, first))


def choice_between_sets(content: Any) -> str:
    """What loading will choose where a file holds several sets of weights of one kind; "" where it holds one."""
    for item in weight_sets(content, ()):
        found = weight_sets(content, item.tensors)
        others = [other for other in found if other.path != item.path and other.has(item.tensors)]
        if others:
            return _account(item, others, [], content).remark()
    return ""


def is_generic_classifier(name: str) -> bool:
    """Whether a name is that of a usual classifier: `fc.`, `classifier.`, or `head.` without its normalisation."""
    return GENERIC_CLASSIFIER.match(name) is not None


def _is_same(item: WeightSet, used: Mapping[str, Tensor], first: Tensor) -> bool:
    return item.tensors[next(iter(used))] is first


def _check_choice(item: WeightSet, others: list[WeightSet], used: Mapping[str, Tensor], source: str) -> None:
    for other in others:
        is_equal = all(torch.equal(other.tensors[key], value) for key, value in used.items())
        if other.rank == item.rank and not is_equal:
            message = f"{source} does not fit: it holds two sets of weights, {item.label} and {other.label}"
            raise CheckpointError(f"{message}, and no name says which is meant; {_toml_way(item)} takes the first")


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
    if names & item.tensors.keys() or any(map(_says_average, parts[:-1])):
        return True
    if item.n_nested == 0 and item.prefix:  # perhaps a converted file: what was another mapping is a prefix there
        is_elsewhere = CONTAINERS.fullmatch(item.path[0]) is not None and parts[0] != item.path[0]
        if is_elsewhere or NO_WEIGHTS.match(parts[0]):
            return True
    n_wrappers = next((i for i, part in enumerate(parts) if not _is_wrapper(part)), len(parts) - 1)
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
            if any(map(_says_average, place)):
                yield f"{'.'.join(place)} (tensors without names)", len(value)
        elif isinstance(key, str):
            yield from _nameless(value, place)


def _toml_way(item: WeightSet) -> str:
    return f"{TOML} with nesting = {_listed(item.path)}"


def _listed(path: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{part}"' for part in path) + "]"


def _mappings(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping of nothing but tensors, with the keys on the way to it."""
    if not isinstance(value, Mapping) or len(path) > DEEPEST:
        return
    if value and all(isinstance(entry, torch.Tensor) for entry in value.values()):
        yield path, {str(key): entry for key, entry in value.items()}
        return
    for key, child in value.items():
        if isinstance(key, str):
            yield from _mappings(child, (*path, key))


def _uncompiled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = {COMPILED.sub("", key): value for key, value in tensors.items()}
    return plain if len(plain) == len(tensors) else tensors


def _prefixes(state: Mapping[str, Tensor], names: Collection[str]) -> list[tuple[str, ...]]:
    """The prefixes that may be taken off a state dict's names, as parts, the shortest first."""
    found: set[tuple[str, ...]] = {()}
    for key in state:
        parts = key.split(".")[:-1]
        end = 0
        while end < min(len(parts), DEEPEST) and _is_wrapper(parts[end]):
            end += 1
            found.add(tuple(parts[:end]))
    anchor = max((name for name in names if not name.endswith(COUNTER)), key=len, default=None)
    if anchor is not None:
        ending = f".{anchor}"
        found |= {tuple(key.removesuffix(ending).split(".")) for key in state if key.endswith(ending)}
    return sorted(found, key=lambda parts: (len(parts), list(state).index(_first(state, parts))))


def _first(state: Mapping[str, Tensor], parts: tuple[str, ...]) -> str:
    prefix = "".join(f"{part}." for part in parts)
    return next(key for key in state if key.startswith(prefix))


def _below(state: Mapping[str, Tensor], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors under a prefix, but for averages of them and counts, which are sets of their own or none."""
    prefix = "".join(f"{part}." for part in parts)
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {
        name: value
        for name, value in found.items()
        if not BOOKKEEPING.fullmatch(name) and not any(map(_says_average, name.split(".")[:-1]))
    }


def _is_wrapped(state: Mapping[str, Tensor]) -> bool:
    """Whether all that a set has is in one `module.`, as a model's own names never are."""
    return all(name.startswith("module.") for name in state)


def _is_wrapper(part: str) -> bool:
    return part in WRAPPERS or _says_average(part)


@lru_cache(maxsize=10_000)
def _says_average(part: str) -> bool:
    return AVERAGED.search(_words(part)) is not None


@lru_cache(maxsize=10_000)
def _says_trained(part: str) -> bool:
    return TRAINED.search(_words(part)) is not None


def _words(part: str) -> str:
    """`EMAWeights` as `ema_weights`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", part).lower()
