"""Any timm model as a backbone, `timm:NAME` or `hf-hub:ORGANISATION/NAME`, with its own weights and preprocessing."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvme.backbones.description.spec import BackboneSpec, Preprocess
from dvme.backbones.description.timm_names import is_mentioned, nearest
from dvme.backbones.description.variation import split_name
from dvme.backbones.model.architectures import import_timm
from dvme.backbones.weights.finding import fetch
from dvme.backbones.weights.hub import WEIGHT_FILES, hub_config, hub_file, pretrained_settings, split_hub_name
from dvme.errors import UnknownNameError, parameter


def timm_spec(name: str) -> BackboneSpec:
    """The spec of `timm:NAME`, read off timm's pretrained configuration.

    Raises:
        UnknownNameError: if timm has no such model, or only untrained ones.
    """
    model = name.partition(":")[2]
    if not is_mentioned(model):
        raise _unknown(model, nearest(model, cutoff=0.4))
    timm = import_timm()
    architecture, _, tag = model.partition(".")
    tagged = timm.list_pretrained(f"{architecture}.*")
    if model not in (tagged if tag else timm.list_models()):
        candidates = tagged if timm.is_model(architecture) else timm.list_models()
        raise _unknown(model, difflib.get_close_matches(model, candidates, n=1, cutoff=0.4))
    config = timm.get_pretrained_cfg(model)
    if not (config.url or config.hf_hub_id or config.file):
        raise UnknownNameError(f"timm publishes no weights for {model!r}; choose a name of timm.list_pretrained()")
    return BackboneSpec(
        name=name,
        method=tag or "timm's default",
        architecture=model,
        dim=None,
        pooling="model",
        preprocess=_preprocess(name, config),
        checkpoint=None,
        source="timm",
        licence=config.license or "not stated",
        paper=config.paper_name or "see timm",
    )


def _unknown(model: str, near: Sequence[str]) -> UnknownNameError:
    hint = f"did you mean 'timm:{near[0]}'?" if near else "timm.list_pretrained() lists them"
    return UnknownNameError(f"timm has no model {model!r}; {hint}")


def hub_spec(name: str) -> BackboneSpec:
    """The spec of `hf-hub:ORGANISATION/NAME`, read off the configuration in that repository.

    Raises:
        WeightsError: if the configuration is not here and cannot be fetched.
        UnknownNameError: if the repository is no timm model, or of an architecture that this timm lacks.
    """
    config = hub_config(name)
    timm = import_timm()
    architecture = config["architecture"]
    if not timm.is_model(architecture):
        raise UnknownNameError(
            f"{name} is a {architecture!r}, which timm {timm.__version__} does not have; update timm"
        )
    known = timm.models.PretrainedCfg.__dataclass_fields__
    try:
        settings = pretrained_settings(config)
        published = timm.models.PretrainedCfg(**{key: value for key, value in settings.items() if key in known})
        arguments = {"num_classes": int(settings["num_classes"]), **(config.get("model_args") or {})}
        if published.fixed_input_size:
            arguments.setdefault("img_size", int(published.input_size[-1]))
        preprocess = _preprocess(name, published)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        if isinstance(error, UnknownNameError):
            raise
        raise UnknownNameError(f"{name}: its config.json is not as timm writes it ({error}); use another") from error
    return BackboneSpec(
        name=name,
        method="see the model card",
        architecture=architecture,
        architecture_args=arguments,
        dim=None,
        pooling="model",
        preprocess=preprocess,
        checkpoint=None,
        source="hub",
        licence=settings.get("license") or "not stated",
        paper="see the model card",
    )


def published_weights(spec: BackboneSpec) -> Path:
    """The local file of a timm or hub model's weights, downloaded on first use.

    Raises:
        WeightsError: if it is not here and cannot be fetched.
    """
    base = split_name(spec.name)[0]
    option = "download it elsewhere and pass " + parameter("weights", {base: "PATH"})
    if spec.source == "hub":
        repository, revision = split_hub_name(base)
        return hub_file(repository, WEIGHT_FILES, option, revision=revision)
    config = import_timm().get_pretrained_cfg(spec.architecture)
    if config is None or not (config.url or config.hf_hub_id):
        raise UnknownNameError(
            f"{spec.name}: timm publishes no weights for {spec.architecture!r}; choose a name of "
            "timm.list_pretrained(), or add a [checkpoint]"
        )
    if not config.hf_hub_id:
        return fetch(config.url, Path(config.url).name, option=option)
    return hub_file(config.hf_hub_id, (config.hf_hub_filename,) if config.hf_hub_filename else WEIGHT_FILES, option)


def _preprocess(name: str, config: Any) -> Preprocess:
    channels, height, width = config.input_size
    if config.crop_pct > 1 or channels != 3 or height != width or config.crop_mode not in {"center", "squash"}:
        shape = f"input {config.input_size}, crop {config.crop_mode} of {config.crop_pct:g}"
        raise UnknownNameError(f"{name} wants {shape}; dvme feeds square RGB crops only")
    return Preprocess(
        resize=math.floor(height / config.crop_pct),
        crop=height,
        interpolation="bicubic" if config.interpolation == "random" else config.interpolation,
        mode=config.crop_mode,
        mean=tuple(config.mean),
        std=tuple(config.std),
    )
