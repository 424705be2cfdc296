"""The files of a conversion, looked at before torch is imported."""

from __future__ import annotations

from pathlib import Path

from dvme.backbones.weights.file_kinds import is_no_checkpoint, is_safetensors
from dvme.errors import CheckpointError
from dvme.text import first_few

SUFFIX = ".safetensors"
INDEX, SHARD, GRAPH = ".index", ".data-", ".meta"


def check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Refuse a place where the file cannot be written.

    Raises:
        CheckpointError: saying why.
    """
    if target.suffix != SUFFIX:
        raise CheckpointError(f"{target} would not be read again: name a file that ends in {SUFFIX}")
    if target.is_dir() or not target.parent.is_dir():
        reason = "is a folder" if target.is_dir() else "is in no existing folder"
        raise CheckpointError(f"{target} {reason}; name a new file, in an existing folder")
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(f"{target} is the source itself; name another file to write")
    if target.exists() and not overwrite:
        raise CheckpointError(f"{target} exists already; remove it, or name another file to write")


def check_source(source: Path) -> None:
    """Refuse what is no checkpoint, or one that needs no conversion.

    Raises:
        CheckpointError: saying what it is.
    """
    if tensorflow_prefix(source) is not None:
        return
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist; name a checkpoint, or the prefix of a TensorFlow checkpoint")
    try:
        is_converted, refusal = is_safetensors(source), is_no_checkpoint(source)
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror or error}; name another file") from error
    if is_converted:
        raise CheckpointError(f"{source} needs no conversion: it is a {SUFFIX} file, pass it as it is")
    if refusal:
        raise CheckpointError(refusal)


def tensorflow_prefix(source: Path) -> Path | None:
    """What the files of a TensorFlow checkpoint have in common; None if the source is none.

    Raises:
        CheckpointError: if a folder holds none, or several.
    """
    if source.is_dir():
        indices = sorted(source.glob(f"*{INDEX}"))
        if len(indices) != 1:
            held = first_few(index.name for index in indices) or "none"
            raise CheckpointError(f"{source} should hold one TensorFlow checkpoint, its indices are {held}; name one")
        return indices[0].with_suffix("")
    names = [source.name.removesuffix(INDEX), source.name.rpartition(SHARD)[0], source.name.removesuffix(GRAPH)]
    for name in (source.name, *names):
        if name and source.with_name(f"{name}{INDEX}").is_file():
            return source.with_name(name)
    return None
