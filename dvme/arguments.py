"""What callers write, made into what functions take, at every public function."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

from dvme.errors import ArgumentError
from dvme.progress import watched
from dvme.runtime import automatic
from dvme.seeds import checked_seed

P = ParamSpec("P")
R = TypeVar("R")

EXAMPLES = {
    "heads": ["linear", "knn"],
    "backbones": ["dino", "swav"],
    "submission": ["id_code", "diagnosis"],
    "class_order": ["none", "mild", "severe"],
    "methods": ["tsne", "pca"],
    "test": ["other.zarr", "ny=hospital.zarr"],
    "keep": ["age", "sex"],
    "mask": ["lung", "heart"],
    "dicom": ["view", "age"],
    "by": ["sex", "age:0-40-60-120"],
    "views": ["PA", "AP"],
}
SETTINGS = {
    "Columns": "dvme.data",
    "PageOptions": "dvme.report.options",
    "Runtime": "dvme.runtime",
    "SubsetOptions": "dvme.study.design.options",
}
"""Where the objects of settings are at home; imported when a mapping stands in for one."""


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take names and settings as callers write them, and show how far it has come.

    `heads`, `backbones`, `test`, `by` and `views` take a name or several, `submission` and `class_order` several.
    Parameters of settings (`columns`, `runtime`, `options`) take a mapping of the fields as well, those of mappings
    only a mapping. `seed` is as `checked_seed` has it. None stands for the default. `progress` is as
    `dvme.progress.watched` has it.

    Raises:
        ArgumentError: by the function, if it is given something else; no text is taken for its letters.
    """
    signature = inspect.signature(function)
    takes = {
        name: taken for name, each in signature.parameters.items() if (taken := _taken(name, f"{each.annotation}"))
    }

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # whose own message names it
        given = dict(bound.arguments)
        for name in [each for each in takes if each in given]:
            default = signature.parameters[name].default
            is_default = given[name] is None and default is not inspect.Parameter.empty
            given[name] = default if is_default else takes[name](given[name], name)
        bound.arguments |= given
        if "progress" not in signature.parameters:
            return function(*bound.args, **bound.kwargs)
        with watched(given.get("progress", automatic)) as tell:
            bound.arguments["progress"] = tell
            return function(*bound.args, **bound.kwargs)

    return call


def several(given: Any, what: str, wanted: str) -> tuple[Any, ...]:
    """What a list, tuple, generator, array or series holds, in its order.

    Raises:
        ArgumentError: if it is none of these, and says what is `wanted`; a text is none.
    """
    if isinstance(given, set | frozenset):
        raise ArgumentError(f"{what} takes {wanted}; a set has no order, and another one in the next run")
    is_scalar = getattr(given, "ndim", 1) == 0  # an array without an axis
    if isinstance(given, str | bytes | Mapping) or is_scalar or not isinstance(given, Iterable):
        raise ArgumentError(f"{what} takes {wanted}, not {given!r}")
    return tuple(given)


def names(given: Any, what: str) -> tuple[str, ...]:
    """One name, which is a text or a path, or several, in their order.

    Raises:
        ArgumentError: if it is none of these.
    """
    wanted = f"a name, or a list of names such as {EXAMPLES[what]}"
    return _texts((given,) if isinstance(given, str | os.PathLike) else several(given, what, wanted), what, wanted)


def listed(given: Any, what: str) -> tuple[str, ...]:
    """Several names, where one alone makes no sense.

    Raises:
        ArgumentError: if it is one text, or no texts.
    """
    wanted = f"a list of names such as {EXAMPLES[what]}"
    if isinstance(given, str | os.PathLike):
        raise ArgumentError(f"{what} takes {wanted}, not the text {os.fspath(given)!r}")
    return _texts(several(given, what, wanted), what, wanted)


def head_names(given: Any, what: str) -> tuple[Any, ...]:
    """One head or several, each by its name or as itself; what is neither is for the study to refuse.

    Raises:
        ArgumentError: if it is neither a head nor a list.
    """
    is_one = isinstance(given, str) or hasattr(given, "is_fusion")
    return (given,) if is_one else several(given, what, f"a head, or a list of heads such as {EXAMPLES[what]}")


def mapping(given: Any, what: str) -> Mapping[str, Any]:
    """A mapping.

    Raises:
        ArgumentError: if it is something else.
    """
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{what} takes a mapping of names to values, not {given!r}")
    return given


def settings(given: Any, what: str, *, kind: str) -> Any:
    """An object of settings, from itself or from a mapping of its fields.

    Raises:
        ArgumentError: if it is neither, or has other fields.
    """
    wanted = getattr(import_module(SETTINGS[kind]), kind)
    if isinstance(given, wanted):
        return given
    fields = [*inspect.signature(wanted).parameters]
    stray = [f"{key}" for key in given if key not in fields] if isinstance(given, Mapping) else [repr(given)]
    if stray:
        raise ArgumentError(f"{what} takes a dvme.{kind}, or a mapping with any of {', '.join(fields)}; not {stray[0]}")
    return wanted(**given)


def _taken(name: str, annotation: str) -> Callable[[Any, str], Any] | None:
    """What makes a parameter's argument what the function takes; None if it is taken as it is."""
    by_name: dict[str, Callable[[Any, str], Any]] = {
        "heads": head_names,
        **dict.fromkeys(("backbones", "by", "test", "views"), names),
        **dict.fromkeys(("submission", "class_order"), listed),
        "seed": checked_seed,
    }
    kind = annotation.partition(" | ")[0]
    if kind in SETTINGS:
        return partial(settings, kind=kind)
    if annotation.startswith("Mapping["):
        return mapping
    # `views` of X-rays are names, and of a study one word.
    return by_name.get(name) if name == "seed" or "Sequence[" in annotation else None


def _texts(given: tuple[Any, ...], what: str, wanted: str) -> tuple[str, ...]:
    for item in given:
        if not isinstance(item, str | os.PathLike):
            raise ArgumentError(f"{what} takes {wanted}, not {item!r} ({type(item).__name__}) in it")
    return tuple(str(os.fspath(item)) for item in given)  # numpy's texts are made Python's
