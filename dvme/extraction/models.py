"""The backbones of a run: loaded, checked against the cache, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.backbones.code_identity import is_plain
from dvme.backbones.custom import spec_from_architecture, spec_to_mapping
from dvme.backbones.environment import installed
from dvme.backbones.registry import get_spec
from dvme.backbones.spec import BackboneSpec
from dvme.backbones.variation import split_name, vary
from dvme.errors import OptionError
from dvme.runtime import Runtime, keep_freed_memory
from dvme_cache import EmbeddingCache

if TYPE_CHECKING:
    from dvme.backbones.model import Backbone

DTYPES = ("float32", "float16")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which backbones to load, and with which files."""

    names: Sequence[str]
    """Names as `get_spec` takes them, or those of `architectures`; with variations, if any."""
    weights: Mapping[str, str | Path] = field(default_factory=dict)
    """Local checkpoints by name, with or without variations."""
    architectures: Mapping[str, str] = field(default_factory=dict)
    """Architectures of torchvision-style checkpoints, by a name of the user's own."""

    def specs(self) -> list[BackboneSpec]:
        """What each name stands for.

        Raises:
            OptionError: if none is named, one is named twice, or weights or architectures are given for another.
            UnknownNameError, DataError: if a name stands for nothing.
        """
        if not self.names:
            raise OptionError("no backbone is named; pass --backbones, such as --backbones supervised,dino")
        specs = [self._spec(name) for name in self.names]
        known = [spec.name for spec in specs]
        if len(set(known)) != len(known):
            raise OptionError(f"a backbone is named twice in {','.join(self.names)}; name each once")
        bases = {split_name(name)[0] for name in (*known, *self.names)}
        for option, given in (("--weights", self.weights), ("--arch", self.architectures)):
            stray = sorted(set(given) - bases - set(known) - set(self.names))
            if stray:
                raise OptionError(f"{option} names {', '.join(stray)}, which --backbones does not")
        return specs

    def file_of(self, spec: BackboneSpec) -> Path | None:
        """The local checkpoint of a spec, if one is given for it: as it is called, or as it was typed."""
        typed = [name for name in self.names if self._spec(name).name == spec.name]
        for name in (spec.name, *typed, split_name(spec.name)[0], *(split_name(name)[0] for name in typed)):
            if name in self.weights:
                return Path(self.weights[name])
        return None

    def _spec(self, name: str) -> BackboneSpec:
        base, options = split_name(name)
        if base not in self.architectures:
            return get_spec(name)
        return vary(spec_from_architecture(base, self.architectures[base]), options)


def load_backbones(choice: Choice, runtime: Runtime) -> list[Backbone]:
    """Load every chosen backbone on the runtime's device.

    Raises:
        OptionError: if the choice contradicts itself.
        UnknownNameError, WeightsError, CheckpointError: if one cannot be loaded.
    """
    return load_specs([(spec, choice.file_of(spec)) for spec in choice.specs()], runtime)


def load_specs(specs: Sequence[tuple[BackboneSpec, Path | None]], runtime: Runtime) -> list[Backbone]:
    """Load backbones, each with its local checkpoint if it has one, on the runtime's device."""
    from dvme.backbones.model import load_backbone

    device = runtime.torch_device()
    if device == "cpu":
        keep_freed_memory()
    return [load_backbone(spec, weights=file, device=device) for spec, file in specs]


def check_dtype(dtype: str) -> None:
    """Refuse a stored type that there is not.

    Raises:
        OptionError: naming the choices.
    """
    if dtype not in DTYPES:
        raise OptionError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")


def check_fingerprints(cache: EmbeddingCache, models: Sequence[Backbone], dtype: str) -> None:
    """Refuse to mix embeddings that were made differently.

    Raises:
        FingerprintMismatchError: naming every field that differs, with both values.
    """
    for model in models:
        cache.check_fingerprint(model.spec.name, model.fingerprint(dtype))


def provenance(model: Backbone) -> dict[str, Any]:
    """What is worth knowing of a model's origin and does not change its numbers."""
    versions = {name: installed(name) for name in ("dvme", "torch", "torchvision", "timm", "pillow")}
    is_repeatable = model.spec.build is None and is_plain(model.spec.architecture_args)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(model.device),
        "licence": model.spec.licence,
        "paper": model.spec.paper,
        "spec": spec_to_mapping(model.spec) if is_repeatable else None,
        "versions": versions,
    }
