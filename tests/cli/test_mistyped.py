"""Options and commands that do not exist: the one that was meant is offered."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import run
from typer.testing import Result

import dvme


def said(result: Result) -> str:
    """The message."""
    assert result.exit_code == 2
    assert result.stdout == ""
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("probe c.zarr --heads linear", "--heads; did you mean --head?"),
        ("probe c.zarr --heads=linear", "--heads; did you mean --head?"),
        ("probe c.zarr --backbone dino", "--backbone; did you mean --backbones?"),
        ("sweep c.zarr --output run", "--output; did you mean --out?"),
        ("extract a b --labels diagnosis", "--labels; did you mean --label-col?"),
        ("extract a b --label diagnosis", "--label; did you mean --label-col?"),
        ("extract a b --gpu", "--gpu; did you mean --device cuda?"),
        ("probe a --cuda", "--cuda; did you mean --device cuda?"),
        ("extract a b --batch 8", "--batch; did you mean --batch-size?"),
        ("extract a b --model dino", "--model; did you mean --backbones?"),
        ("extract a b --bakcbones dino", "--bakcbones; did you mean --backbones?"),
        ("sweep a --n-folds 3", "--n-folds; did you mean --folds?"),
        ("predict a b --overwrite", "--overwrite; did you mean --force?"),
        ("viz a --output b", "--output; did you mean --out?"),
        ("backbones check dino --checkpoint x", "--checkpoint; did you mean --weights?"),
        ("probe a --label-col x", "--label-col; it is one of dvme extract and dvme adapt and dvme cache label"),
        ("--json info a", "--json; options stand behind the command:"),
        ("info a --qqqq", "No such option: --qqqq"),
    ],
)
def test_option__that_does_not_exist(typed: str, meant: str) -> None:
    assert meant in said(run(*typed.split()))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train", "'train'; did you mean probe?"),
        ("embed images c.zarr", "'embed'; did you mean extract?"),
        ("Extract images c.zarr", "'Extract'; did you mean extract?"),
        ("verify c.zarr", "'verify'; did you mean cache verify?"),
        ("prob c.zarr", "'prob'; did you mean probe?"),
        ("list", "'list'; did you mean data list or backbones list or backbones?"),
        ("nih-cxr14 download", "'nih-cxr14'; did you mean data nih-cxr14?"),
        ("data nih download", "'nih'; did you mean nih-cxr14?"),
        ("data chexprt download", "'chexprt'; did you mean chexpert"),
        ("infer head images", "'infer'; did you mean predict?"),
        ("cache verfy c.zarr", "'verfy'; did you mean verify?"),
        ("cache info c.zarr", "'info'; did you mean dvme info?"),
        ("help", "'help'; did you mean --help?"),
        ("paper run", "'paper'; did you mean methods?"),
        ("citation", "'citation'; did you mean cite?"),
        ("diagnose", "'diagnose'; did you mean doctor?"),
        ("tutorial", "'tutorial'; did you mean demo?"),
        ("qqqq", "No such command 'qqqq'"),
    ],
)
def test_command__that_does_not_exist(typed: str, meant: str) -> None:
    assert meant in said(run(*typed.split()))


def test_every_option_and_command_on_offer__exists() -> None:
    from typer.main import get_command

    from dvme_cli.app import app
    from dvme_cli.suggestions import COMMANDS, OPTIONS

    root = get_command(app)
    commands = [*root.commands.values()]  # type: ignore[attr-defined]
    commands += [nested for each in commands for nested in getattr(each, "commands", {}).values()]
    options = {option for command in commands for each in command.params for option in each.opts}
    assert {name.split()[0] for name in OPTIONS} <= options
    assert {name for name in COMMANDS if not name.startswith("--")} <= set(root.commands)  # type: ignore[attr-defined]


def test_module__is_the_command_line_by_its_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvme", "info"], check=False, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 2
    assert "Usage: dvme info" in done.stderr
    assert "python -m" not in done.stderr


def test_module__where_dvme_is_not_installed_is_a_line() -> None:
    """Its files alone are found, as in a folder that was copied."""
    root = Path(dvme.__file__).resolve().parents[1]
    code = f"import runpy, sys; sys.path.insert(0, {str(root)!r}); runpy.run_module('dvme', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    step = f"pip install {shlex.quote(str(root))}"
    assert done.stderr == f"error: dvme is not installed, only its files are found; {step}\n"


def test_say__prints_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A name between two colons is no picture, and brackets are no style."""
    from dvme_cli.console import say

    say("own:cat: [bold]not found")
    assert capsys.readouterr().out == "own:cat: [bold]not found\n"


def test_version__is_that_of_the_installation() -> None:
    assert dvme.__version__ == version("dvme")
    assert run("--version").stdout == f"dvme {version('dvme')}\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_streams__say_everything_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvme_cli.console import note, say, show_json
    from dvme_cli.streams import spell_what_is_lost

    text = "κλάση 0.81 ± 0.02 ≥ 0.8 \udce9 不良"
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    spell_what_is_lost()
    say(text)
    note(text)
    print(text)
    show_json({text: text})
    streams = sys.stdout, sys.stderr
    monkeypatch.undo()
    found = []
    for stream in streams:
        stream.seek(0)
        found.append(stream.read().splitlines())
    spelled = {
        "ascii": r"\u03ba\u03bb\u03ac\u03c3\u03b7 0.81 +/- 0.02 >= 0.8 \udce9 \u4e0d\u826f",
        "cp1252": r"\u03ba\u03bb\u03ac\u03c3\u03b7 0.81 ± 0.02 >= 0.8 \udce9 \u4e0d\u826f",
        "utf-8": r"κλάση 0.81 ± 0.02 ≥ 0.8 \udce9 不良",
    }[encoding]
    assert found[0][:2] == [spelled, spelled]
    assert found[1] == [spelled]
    assert found[0][3].isascii()
