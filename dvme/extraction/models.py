"""The backbones of a run: loaded, checked against the cache, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.backbones.description.code_identity import is_plain
from dvme.backbones.description.dense import Grid, grids_of, grids_text
from dvme.backbones.description.layers import LAST
from dvme.backbones.description.precision import TF32, check_named_device
from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.variation import DENSE, seen_in, split_name, vary, vary_name
from dvme.backbones.description.view import PLAIN, further_views
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.loading.known import Facts, place_of
from dvme.backbones.loading.registry import get_spec
from dvme.backbones.model.quantised import INT8
from dvme.backbones.own.custom import spec_from_architecture, spec_to_mapping
from dvme.backbones.own.trained_on import provenance_of, read_trained_on
from dvme.backbones.weights.finding import check_weights
from dvme.data.dicom import decoding_fields
from dvme.environment import installed
from dvme.errors import OptionError, parameter
from dvme.runtime import Runtime, keep_freed_memory
from dvme_cache import EmbeddingCache, Fingerprint, FingerprintMismatchError

if TYPE_CHECKING:
    from dvme.backbones.loading.model import Backbone

DTYPES = ("float32", "float16", INT8)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which backbones to load, and with which files."""

    names: Sequence[str]
    """Names as `get_spec` takes them, or those of `architectures`; with variations, if any."""
    weights: Mapping[str, str | Path] = field(default_factory=dict)
    """Local checkpoints by name, with or without variations."""
    architectures: Mapping[str, str] = field(default_factory=dict)
    """Architectures of torchvision-style checkpoints, by a name of the user's own."""
    precision: str | None = None
    """What all of them compute in, but for those whose name says it; None: as their descriptions do."""

    def specs(self) -> list[BackboneSpec]:
        """What each name stands for.

        Raises:
            OptionError: if none is named, one is named twice, or weights or architectures are given for another.
            UnknownNameError, DataError: if a name stands for nothing.
        """
        if not self.names:
            raise OptionError(
                "no backbone is named; pass " + parameter("backbones", ["supervised", "dino"]) + " or others"
            )
        specs = [self._spec(name) for name in self.names]
        known = [spec.name for spec in specs]
        if len(set(known)) != len(known):
            raise OptionError(f"a backbone is named twice in {','.join(self.names)}; name each once")
        bases = {split_name(name)[0] for name in (*known, *self.names)}
        for option, given in ((parameter("weights"), self.weights), (parameter("architectures"), self.architectures)):
            stray = sorted(set(given) - bases - set(known) - set(self.names))
            if stray:
                raise OptionError(
                    option
                    + f" names {', '.join(stray)}, but "
                    + parameter("backbones")
                    + " does not; name it there too"
                )
        return specs

    def file_of(self, spec: BackboneSpec) -> Path | None:
        """The local checkpoint of a spec, if one is given for it: as it is called, or as it was typed."""
        typed = [name for name in self.names if self._spec(name).name == spec.name]
        whole = [spec.name, *typed]
        for name in (*whole, *(seen_in(each, PLAIN) for each in whole), *(split_name(each)[0] for each in whole)):
            if name in self.weights:
                return Path(self.weights[name])
        return None

    def _spec(self, name: str) -> BackboneSpec:
        if self.precision is not None:
            name = vary_name(name, {"precision": self.precision})
        base, options = split_name(name)
        if base not in self.architectures:
            return get_spec(name)
        return vary(spec_from_architecture(base, self.architectures[base]), options)


def seen_in_views(names: Sequence[str], views: int | str) -> list[str]:
    """Each backbone followed by itself in the further views of the images.

    Args:
        names: of backbones.
        views: as `further_views` takes it.

    Raises:
        OptionError: if there are no such views, or a name says one already.
    """
    further = further_views(views)
    stray = next((name for name in names if further and seen_in(name, PLAIN) != name), None)
    if stray is not None:
        message = f"{stray} is a view already; leave that out of its name, or leave out "
        raise OptionError(message + parameter("views"))
    return [seen for name in names for seen in (name, *(seen_in(name, view) for view in further))]


def densely(names: Sequence[str], layers: str | None, *, is_dense: bool) -> list[str]:
    """Each backbone with its dense features in place of one vector, but for those whose name says which.

    Args:
        names: of backbones.
        layers: `last`, `last-4` or `3,6,9,12`; None: the last, if any.
        is_dense: whether dense features are asked for, which layers say by themselves.
    """
    if not is_dense and layers is None:
        return list(names)
    return [vary_name(name, {DENSE: (layers or LAST).replace(" ", "").replace(",", "+")}) for name in names]


@dataclass(frozen=True)
class KnownBackbone:
    """A backbone that was loaded before and is not now: enough to say what a cache has of it."""

    spec: BackboneSpec
    file: Path | None
    """Its local checkpoint, if the user gave one."""
    facts: Facts
    runtime: Runtime

    @property
    def dim(self) -> int:
        """D, the feature dimension."""
        return self.facts.dim

    @property
    def grids(self) -> tuple[Grid, ...]:
        """As `Backbone.grids`."""
        return grids_of({"maps": self.facts.maps})

    @property
    def choice(self) -> str:
        """As `Backbone.choice`."""
        return self.facts.choice

    def fingerprint(self, dtype: str) -> Fingerprint:
        """As `Backbone.fingerprint`."""
        facts = self.facts
        return fingerprint_of(self.spec, weights=facts.weights, dim=facts.dim, dtype=dtype, maps=facts.maps)


@dataclass(frozen=True)
class NewBackbone:
    """A backbone that is not loaded, and of which nothing is known before it is."""

    spec: BackboneSpec
    file: Path | None
    """Its local checkpoint, if the user gave one."""
    runtime: Runtime


def recall_backbones(choice: Choice, runtime: Runtime) -> Sequence[Backbone | KnownBackbone]:
    """Every chosen backbone: as it is known from an earlier load where that holds for all of them, else loaded.

    Raises:
        OptionError: if the choice contradicts itself.
        UnknownNameError, WeightsError, CheckpointError: if one cannot be loaded.
    """
    found = find_backbones(choice, runtime)
    known = [model for model in found if isinstance(model, KnownBackbone)]
    return known if len(known) == len(found) else load_known(found)


def find_backbones(choice: Choice, runtime: Runtime) -> list[KnownBackbone | NewBackbone]:
    """Every chosen backbone, as it is known from an earlier load, or else new; none is loaded.

    Raises:
        OptionError: if the choice contradicts itself.
        UnknownNameError, WeightsError: if there is no such backbone, or not the file that is given for it.
        DataError: if one was trained on images and their list cannot be read.
    """
    found: list[KnownBackbone | NewBackbone] = []
    for spec in choice.specs():
        read_trained_on(spec)  # refused before anything is computed
        file = choice.file_of(spec)
        place = place_of(spec, file)
        facts = None if place is None else place.recall()
        known = None if facts is None else KnownBackbone(spec, file, facts, runtime)
        found.append(known or NewBackbone(spec, file, runtime))
    return found


def load_known(
    models: Sequence[Backbone | KnownBackbone | NewBackbone], check: Callable[[], None] = lambda: None
) -> list[Backbone]:
    """Load those that are not; `check` is called before each, and what it raises ends this.

    Raises:
        WeightsError, CheckpointError: if one cannot be loaded, or not any more.
        OptionError: if the device does not have the precision of one; then none is loaded.
    """
    lacking = [model for model in models if isinstance(model, KnownBackbone | NewBackbone)]
    loaded = load_specs([(each.spec, each.file) for each in lacking], lacking[0].runtime, check) if lacking else []
    ready = iter(loaded)
    return [next(ready) if isinstance(model, KnownBackbone | NewBackbone) else model for model in models]


def load_specs(
    specs: Sequence[tuple[BackboneSpec, Path | None]], runtime: Runtime, check: Callable[[], None] = lambda: None
) -> list[Backbone]:
    """Load backbones, each with its local checkpoint if it has one, on the runtime's device.

    What the next run can know of them without loading them is kept. What differs in the view alone is loaded once.
    `check` is as in `load_known`.

    Raises:
        WeightsError, CheckpointError: if one cannot be loaded.
        OptionError: if the device does not have the precision of one; then none is loaded.
    """
    for spec, file in specs:
        check_weights(spec, file)
    _check_precisions([spec for spec, _ in specs], runtime)
    device = runtime.torch_device()
    if device == "cpu":
        keep_freed_memory()
    from dvme.backbones.loading.model import in_view, load_backbone

    models: list[Backbone] = []
    for spec, file in specs:
        check()
        seen = in_view(spec, (own for own, (_, given) in zip(models, specs, strict=False) if given == file))
        if seen is not None:
            models.append(seen)
            continue
        place = place_of(spec, file)
        model = load_backbone(spec, weights=file, device=device)
        if place is not None and place == place_of(spec, file):  # the file stayed as it was
            place.keep(Facts(model.weights_hash, model.dim, model.choice, grids_text(model.grids)))
        models.append(model)
    return models


def _check_precisions(specs: Sequence[BackboneSpec], runtime: Runtime) -> None:
    """By the device's name where that tells, which takes no torch."""
    for spec in specs:
        check_named_device(spec, runtime.device)
    if any(spec.precision == TF32 for spec in specs):
        from torch import device

        from dvme.backbones.model.precision import check_precision

        for spec in specs:
            for name in runtime.torch_devices():
                check_precision(spec, device(name))


def check_dtype(dtype: str | None, specs: Sequence[BackboneSpec] = ()) -> None:
    """Refuse a stored type that there is not, or that one of the backbones cannot have.

    Raises:
        OptionError: naming the choices.
    """
    if dtype not in (None, *DTYPES):
        raise OptionError(f"dtype {dtype!r} is not known; choose one of {', '.join(DTYPES)}")
    pooled = next((spec.name for spec in specs if dtype == INT8 and not spec.dense), None)
    if pooled is not None:
        step = f"choose float16, or the tokens of layers, as in {pooled}@dense=last"
        raise OptionError(parameter("dtype", dtype) + f" is for dense features, {pooled} gives one vector; {step}")


def check_fingerprints(
    cache: EmbeddingCache,
    models: Sequence[Backbone | KnownBackbone],
    dtype_of: Callable[[Backbone | KnownBackbone], str],
    kinds: Collection[str] = (),
) -> None:
    """Refuse to mix embeddings that were made differently.

    Args:
        cache: what there is.
        models: what is asked for.
        dtype_of: in which type the embeddings of each would be stored.
        kinds: as `Identified.kinds`, once they are known.

    Raises:
        FingerprintMismatchError: naming every field that differs, with both values.
    """
    for model in models:
        try:
            made = model.fingerprint(dtype_of(model)).with_fields(decoding_fields(kinds))
            cache.check_fingerprint(model.spec.name, made)
        except FingerprintMismatchError as error:
            raise FingerprintMismatchError(f"{error}, which " + parameter("replace", True) + " does") from error


def provenance(model: Backbone) -> dict[str, Any]:
    """What is worth knowing of a model's origin and does not change its numbers."""
    versions = {name: installed(name) for name in ("dvme", "torch", "torchvision", "timm", "pillow")}
    is_repeatable = model.spec.build is None and is_plain(model.spec.architecture_args)
    return provenance_of(model.spec) | {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(model.device),
        "licence": model.spec.licence,
        "paper": model.spec.paper,
        "spec": spec_to_mapping(model.spec) if is_repeatable else None,
        "versions": versions,
    }
