"""Which models make the embeddings that a saved head takes, so that new images can be extracted for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dvme.backbones.description.variation import seen_in, split_name, vary_name, view_in
from dvme.backbones.description.view import PLAIN
from dvme.backbones.loading.kept import is_imported
from dvme.backbones.loading.registry import get_spec
from dvme.errors import DvmeError, OptionError, UnknownNameError, parameter
from dvme.extraction.models import Choice, KnownBackbone, recall_backbones
from dvme.heads.saved_head import SavedHead
from dvme.runtime import Runtime
from dvme.text import first_few
from dvme_cache import EmbeddingCache, Fingerprint, FingerprintMismatchError, MissingEmbeddingsError

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone


@dataclass(frozen=True, kw_only=True)
class OwnBackbones:
    """What the user says of the head's backbones beside their names, as `dvme extract` takes it."""

    names: Sequence[str] = ()
    """`FILE.py:NAME`, `FILE.toml` and other names; each is one of the head's, by its name or its fingerprint."""
    architectures: Mapping[str, str] = field(default_factory=dict)
    """Architectures of torchvision-style checkpoints, by name."""
    weights: Mapping[str, str | Path] = field(default_factory=dict)
    """Local checkpoints by name."""

    def choice(self, names: Sequence[str]) -> Choice:
        """To load or to extract these, with those of the files and architectures that are theirs."""
        own = {known for name in names for known in (name, self.name_of(name))}
        own |= {split_name(name)[0] for name in own}
        return Choice(
            names=names,
            weights={name: file for name, file in self.weights.items() if name in own},
            architectures={name: value for name, value in self.architectures.items() if name in own},
        )

    def name_of(self, typed: str) -> str:
        """What the embeddings of a backbone are called that is typed like this."""
        return typed if split_name(typed)[0] in self.architectures else get_spec(typed).name


@dataclass(frozen=True)
class Source:
    """How to extract one backbone of a head."""

    name: str
    """What its embeddings are called in a cache; usually as the head calls them."""
    dtype: str
    """As they were stored for the head."""
    model: Backbone | KnownBackbone
    """Loaded, or known from an earlier load."""


def find_sources(saved: SavedHead, own: OwnBackbones, runtime: Runtime) -> list[Source]:
    """How to extract each backbone of a head, in their order; all are loaded once and compared with the head's.

    Raises:
        OptionError: if the user names a backbone, a file or an architecture that is none of the head's.
        UnknownNameError: if one of the head's is neither known by name nor among the user's.
        FingerprintMismatchError: if one is not what the head was fitted on.
    """
    if saved.own_backbones and own != OwnBackbones():
        options = parameter("backbones") + ", " + parameter("architectures") + " and " + parameter("weights")
        raise OptionError(f"the backbones of {saved.name} were trained with it and lie beside it; leave out " + options)
    typed = _typed(saved, own, runtime)
    choice = own.choice(typed)
    given = (
        (parameter("weights"), own.weights, choice.weights),
        (parameter("architectures"), own.architectures, choice.architectures),
    )
    for option, named, used in given:
        stray = sorted(set(named) - set(used))
        if stray:
            raise OptionError(option + f" names {', '.join(stray)}; the head's are {', '.join(saved.backbones)}")
    found = []
    models = recall_backbones(choice, runtime)
    for model, name, head_name, expected in zip(models, typed, saved.inputs, saved.input_fingerprints, strict=True):
        dtype = _dtype(expected)
        check_fingerprint(head_name, expected, model.fingerprint(dtype), f"{name} as it is installed here")
        found.append(Source(model.spec.name, dtype, model))
    return found


def check_fingerprint(name: str, expected: Fingerprint, found: Fingerprint, where: str) -> None:
    """Refuse embeddings of another fingerprint than the head's.

    Raises:
        FingerprintMismatchError: naming the first field that differs, with both values.
    """
    differences = expected.differences(found)
    if differences:
        field_name, own, other = differences[0]
        more = f" (and {len(differences) - 1} more differ)" if len(differences) > 1 else ""
        again = f"import {name} with " + parameter("like", "CACHE") + ", the head's, if they are of one extractor"
        step = again if is_imported(expected.fields) else f"extract {name} as it was for the head"
        message = (
            f"{where} is not what the head was fitted on: {field_name} is {other!r}, the head's is {own!r}{more}; "
            + step
            + ", or fit the head anew with dvme probe --save"
        )
        raise FingerprintMismatchError(message)


def check_has_own(saved: SavedHead, store: EmbeddingCache) -> None:
    """Refuse a cache that was not extracted by the backbones that were trained with a head.

    Raises:
        MissingEmbeddingsError: naming them.
    """
    lacking = [each.spec.name for each in saved.own_backbones if each.spec.name not in store.backbones]
    if lacking:
        raise MissingEmbeddingsError(
            f"{store.location} has no embeddings of {first_few(lacking)}, which were trained with the head; predict "
            "the images themselves, with " + parameter("cache", store.location)
        )


def _typed(saved: SavedHead, own: OwnBackbones, runtime: Runtime) -> list[str]:
    """What to type for each of the head's backbones: the user's own of that name, the name, or one that is the same."""
    if saved.own_backbones:  # described beside the head
        return [str(each.place) for each in saved.own_backbones]
    by_base = {split_name(own.name_of(name))[0]: name for name in own.names}
    typed: dict[str, str] = {}
    for name in saved.inputs:
        base, options = split_name(name)
        if base in by_base:
            typed[name] = vary_name(by_base[base], options)
        elif base in own.architectures or _is_known(name):
            typed[name] = name
    bases = {split_name(name)[0] for name in saved.backbones}
    for name in (name for base, name in by_base.items() if base not in bases):
        (model,) = recall_backbones(own.choice([name]), runtime)
        alike = [
            head_name
            for head_name, expected in zip(saved.backbones, saved.fingerprints, strict=True)
            if head_name not in typed and model.fingerprint(_dtype(expected)) == expected
        ]
        if not alike:
            raise OptionError(
                parameter("backbones")
                + f" names {name}, but the head needs {', '.join(saved.backbones)}, and this one "
                "computes something else; leave it out"
            )
        further = [each for each in saved.inputs if each not in saved.backbones and seen_in(each, PLAIN) == alike[0]]
        typed |= {alike[0]: name} | {each: seen_in(name, view_in(each)) for each in further}
    unknown = [name for name in saved.inputs if name not in typed]
    if unknown:
        raise UnknownNameError(_how_to_go_on(unknown[0]))
    return [typed[name] for name in saved.inputs]


def _is_known(name: str) -> bool:
    """Whether a name says which backbone it is; imported embeddings may be called anything."""
    try:
        get_spec(name)
    except DvmeError:
        return False
    return True


def _how_to_go_on(name: str) -> str:
    base = split_name(name)[0]
    return (
        f"the head's backbone {name!r} is not known by name, so images cannot be extracted for it; pass your own with "
        + parameter("backbones", ["FILE.py:NAME"])
        + " or "
        + parameter("architectures", {base: "ARCHITECTURE"})
        + " "
        + parameter("weights", {base: "FILE"})
        + ", or extract these images into a "
        f"cache with dvme extract IMAGES NEW.zarr (embeddings made elsewhere: dvme cache import FILE NEW.zarr "
        f"--backbone {name} --like CACHE, the head's), then pass the cache"
    )


def _dtype(fingerprint: Fingerprint) -> str:
    return str(fingerprint.fields.get("dtype", "float32"))
