"""Weights into timm's models: by timm's own translation of names, but strictly, whatever timm itself would let pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import get_ident
from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor, nn

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.model.architectures import import_timm, own_classifier
from dvme.backbones.weights.checkpoint import read_checkpoint, state_dict_of
from dvme.backbones.weights.key_problems import COUNTER, name_problems
from dvme.backbones.weights.weight_choice import Taken, take
from dvme.backbones.weights.weight_sets import WeightSet, is_generic_classifier, weight_sets
from dvme.errors import CheckpointError

UNFIT = (RuntimeError, ValueError, KeyError, AttributeError, TypeError, IndexError, AssertionError)


@dataclass(frozen=True)
class _Exception:
    """What the published files of one family lack, or have beyond timm's model; known from timm's source."""

    architecture: str
    """Regular expression of the whole name, with its tag."""
    left_over: str = r"(?!)"
    """Regular expression of keys that the model does not have."""
    missing: str = r"(?!)"
    """Regular expression of keys that the file does not have: they stay at their ones and zeros."""


EXCEPTIONS = (
    _Exception(r"dla\d.*", left_over=r"level\d(\.tree\d)*\.project\."),
    _Exception(r"inception_v3(\..*)?", left_over=r"AuxLogits\."),
    _Exception(r"vit_.*siglip.*", left_over=r"attn_pool\."),
    _Exception(r"convnext.*\.fcmae", missing=r"head\.norm\."),
    _Exception(r"davit_.*_fl(\..*)?", missing=r"head\.norm\."),
)


@dataclass(frozen=True)
class LoadedModel:
    """A plain model with its weights, without a classifier, and an account of the file."""

    model: nn.Module
    path: Path | None = None
    """The file; None: it needs none."""
    used: list[str] = field(default_factory=list)
    """Keys of the file whose tensors the model had when it was loaded, of timm's models their classifier's as well."""
    left_over: list[str] = field(default_factory=list)
    """Keys that the layout allows to be left over. Of timm's models: that its own translation of the file passes over,
    that the family's files have in excess, or that are of another classifier."""
    taken: Taken = field(default_factory=Taken)
    """Which of several sets of weights in the file it is."""


def load_timm_model(spec: BackboneSpec, weights: Path) -> LoadedModel:
    """Build a model with its classifier, load strictly, then take the classifier off.

    timm falls back to a lax load for some families, and for any when asked for another number of classes than
    the file has; a renamed layer then stays random without a word. So what timm would load is taken from it, after
    its own translation, and is compared with the model key by key.

    Raises:
        CheckpointError: if keys, shapes or kinds of numbers do not fit.
    """
    content = read_checkpoint(weights)
    sets = weight_sets(content, ()) or [WeightSet((), state_dict_of(content, str(weights)), [], 0)]

    def load(item: WeightSet) -> tuple[LoadedModel, Mapping[str, Tensor]]:
        found = _load(spec, item.tensors, weights)
        return found, {key: item.tensors[key] for key in found.used}

    found, taken, beside = take(
        content,
        sets,
        load,
        names=lambda: own_classifier(spec, ()),
        is_classifier=is_generic_classifier,
        source=str(weights),
    )
    return replace(found, taken=taken, left_over=[*found.left_over, *beside])


def _load(spec: BackboneSpec, state: Mapping[str, Tensor], weights: Path) -> LoadedModel:
    model, translated = _translated(spec, state, weights)
    full = model.state_dict()
    if hasattr(model, "reset_classifier"):
        cast(Any, model).reset_classifier(0)
    target = model.state_dict()
    family = next((item for item in EXCEPTIONS if re.fullmatch(item.architecture, spec.architecture)), _Exception(""))
    # Some of timm's normalisations have no counter, whatever their files have, and the reverse.
    excess = {key for key in translated.keys() - target.keys() if re.match(family.left_over, key) or COUNTER in key}
    classifier = {key for key in translated.keys() - target.keys() if key in full or is_generic_classifier(key)}
    fitted = {key: value for key, value in translated.items() if key not in excess | classifier}
    kept = {key: value for key, value in target.items() if re.match(family.missing, key) or key.endswith(COUNTER)}
    problems = name_problems(kept | fitted, target)
    if problems:
        message = f"{weights} does not fit {spec.architecture}: {'; '.join(problems)}; is it the file of this backbone?"
        raise CheckpointError(message)
    model.load_state_dict(kept | fitted, strict=True)
    foreign = {key for key in classifier if key not in full or translated[key].shape != full[key].shape}
    left_over = _left_over(spec, state, translated, weights) | ((excess | foreign) & set(state))
    used = [key for key in state if key not in left_over]
    return LoadedModel(model, weights, used, [key for key in state if key in left_over])


def _translated(spec: BackboneSpec, state: Mapping[str, Tensor], weights: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    """The model of timm, and what it would load of a state dict."""
    timm = import_timm()
    classes = {"num_classes": spec.architecture_args["num_classes"]} if "num_classes" in spec.architecture_args else {}
    try:
        with _loads_recorded() as offered:
            model: nn.Module = timm.create_model(
                spec.architecture,
                pretrained=True,
                pretrained_cfg_overlay={"state_dict": dict(state), **classes},
                **spec.architecture_args,
            )
    except UNFIT as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{weights} does not fit {spec.architecture}: {reason}") from error
    if id(model) not in offered:
        raise CheckpointError(f"{weights} does not fit {spec.architecture}: timm does not load it from a state dict")
    return model, offered[id(model)]


def _left_over(
    spec: BackboneSpec, state: Mapping[str, Tensor], translated: Mapping[str, Tensor], weights: Path
) -> set[str]:
    """The keys that timm's translation passes over: without them, it gives the same names.

    Tensors that it hands on, or views of them, are recognised; the others are taken away to see what becomes of it.
    """
    storages = {value.untyped_storage().data_ptr() for value in translated.values()}
    doubtful = {
        key
        for key, value in state.items()
        if key not in translated and value.untyped_storage().data_ptr() not in storages
    }
    if not doubtful:
        return set()
    try:
        _, rest = _translated(spec, {key: value for key, value in state.items() if key not in doubtful}, weights)
    except CheckpointError:
        return set()
    return doubtful if rest.keys() == translated.keys() else set()


@contextmanager
def _loads_recorded() -> Iterator[dict[int, dict[str, Tensor]]]:
    """Keep what this thread's models would load, by the id of the model, instead of loading it.

    timm translates a file inside of its builder, and hands the result to nn.Module.load_state_dict alone.
    """
    offered: dict[int, dict[str, Tensor]] = {}
    loading, thread = nn.Module.load_state_dict, get_ident()

    def record(module: nn.Module, state_dict: Mapping[str, Any], *args: Any, **keywords: Any) -> Any:
        if get_ident() != thread:
            return loading(module, state_dict, *args, **keywords)
        offered[id(module)] = dict(state_dict)
        return SimpleNamespace(missing_keys=[], unexpected_keys=[])

    nn.Module.load_state_dict = record  # type: ignore[assignment, method-assign]
    try:
        yield offered
    finally:
        nn.Module.load_state_dict = loading  # type: ignore[method-assign]
