"""The options of all commands: each declared once, named as the library's fields, with the library's defaults."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dvme
from dvme.backbones import get_spec, listed
from dvme.backbones.conversion.converting import convert
from dvme.backbones.loading.diagnosis import diagnose
from dvme.errors import parameter
from dvme_cli import image_options, options, pages
from dvme_cli.app import app
from dvme_cli.spelling import COMMAND, commands_of, declared, option_of, spelled

COMMANDS = dict(commands_of(app))
OTHER_NAMES: dict[str, Callable[..., Any]] = {
    "report": dvme.write_report,
    "cache import": dvme.cache.import_embeddings,
    "backbones list": listed,
    "backbones show": get_spec,
    "backbones check": diagnose,
    "backbones convert": convert,
}
ONLY_TYPED = {
    "json",
    "plan",
    "pool",
    "image_size",
    "in_chans",
    "preprocess",
    "range_",
    "bits",
    "voi",
    "draft",
    "bibtex",
}
"""What to print, which of two functions to call, and what varies the names of backbones."""
SETTINGS = (dvme.Columns, dvme.PageOptions, dvme.Runtime, dvme.SubsetOptions)


def called_by(command: str) -> Callable[..., Any]:
    """The public function of a command."""
    if command.startswith("data "):
        return dvme.public_sets if command == "data list" else dvme.public_set
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


def test_options__of_several_commands_stand_in_three_modules() -> None:
    shared = [
        meta
        for module in (options, image_options, pages)
        for each in vars(module).values()
        for meta in getattr(each, "__metadata__", ())
    ]
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
            assert documented[1].replace(", ", ",") == f"{shown}", name
        else:
            assert not default, name
            assert not documented or not re.fullmatch(r"[\d.,]+", documented[1]), name


def test_options__defaults_that_functions_find_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    helps = {name: info.help for command, name, info in every_option() if command == "extract"}
    monkeypatch.setattr("dvme.runtime.available_cores", lambda: 1000)
    runtime = dvme.Runtime()
    assert (
        f"{runtime.images_per_batch('cpu')} on the CPU, {runtime.images_per_batch('cuda')} else" in helps["batch_size"]
    )
    assert f"up to {runtime.n_workers}." in helps["workers"]
    assert Image.MAX_IMAGE_PIXELS is not None
    assert f"Default: {2 * Image.MAX_IMAGE_PIXELS:,}," in helps["max_pixels"]


def named_parameters() -> dict[str, str]:
    """Every parameter that a message of the library names, and a place where it does."""
    found = {}
    for path in sorted((Path(dvme.__file__).parent).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "parameter":
                (name, *_) = node.args
                assert isinstance(name, ast.Constant), (path.name, node.lineno)
                found[f"{name.value}"] = f"{path.name}:{node.lineno}"
    return found


def test_messages__name_parameters_that_functions_and_commands_have() -> None:
    functions = {name for command in COMMANDS for name in fields_of(called_by(command))}
    typed = {name for _, name, _ in every_option()}
    named = named_parameters()
    assert len(named) > 30
    assert {name: place for name, place in named.items() if name not in functions & typed} == {}


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        ("sweep", parameter("n_folds", 2) + " or more", "--folds 2 or more"),
        ("sweep", "leave out " + parameter("sizes") + ", " + parameter("n_folds"), "leave out --sizes, --folds"),
        ("sweep", parameter("heads", ["linear", "a,b"]), """--head 'linear,"a,b"'"""),
        ("extract", parameter("architectures", {"own": "x y"}), "--arch 'own=x y'"),
        ("extract", parameter("class_order", []), "--class-order ''"),
        ("extract", "below " + parameter("images"), "below IMAGES"),
        ("cache import", "below " + parameter("images"), "below --images"),
        ("cache prune", parameter("confirmed", True), "--yes"),
        ("viz", parameter("thumbnails", False), "--no-thumbnails"),
        ("info", parameter("label"), "--label-col"),
        ("info", "n_folds=2, {n_folds} --folds " + parameter("nowhere", 1), "n_folds=2, {n_folds} --folds nowhere=1"),
        ("info", "n_folds", "n_folds"),
    ],
)
def test_spelled__as_the_running_command_has_it(command: str, text: str, shown: str) -> None:
    token = COMMAND.set(COMMANDS[command])
    assert spelled(text) == shown
    COMMAND.reset(token)
    assert COMMAND.get() is None
