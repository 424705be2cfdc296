"""Classifiers over cached embeddings. Each fits a list of jobs together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from dvme.errors import OptionError, UnknownNameError
from dvme.heads.fitting.jobs import Embedded, FittedHead, Head, Job, fit_jobs
from dvme.heads.variation import base_name, differences, split_name, vary

__all__ = [
    "ATTENTION_HEADS",
    "CONTROLS",
    "FUSIONS",
    "HEADS",
    "Embedded",
    "FittedHead",
    "Head",
    "Job",
    "base_name",
    "fit_jobs",
    "fitted_class",
    "full_name",
    "get_head",
    "head_of",
]

ATTENTION_HEADS = ("dvme", "dvme-tokens")
"""Fusions by attention."""
CONTROLS = ("dvme-noattn", "mlp", "concat", "mean-logits")
"""What a fusion by attention has to beat, besides the best single backbone."""
FUSIONS = frozenset({*ATTENTION_HEADS, *CONTROLS})
"""None of them stands in for a single backbone, not even on one."""


def _linear() -> Head:
    from dvme.heads.exact.linear import Linear

    return Linear()


def _knn() -> Head:
    from dvme.heads.neighbours.knn import KNN

    return KNN()


def _concat() -> Head:
    from dvme.heads.fusion.controls import Concat

    return Concat()


def _mean_logits() -> Head:
    from dvme.heads.fusion.controls import MeanLogits

    return MeanLogits()


def _network(name: str) -> Callable[[], Head]:
    def make() -> Head:
        from dvme.heads.fusion.network_head import NetworkHead

        return NetworkHead(name)

    return make


_MAKERS: dict[str, Callable[[], Head]] = {
    "linear": _linear,
    "linear-adam": _network("linear-adam"),
    "knn": _knn,
    "dvme": _network("dvme"),
    "dvme-noattn": _network("dvme-noattn"),
    "dvme-tokens": _network("dvme-tokens"),
    "mlp": _network("mlp"),
    "concat": _concat,
    "mean-logits": _mean_logits,
}
HEADS = tuple(_MAKERS)


def get_head(name: str) -> Head:
    """A head with its default settings, but for those in its name: `linear`, or `dvme@max-epochs=20`.

    Raises:
        UnknownNameError: naming the heads that there are.
        OptionError: naming the settings that there are, or what a value may be.
    """
    base, settings = split_name(name)
    if base not in _MAKERS:
        hint = "; several values are separated by colons" if base[:1].isdigit() else ""
        raise UnknownNameError(f"unknown head {base!r}; choose from {', '.join(HEADS)}{hint}")
    return vary(_MAKERS[base](), settings)


def full_name(head: Head) -> str:
    """The name with the settings that differ from the defaults, as `get_head` takes it; of another's head, its name."""
    usual = get_head(head.name) if head.name in _MAKERS else None
    settings = differences(usual, head) if usual is not None and type(usual) is type(head) else []
    return "@".join([head.name, *settings])


def head_of(name: str, settings: Mapping[str, Any]) -> Head:
    """The head of this name with the settings that `dataclasses.asdict` gave of it, also after a way through JSON.

    Raises:
        UnknownNameError: naming the heads that there are.
        OptionError: if the settings are not those of such a head.
    """
    head: Head = _with_settings(get_head(name), settings)
    if head.name != name:
        raise OptionError(f"these are the settings of {head.name!r}, not of {name!r}")
    return head


def _with_settings(default: Any, settings: Mapping[str, Any]) -> Any:
    """A dataclass like the default, dataclasses in its fields included."""
    own = {field.name: getattr(default, field.name) for field in fields(default)}
    if set(own) != set(settings):
        raise OptionError(f"the settings are {', '.join(sorted(settings))}; they must be {', '.join(sorted(own))}")
    values = {
        key: _with_settings(own[key], value) if is_dataclass(own[key]) else value for key, value in settings.items()
    }
    return replace(default, **values)


def fitted_class(name: str) -> type[FittedHead]:
    """What a head of this name becomes once it is fitted; its `restored` builds a saved one again.

    Raises:
        UnknownNameError: naming the heads that there are.
    """
    from dvme.heads.exact.linear import FittedLinear
    from dvme.heads.fusion.controls import FittedConcat, FittedMeanLogits
    from dvme.heads.fusion.network_head import NETWORKS, FittedNetwork
    from dvme.heads.neighbours.knn import FittedKNN

    fitted: dict[str, type[FittedHead]] = {
        "linear": FittedLinear,
        "knn": FittedKNN,
        "concat": FittedConcat,
        "mean-logits": FittedMeanLogits,
        **dict.fromkeys(NETWORKS, FittedNetwork),
    }
    if name not in fitted:
        raise UnknownNameError(f"unknown head {name!r}; choose from {', '.join(HEADS)}")
    return fitted[name]
