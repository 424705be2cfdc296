"""Ctrl-C ends a command with one true line and exit code 130, wherever it is pressed; nothing half-written is left."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import once
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from dvme.adaptation.places import training_folder
from dvme.training.checkpoints import Epochs
from dvme_cli.app import app
from dvme_cli.console import expected_errors
from dvme_cli.interrupted import KEPT, add_command, kept_of
from dvme_cli.spelling import commands_of

PRESSED: list[tuple[list[str], str, str]] = [
    (["info", "c.zarr"], "zarr", "nothing was changed"),
    (["cache", "export", "c.zarr", "all.npz"], "dvme.upkeep.formats.npz", "all.npz is as it was"),
    (["cache", "label", "c.zarr", "table.parquet"], "pyarrow.parquet", "either all labels were changed or none"),
    (
        ["extract", "images", "new.zarr", "--backbones", "random"],
        "torch",
        "committed are kept, and the same command",
    ),
    (
        ["probe", "c.zarr", "--head", "knn", "--save", "heads"],
        "faiss",
        "nothing of a probe is kept; no head is in heads",
    ),
    (
        ["viz", "c.zarr", "--out", "page.html", "--method", "pca"],
        "dvme.report.html.thumbnails",
        "page.html holds no half page",
    ),
]
"""Command, the module during whose import Ctrl-C is pressed, what is said to be kept."""
CODE = """
import json, signal, sys
pressed_at = None

class Presser:
    def find_spec(self, name, *_):
        global pressed_at
        if name == pressed_at:
            pressed_at = None
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Presser())
from command_line import run
seen = []
for command, pressed_at, _ in json.load(sys.stdin):
    result = run(*command)
    seen.append([result.exit_code, result.stdout, result.stderr, pressed_at])
print(json.dumps(seen))
"""


def test_interrupted__during_an_import_of_any_command(small_study: Path, tmp_path: Path) -> None:
    study = once.linked(small_study, tmp_path / "study")
    (study / "page.html").write_text("an older page")
    pd.DataFrame({"image": ["0.png"], "label": ["new"]}).to_parquet(study / "table.parquet")
    before = once.digest(study / "c.zarr")
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(PRESSED),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent.parent / "support")])},
        cwd=study,
        check=True,
        capture_output=True,
        text=True,
    )
    results: list[Any] = json.loads(done.stdout)
    for (command, module, kept), (code, output, errors, missed) in zip(PRESSED, results, strict=True):
        assert missed is None, (command, f"never imports {module}")
        assert (code, output) == (130, ""), (command, errors)
        (line,) = [line for line in errors.splitlines() if line.startswith("interrupted; ")]
        assert errors.endswith(f"{line}\n")
        assert kept in line, command
    assert (study / "page.html").read_text() == "an older page"
    assert once.digest(study / "c.zarr") == before
    left = {path.name for path in study.iterdir() if not path.name.endswith(".lock")}
    assert left - {"new.zarr"} == {path.name for path in small_study.iterdir() if not path.name.endswith(".lock")} | {
        "page.html",
        "table.parquet",
    }


def test_main__before_there_is_an_application() -> None:
    code = CODE.partition("signal.signal(")[0] + (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Presser())\npressed_at = 'typer'\nfrom dvme_cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted; nothing was changed\n")


@pytest.mark.parametrize("wrapped", [None, ImportError("numpy failed to import"), OSError(2, "gone")])
def test_add_command__whatever_an_import_makes_of_it(wrapped: Exception | None) -> None:
    def work() -> None:
        with expected_errors():
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as error:
                if wrapped is None:
                    raise
                raise wrapped from error

    own = typer.Typer()
    add_command(own, "info", work)
    result = CliRunner().invoke(own, [])
    assert (result.exit_code, result.stderr) == (130, "interrupted; nothing was changed\n")


@pytest.mark.parametrize("module", ["openTSNE", "torch.nn"])
def test_expected_errors__a_package_that_is_missing_is_a_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(typer.Exit) as caught, expected_errors():
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert caught.value.exit_code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"error: \w+ is not installed; pip install (dvme|'dvme\[\w+\]') brings it", line)


def test_expected_errors__other_modules_and_what_was_told_pass() -> None:
    with pytest.raises(ModuleNotFoundError), expected_errors():
        raise ModuleNotFoundError("No module named 'other'", name="other")
    with pytest.raises(typer.Exit) as caught, expected_errors():
        raise typer.Exit(3)
    assert caught.value.exit_code == 3


def test_add_command__other_errors_pass() -> None:
    def work() -> None:
        raise ZeroDivisionError

    own = typer.Typer()
    add_command(own, "info", work)
    assert isinstance(CliRunner().invoke(own, []).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("command", "given", "kept"),
    [
        ("extract", {"plan": True}, "nothing was changed"),
        ("methods", {"out": "m.md"}, "m.md is as it was"),
        ("methods", {"out": None}, "nothing was changed"),
        ("demo", {"folder": "d"}, "what was finished is kept in d, and the same command goes on from there"),
        ("doctor", {}, "nothing was changed"),
        ("extract", {"replace": True}, "without --replace goes on from there"),
        (
            "predict",
            {"out": "p.csv", "cache": "c.zarr"},
            "p.csv is as it was; embeddings that were committed to c.zarr",
        ),
        ("predict", {"out": "p.csv", "cache": None}, "p.csv is as it was"),
        ("sweep", {"out": "run"}, "jobs that were finished are kept in run"),
        ("cache prune", {"confirmed": False}, "nothing was changed"),
        ("cache prune", {"confirmed": True}, "the same command finishes"),
        ("cache import", {"cache": "c.zarr"}, "committed to c.zarr is kept"),
        ("cache verify", {}, "nothing was changed"),
        ("data nih-cxr14", {"out": "m.csv"}, "m.csv is as it was"),
        ("data list", {}, "nothing was changed"),
    ],
)
def test_kept_of__options_change_it(command: str, given: dict[str, Any], kept: str) -> None:
    assert kept in kept_of(command, given)


def test_kept_of__an_adaptation_keeps_epochs_once_one_has_ended(tmp_path: Path) -> None:
    given = {"out": str(tmp_path / "x.toml")}
    assert kept_of("adapt", given) == f"no epoch is kept, and {given['out']} is as it was"
    Epochs(training_folder(tmp_path / "x.toml")).write({"epoch": 1})
    expected = f"epochs that were ended are kept in {given['out']}.training, and the same command goes on from there"
    assert kept_of("adapt", given) == expected


def test_kept__names_commands_that_there_are() -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    known = {command.name for command in app.registered_commands}
    for name, group in groups.items():
        assert group is not None
        known |= {f"{name} {command.name}" for command in group.registered_commands}
    assert known >= set(KEPT)


def test_kept__has_every_command_that_writes() -> None:
    """By the parameters that name what is written, or replaced."""
    writing = {"out", "save", "target", "replace", "confirmed", "force", "manifest", "figures"}
    found = {name for name, function in commands_of(app) if writing & set(inspect.signature(function).parameters)}
    assert {name for name in found if not name.startswith("data ")} <= set(KEPT)
    assert "adapt" in found
    for name in found:
        assert kept_of(name, {"out": "new.toml", "cache": "c.zarr", "confirmed": True}) != "nothing was changed", name
