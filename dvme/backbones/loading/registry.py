"""Backbones by name: the zoo, timm's and the hub's, installed packages' and the user's own, and their variations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.unknown import unknown_backbone
from dvme.backbones.description.variation import split_name, vary
from dvme.backbones.loading.timm_models import hub_spec, timm_spec
from dvme.backbones.own.custom import installed_names, installed_spec, spec_from_architecture, spec_from_toml
from dvme.backbones.own.own_python import spec_from_python
from dvme.backbones.weights.finding import is_here
from dvme.backbones.weights.hub import PREFIX as HUB_PREFIX
from dvme.backbones.zoo import ZOO
from dvme.errors import DvmeError, UnknownNameError, message_of

TIMM_PREFIX = "timm:"
_SPECS: dict[str, BackboneSpec] = {spec.name: spec for spec in ZOO}


def register(spec: BackboneSpec) -> BackboneSpec:
    """Add a backbone. A name is given once.

    Raises:
        ValueError: if the name is taken.
    """
    if spec.name in _SPECS:
        raise ValueError(f"backbone {spec.name!r} is registered twice")
    _SPECS[spec.name] = spec
    return spec


def names() -> list[str]:
    """Registered names in the order of registration; `timm:NAME` and others work besides them."""
    return list(_SPECS)


def listed(
    *,
    method: str | None = None,
    architecture: str | None = None,
    licence: str | None = None,
    is_commercial: bool = False,
    is_available: bool = False,
    tell: Callable[[str], None] | None = None,
) -> list[BackboneSpec]:
    """The known backbones, of installed packages as well, that fit every filter.

    Args:
        method: the whole name of a training method.
        architecture: part of an architecture's name.
        licence: part of a licence's name.
        is_commercial: without those whose licence forbids commercial use.
        is_available: only those that load now, without a network.
        tell: told what is wrong with a package whose backbone cannot be listed.
    """
    specs = list(_SPECS.values())
    for name in installed_names():
        try:
            specs += [] if name in _SPECS else [get_spec(name)]
        except DvmeError as error:
            if tell is not None:
                tell(message_of(error))
    return [
        spec
        for spec in specs
        if (method is None or spec.method == method.lower())
        and (architecture is None or architecture.lower() in spec.architecture.lower())
        and (licence is None or licence.lower() in spec.licence.lower())
        and not (is_commercial and spec.is_non_commercial)
        and not (is_available and not is_here(spec))
    ]


def get_spec(name: str) -> BackboneSpec:
    """The spec of a name.

    Args:
        name: registered, `timm:NAME`, `hf-hub:ORGANISATION/NAME`, `FILE.toml`, `FILE.py:NAME`, or the entry
            point of an installed package; each with variations, such as `@pool=class-token@size=448`.

    Raises:
        UnknownNameError: naming the nearest known name.
        OptionError: if a variation is not possible.
        DataError: if a file holds no spec.
    """
    base, options = split_name(name)
    return vary(_published_spec(base), options)


def named_spec(name: str, architectures: Mapping[str, str]) -> BackboneSpec:
    """The spec of a name, as `get_spec` takes it or with an architecture for a checkpoint of one's own.

    Args:
        name: with variations, if any.
        architectures: timm architectures, by names without variations.
    """
    base, options = split_name(name)
    if base not in architectures:
        return get_spec(name)
    return vary(spec_from_architecture(base, architectures[base]), options)


def _published_spec(name: str) -> BackboneSpec:
    if name in _SPECS:
        return _SPECS[name]
    if name.startswith(TIMM_PREFIX):
        return timm_spec(name)
    if name.startswith(HUB_PREFIX):
        return hub_spec(name)
    if name.endswith(".toml"):
        return spec_from_toml(Path(name))
    if ".py:" in name or name.endswith(".py"):
        return spec_from_python(name)
    spec = installed_spec(name)
    if spec is not None:
        return spec
    raise UnknownNameError(unknown_backbone(name, [*_SPECS.values()], installed_names()))
