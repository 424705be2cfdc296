"""Any timm model as a backbone: `timm:NAME`, with timm's own weights and preprocessing."""

from __future__ import annotations

import difflib
import math
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.backbones.spec import BackboneSpec, Preprocess
from dvme.backbones.weights import fetch
from dvme.errors import CheckpointError, UnknownNameError, WeightsError

if TYPE_CHECKING:
    from torch import nn

HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def import_timm() -> Any:
    """The module timm, or one readable message about what keeps it from being imported.

    Raises:
        EnvironmentMismatchError: if torch and torchvision do not fit together.
    """
    from dvme.backbones.environment import explain_import

    with explain_import():
        import timm
    return timm


def timm_spec(name: str) -> BackboneSpec:
    """The spec of `timm:NAME`, read off timm's pretrained configuration.

    Raises:
        UnknownNameError: if timm has no such model, or only untrained ones.
    """
    timm = import_timm()
    model = name.partition(":")[2]
    architecture, _, tag = model.partition(".")
    known = timm.list_models() if not tag else timm.list_pretrained(f"{architecture}.*")
    if model not in known:
        candidates = (
            timm.list_models() if not timm.is_model(architecture) else timm.list_pretrained(f"{architecture}.*")
        )
        nearest = difflib.get_close_matches(model, candidates, n=1, cutoff=0.4)
        hint = f"did you mean 'timm:{nearest[0]}'?" if nearest else "timm.list_pretrained() lists them"
        raise UnknownNameError(f"timm has no model {model!r}; {hint}")
    config = timm.get_pretrained_cfg(model)
    if not (config.url or config.hf_hub_id or config.file):
        raise UnknownNameError(f"timm publishes no weights for {model!r}; choose a name of timm.list_pretrained()")
    return BackboneSpec(
        name=name,
        architecture=model,
        dim=None,
        pooling="model",
        preprocess=_preprocess(model, config),
        checkpoint=None,
        source="timm",
        licence=config.license or "not stated",
        paper=config.paper_name or "see timm",
    )


def timm_weights(spec: BackboneSpec) -> Path:
    """The local file of a timm model's weights, downloaded on first use.

    Raises:
        WeightsError: if it is not here and cannot be fetched.
    """
    config = import_timm().get_pretrained_cfg(spec.architecture)
    option = f"download it elsewhere and pass --weights {spec.name}=PATH"
    if not config.hf_hub_id:
        return fetch(config.url, Path(config.url).name, option=option)
    return _from_hub(config.hf_hub_id, (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES, option)


def load_timm_model(spec: BackboneSpec, weights: Path) -> nn.Module:
    """Build the model with its classifier, load strictly, then take the classifier off.

    timm falls back to a non-strict load when asked for another number of classes than the file has,
    and a renamed layer then stays random without a word: hence this order.

    Raises:
        CheckpointError: if keys or shapes do not fit.
    """
    from dvme.backbones.checkpoint import read_checkpoint

    timm = import_timm()
    state = _unwrapped(read_checkpoint(weights))
    try:
        model = timm.create_model(
            spec.architecture,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": state},
            **spec.architecture_args,
        )
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{weights} does not fit {spec.architecture}: {reason}") from error
    model.reset_classifier(0)
    backbone: nn.Module = model
    return backbone


def _unwrapped(content: Any) -> Any:
    """The state dict of a training checkpoint, whose usual nestings timm accepts as well."""
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise CheckpointError("the checkpoint holds no state dict; is it the file of this backbone?")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _from_hub(repository: str, filenames: tuple[str, ...], option: str) -> Path:
    """The first of the files that the hub repository has, from the local hub cache if it is there."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for filename in filenames:
        cached = huggingface_hub.try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            return Path(cached)
    place = f"{filenames[0]} of {repository}, published at {huggingface_hub.constants.ENDPOINT}/{repository}"
    try:
        _check_host(huggingface_hub.constants.ENDPOINT)
        for filename in filenames:
            try:
                return Path(huggingface_hub.hf_hub_download(repository, filename))
            except LocalEntryNotFoundError:
                raise  # no network: the next file name would fail just as slowly
            except EntryNotFoundError:
                continue
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"cannot fetch {place} ({reason}); {option}") from error
    raise WeightsError(f"cannot find {place}; {option}")


def _check_host(address: str) -> None:
    """Fail at once where the host has no address, instead of after a minute of retries."""
    if not urllib.request.getproxies():
        socket.getaddrinfo(urllib.parse.urlparse(address).hostname, 443)


def _preprocess(model: str, config: Any) -> Preprocess:
    channels, height, width = config.input_size
    if config.crop_pct > 1 or channels != 3 or height != width or config.crop_mode not in {"center", "squash"}:
        shape = f"input {config.input_size}, crop {config.crop_mode} of {config.crop_pct:g}"
        raise UnknownNameError(f"timm:{model} wants {shape}; dvme feeds square RGB crops only")
    return Preprocess(
        resize=math.floor(height / config.crop_pct),
        crop=height,
        interpolation="bicubic" if config.interpolation == "random" else config.interpolation,
        mode=config.crop_mode,
        mean=tuple(config.mean),
        std=tuple(config.std),
    )
