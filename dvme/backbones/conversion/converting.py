"""One checkpoint to one .safetensors file: which reader a file needs, and the one place where trust matters."""

from __future__ import annotations

import pickle
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dvme.backbones.conversion.byol import is_byol, map_byol
from dvme.backbones.conversion.files import SUFFIX, check_source, check_target, tensorflow_prefix
from dvme.backbones.conversion.flatten import flatten
from dvme.backbones.conversion.inert import NeedsCodeError, TornError, load_inert
from dvme.backbones.conversion.pickled_arrays import ARRAY_REBUILDERS
from dvme.backbones.conversion.simclr import read_simclr
from dvme.backbones.conversion.torch_files import LEGACY_START, ZIP_MAGIC, read_legacy, read_zip
from dvme.backbones.weights.checkpoint import read_checkpoint
from dvme.backbones.weights.weight_choice import choice_between_sets
from dvme.errors import CheckpointError, parameter
from dvme.files import written_aside
from dvme.text import first_few

HEAD_BYTES = 32
SAFE_REMARK = "the file loads as it is: the conversion was not needed"
UNSAVABLE = (OSError, SafetensorError, RuntimeError, ValueError, LookupError, TypeError, MemoryError)

Format = Literal["tensorflow", "haiku", "pickle"]
Kind = Literal["zip", "legacy", "tar", "pickle"]


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint."""

    format: Format
    """Of the source; `pickle` is any file of PyTorch or of plain pickle."""
    n_tensors: int
    """Tensors in the new file."""
    dropped: list[str]
    """Names of what was no tensor, or no part of the backbone."""
    remarks: list[str]
    """What to know before the file is used, a sentence each."""
    had_to_trust: bool
    """Whether code of the source was run."""
    is_written: bool = True
    """False where the source loads as it is, so that there was nothing to convert."""


@dataclass(frozen=True)
class _Content:
    format: Format
    tensors: dict[str, Tensor]
    dropped: list[str]
    remarks: list[str]
    had_to_trust: bool = False


def convert(
    source: str | Path,
    target: str | Path,
    *,
    is_trusted: bool = False,
    overwrite: bool = False,
    force: bool = False,
) -> Conversion:
    """Write the tensors of a published checkpoint to a flat .safetensors file, if it needs that to be loaded.

    SimCLR's TensorFlow checkpoints and BYOL's haiku pickles get torchvision's ResNet names; the tensors of any other
    pickle keep their path, joined by dots. Nothing in the source is executed unless it is trusted and needs it.

    Args:
        source: a file, or of TensorFlow a prefix (`model.ckpt-225206`), one of its files, or their folder.
        target: the file to write, `*.safetensors`; whole or not at all.
        is_trusted: whether the source may run its code, if its tensors cannot be had without.
        overwrite: whether an existing target is replaced.
        force: whether a file that loads as it is gets converted too. Otherwise nothing is written, `is_written` is
            false: two files of the same weights, the second under flat names, would only confuse.

    Raises:
        CheckpointError: if the source is damaged, not known, or needs trust; if the target cannot be written.
    """
    source, target = Path(source), Path(target)
    check_target(source, target, overwrite=overwrite)
    check_source(source)
    try:
        content = _read(source, is_trusted=is_trusted)
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror or error}; name another file") from error
    if choice := choice_between_sets(content.tensors):
        content.remarks.append(choice)
    is_written = force or SAFE_REMARK not in content.remarks
    if is_written:
        _write(content.tensors, target)
    counts = (len(content.tensors), content.dropped, content.remarks, content.had_to_trust)
    return Conversion(content.format, *counts, is_written)


def _read(source: Path, *, is_trusted: bool) -> _Content:
    prefix = tensorflow_prefix(source)
    if prefix is not None:
        return _Content("tensorflow", *read_simclr(prefix))
    kind = _kind(source)
    if kind in ("zip", "legacy") and (content := _safe(source)) is not None:
        return _Content("pickle", *flatten(content, str(source)), [SAFE_REMARK])
    try:
        return _inert(source, kind)
    except (NeedsCodeError, TornError) as error:
        if is_trusted:
            return _trusted(source, kind)
        if isinstance(error, TornError):
            raise CheckpointError(f"{source} cannot be read as a checkpoint: {error}; fetch it again") from error
        message = (
            f"{source} needs unpickling: {error}; that runs whatever code the file contains, pass "
            + parameter("is_trusted", True)
            + " only for a file from a publisher you trust"
        )
        raise CheckpointError(message) from error


def _kind(source: Path) -> Kind:
    with source.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(ZIP_MAGIC):
        return "zip"
    if LEGACY_START in head:
        return "legacy"
    return "tar" if tarfile.is_tarfile(source) else "pickle"


def _safe(source: Path) -> Any:
    """The content if PyTorch's own allow-list is enough, else None."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols, on the way to a refusal
            return read_checkpoint(source)
    except CheckpointError:
        return None


def _inert(source: Path, kind: Kind) -> _Content:
    if kind == "tar":
        raise NeedsCodeError("it is of the tar format of the first releases of PyTorch")
    if kind == "pickle":
        with source.open("rb") as file:
            content = load_inert(file, ARRAY_REBUILDERS)
        if is_byol(content):
            return _Content("haiku", *map_byol(content, str(source)))
    else:
        content = read_zip(source) if kind == "zip" else read_legacy(source)
    return _Content("pickle", *flatten(content, str(source)), [])


def _trusted(source: Path, kind: Kind) -> _Content:
    """Unpickle in full: this runs what the file says."""
    try:
        if kind == "pickle":
            with source.open("rb") as file:
                content = pickle.load(file)  # noqa: S301 - the caller trusts the publisher
        else:
            content = torch.load(source, map_location="cpu", weights_only=False)
    # The file's own code may raise anything at all.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        message = f"{source} cannot be unpickled: {reason}; install what it names, or fetch it again"
        raise CheckpointError(message) from error
    tensors, dropped = flatten(content, str(source))
    return _Content("pickle", tensors, dropped, ["the file's own code was run to unpickle it"], had_to_trust=True)


def _write(tensors: dict[str, Tensor], target: Path) -> None:
    odd = [f"{name} ({_oddity(tensor)})" for name, tensor in tensors.items() if _oddity(tensor)]
    if odd:
        message = (
            f"{target} cannot be written: {SUFFIX} files hold dense tensors of plain numbers, not {first_few(odd)}"
        )
        raise CheckpointError(f"{message}; save these as such, or leave them out")
    try:
        # A file knows no views: shared and strided tensors are written out one by one.
        whole = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        with written_aside(target) as aside:
            aside.touch()
            mode = aside.stat().st_mode  # by the umask; safetensors makes files for their owner only
            save_file(whole, aside, metadata={"format": "pt"})
            aside.chmod(mode)
    except UNSAVABLE as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{target} cannot be written: {reason}; free space, or name another file") from error


def _oddity(tensor: Tensor) -> str:
    """What keeps a tensor out of a file of dense tensors; "" if nothing does."""
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    return "complex" if tensor.is_complex() else ""
