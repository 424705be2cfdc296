"""Files and models of the Hugging Face hub: from its local cache, or downloaded on first use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvme.backbones.weights.finding import check_host
from dvme.errors import UnknownNameError, WeightsError

PREFIX = "hf-hub:"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def split_hub_name(name: str) -> tuple[str, str | None]:
    """(repository, revision) of `hf-hub:ORGANISATION/NAME` or `hf-hub:ORGANISATION/NAME@REVISION`."""
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    return repository, revision or None


def hub_config(name: str) -> dict[str, Any]:
    """The timm configuration that a hub repository publishes beside its weights.

    Raises:
        WeightsError: if it is not here and cannot be fetched.
        UnknownNameError: if the repository is none of timm's.
    """
    repository, revision = split_hub_name(name)
    option = f"download config.json and the weights into the hub's cache (hf download {repository}) and run again"
    path = hub_file(repository, ("config.json",), option, revision=revision)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is no configuration ({error}); {option}") from error
    if not isinstance(config, dict) or "architecture" not in config:
        message = f"{repository} is no timm model: its config.json names no timm architecture"
        raise UnknownNameError(f"{message}; describe it in a TOML file instead (examples/own_backbone.toml)")
    return config


def pretrained_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that is about input and classifier; older files have it at the top."""
    settings = config.get("pretrained_cfg") or config
    return dict(settings) | {"num_classes": config.get("num_classes", settings.get("num_classes", 1000))}


def hub_file(repository: str, filenames: tuple[str, ...], option: str, *, revision: str | None = None) -> Path:
    """The first of the files that a hub repository has, from the local hub cache if it is there.

    Raises:
        WeightsError: with `option`, if it is not here and cannot be fetched.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    place = f"{filenames[0]} of {repository}, published at {constants.ENDPOINT}/{repository}"
    try:
        for filename in filenames:
            cached = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision)
            if isinstance(cached, str):
                return Path(cached)
        check_host(constants.ENDPOINT)
        for filename in filenames:
            try:
                return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision))
            except LocalEntryNotFoundError:
                raise  # no network: the next file name would fail just as slowly
            except EntryNotFoundError:
                continue
    except HFValidationError as error:
        raise UnknownNameError(
            f"{PREFIX}{repository} is no name of a hub repository; pass ORGANISATION/NAME"
        ) from error
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"cannot fetch {place} ({reason}); " + option) from error
    raise WeightsError(f"cannot find {place}; " + option)
