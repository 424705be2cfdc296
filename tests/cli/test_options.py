"""The options of all commands: each declared once, named as the library's fields, with the library's defaults."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

import dvme
from dvme.backbones import get_spec, listed
from dvme.backbones.conversion.converting import convert
from dvme.backbones.diagnosis import diagnose
from dvme_cli import options
from dvme_cli.app import app
from dvme_cli.spelling import commands_of, declared, option_of

COMMANDS = dict(commands_of(app))
OTHER_NAMES: dict[str, Callable[..., Any]] = {
    "report": dvme.write_report,
    "cache import": dvme.cache.import_embeddings,
    "backbones list": listed,
    "backbones show": get_spec,
    "backbones check": diagnose,
    "backbones convert": convert,
}
ONLY_TYPED = {"json", "plan", "pool", "image_size", "in_chans", "preprocess"}
"""What to print, which of two functions to call, and what varies the names of backbones."""
SETTINGS = (dvme.Columns, dvme.PageOptions, dvme.Runtime, dvme.SubsetOptions)


def called_by(command: str) -> Callable[..., Any]:
    """The public function of a command."""
    name = command.removeprefix("cache ")
    return OTHER_NAMES.get(command) or getattr(dvme if name == command else dvme.cache, name)


def fields_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameters, and the fields of the settings that it takes, with their defaults."""
    found: dict[str, Any] = {}
    for name, each in inspect.signature(function).parameters.items():
        kinds = [kind for kind in SETTINGS if f"{each.annotation}".startswith(kind.__name__)]
        found |= fields_of(kinds[0]) if kinds else {name: each.default}
    return found


def every_option() -> Iterator[tuple[str, str, Any]]:
    """(command, parameter, declaration)."""
    for command, function in COMMANDS.items():
        for name, info in declared(function):
            yield command, name, info


def test_options__of_several_commands_stand_in_one_module() -> None:
    shared = [meta for each in vars(options).values() for meta in getattr(each, "__metadata__", ())]
    by_option: dict[str, list[Any]] = {}
    for _, name, info in every_option():
        by_option.setdefault(option_of(name, info), []).append(info)
    several = {name: infos for name, infos in by_option.items() if len(infos) > 1}
    assert len(several["--json"]) == len(COMMANDS)
    assert {name for name, infos in several.items() if not all(info in shared for info in infos)} == set()
    helps = [info.help for info in shared]
    assert len(helps) == len(set(helps))


@pytest.mark.parametrize("command", COMMANDS)
def test_options__are_fields_of_the_function_with_its_defaults(command: str) -> None:
    fields = fields_of(called_by(command))
    typed = inspect.signature(COMMANDS[command]).parameters
    for name, info in declared(COMMANDS[command]):
        if name in ONLY_TYPED:
            continue
        ours = typed[name].default
        default = fields[name] if fields[name] not in {inspect.Parameter.empty, ()} else None
        shown = ",".join(default) if isinstance(default, tuple) else default
        documented = re.search(r"Default: (.+?)\.(?:\s|$)", info.help)
        if ours is not None and ours is not inspect.Parameter.empty:
            assert (ours, documented) == (shown, None), name
        elif documented and default is not None:
            assert documented[1] == f"{shown}", name
        else:
            assert not default, name
            assert not documented or not re.fullmatch(r"[\d.,]+", documented[1]), name


def test_options__defaults_that_functions_find_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    helps = {name: info.help for command, name, info in every_option() if command == "extract"}
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    runtime = dvme.Runtime()
    assert (
        f"{runtime.images_per_batch('cpu')} on the CPU, {runtime.images_per_batch('cuda')} else" in helps["batch_size"]
    )
    assert f"up to {runtime.n_workers}." in helps["workers"]
    assert Image.MAX_IMAGE_PIXELS is not None
    assert f"Default: {2 * Image.MAX_IMAGE_PIXELS:,}," in helps["max_pixels"]
