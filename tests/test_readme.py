"""The README's code does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dvme_cli.main import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_first_screen__shows_the_two_commands_and_the_table() -> None:
    screen = "\n".join(README.splitlines()[:40])
    assert re.search(r"^ {4}make demo .*\n {4}make test ", screen, flags=re.MULTILINE)
    assert "val AUC" in screen
    assert "95% CI" in screen


def test_commands__run_as_typed(class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = sorted(class_folders.rglob("*.png"))
    rows = [f"{path},{path.parent.name},{index}" for index, path in enumerate(images)]
    Path("manifest.csv").write_text("image,grade,patient\n" + "\n".join(rows))
    commands = [line for block in _blocks("bash") for line in block.splitlines() if line.startswith("dvme ")]
    assert len(commands) >= 5
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"


def test_python__runs(class_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(class_folders.parent)
    (code,) = _blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "36 computed, 0 reused" in capsys.readouterr().out


def test_makefile__has_the_commands() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
