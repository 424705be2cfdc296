"""The sets of weights in a checkpoint file: where training programs put them, in the order of preference.

The average over training comes before the weights of the last step, as in timm; a prefix that wraps a model
(`module.`, `_orig_mod.`, `model.backbone.`) is taken off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from dvme.backbones.weights.key_problems import COUNTER
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
GENERIC_CLASSIFIER = re.compile(r"((fc|classifier)\.|head\.(?!norm\.))")
DEEPEST = 5


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
        said = [says_average(part) for part in self.path if says_average(part) or _says_trained(part)]
        return bool(said) and said[-1]

    @property
    def rank(self) -> tuple[bool, int]:
        """Which comes first; two of one rank cannot be told apart by their names."""
        known = [ORDER.index(part) for part in self.path[: max(self.n_nested, 1)] if part in ORDER]
        return not self.is_averaged, min(known, default=len(ORDER))

    def is_usual(self, n_stated: int) -> bool:
        """Whether its prefix, after so many stated parts, is one that wraps a model; others are for users to state."""
        return all(map(is_wrapper, self.path[max(self.n_nested, n_stated) :]))

    def has(self, names: Mapping[str, Tensor]) -> bool:
        """Whether it has all of these names, but for counters, with the same shapes."""
        return all(
            key in self.tensors and self.tensors[key].shape == value.shape
            for key, value in names.items()
            if not key.endswith(COUNTER)
        )


def weight_sets(content: Any, names: Collection[str], *, has_rules: bool = False) -> list[WeightSet]:
    """Every set of tensors in a file's content that could be a state dict, the one to prefer first.

    Args:
        content: what `read_checkpoint` returned.
        names: parameters of the model, as far as known; a prefix that all of them have in common is recognised.
        has_rules: whether the user's own rules say which keys to take; then no prefix is taken off.

    Source: timm, models/_helpers.py, `load_state_dict` and `clean_state_dict`.
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


def is_generic_classifier(name: str) -> bool:
    """Whether a name is that of a usual classifier: `fc.`, `classifier.`, or `head.` without its normalisation."""
    return GENERIC_CLASSIFIER.match(name) is not None


def is_wrapper(part: str) -> bool:
    """Whether a part of a name is one that wraps a model."""
    return part in WRAPPERS or says_average(part)


@lru_cache(maxsize=10_000)
def says_average(part: str) -> bool:
    """Whether a part of a name says that below it are averages over training."""
    return AVERAGED.search(_words(part)) is not None


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
        wrappers = tuple(takewhile(is_wrapper, key.split(".")[:-1][:DEEPEST]))
        found |= {wrappers[:end] for end in range(1, len(wrappers) + 1)}
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
        if not BOOKKEEPING.fullmatch(name) and not any(map(says_average, name.split(".")[:-1]))
    }


def _is_wrapped(state: Mapping[str, Tensor]) -> bool:
    """Whether all that a set has is in one `module.`, as a model's own names never are."""
    return all(name.startswith("module.") for name in state)


@lru_cache(maxsize=10_000)
def _says_trained(part: str) -> bool:
    return TRAINED.search(_words(part)) is not None


def _words(part: str) -> str:
    """`EMAWeights` as `ema_weights`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", part).lower()
