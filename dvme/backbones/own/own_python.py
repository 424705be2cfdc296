"""Backbones in a Python file of the user's: run once, and asked for the specs that it holds."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.own.custom import check_own_name, resolved
from dvme.errors import DataError
from dvme.text import CHOICES, first_few

PACKAGE = "dvme_own"


class _TextLoader(SourceFileLoader):
    """Runs the text that a module is named by: the file may change, and leave second and size of its bytecode as is."""

    def __init__(self, name: str, path: str, text: bytes) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.text, self.get_filename(fullname))


def spec_from_python(reference: str) -> BackboneSpec:
    """The spec that `FILE.py:NAME` holds, or that the function of that name returns. The file is run.

    Raises:
        DataError: if the file cannot be run, or has no spec of that name.
    """
    file, _, attribute = reference.rpartition(":")
    if not file:  # no name at all
        file, attribute = reference, ""
    module = _run(Path(file), reference)
    if not hasattr(module, attribute):
        raise DataError(_without(attribute, module, file))
    spec = resolved(getattr(module, attribute), reference)
    check_own_name(spec.name, reference)
    return spec


def _run(path: Path, reference: str) -> ModuleType:
    """The module of a file, run once for as long as the file stays as it is."""
    if not path.is_file():
        raise DataError(f"{reference}: there is no Python file {path}")
    text = path.read_bytes()
    identity = f"{path.resolve()} {text!r}"
    name = f"{PACKAGE}.{path.stem}_{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    description = importlib.util.spec_from_file_location(name, path, loader=_TextLoader(name, str(path), text))
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module  # dataclasses and pickles look there
    try:
        description.loader.exec_module(module)
    # A file may raise anything at all, and may try to end the process.
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = "it ends the process" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path} cannot be run: {reason}") from error
    return module


def _without(attribute: str, module: ModuleType, file: str) -> str:
    """Which backbones a file has, where one was asked for that it has not."""
    names = [name for name, value in vars(module).items() if isinstance(value, BackboneSpec)]
    asked = f"{file} holds no {attribute}" if attribute else f"{file} says no name"
    if not names:
        return f"{asked}, and no dvme.backbones.BackboneSpec; write one, and name it as {file}:NAME"
    return f"{asked}; pass {first_few((f'{file}:{name}' for name in names), CHOICES)}"
