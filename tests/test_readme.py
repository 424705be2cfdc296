"""The code of README and of the guides does what it says; guides with data of their own have tests of their own."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from light import RIVALS, filed, spelled
from once import linked
from typer.main import get_command

from dvme.heads import ATTENTION_HEADS
from dvme_cache import EmbeddingCache
from dvme_cli.app import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ELSEWHERE = {"adapting", "clusters", "dicom", "nuclei", "public_sets"}
"""Guides whose code is run by test_adapting.py and so on; that of dicom by test_examples.py."""
LIGHTER = "lighter"


def _blocks(page: Path) -> list[tuple[str, str]]:
    """(language, code) of what is run, in the order of the page."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def _commands(code: str) -> list[list[str]]:
    """Of a block of bash, as words without `dvme`; what installs is no command of ours."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("dvme ")]


PAGES = [README, *sorted((ROOT / "examples").glob("*.md"))]
GUIDES = [page for page in PAGES[1:] if page.stem not in ELSEWHERE and _blocks(page)]


def _lighter(words: list[str]) -> list[str]:
    """A command with the same heads and their rivals, but few epochs and strengths, and with the quickest of maps."""
    if words[:2] == ["cache", "verify"]:
        return [*words, "--sample", "2"]
    # A head's folder is called by its settings.
    words = [re.sub(r"^(.*\bheads)/([\w-]+?)--(.*)", _light_folder, word) for word in words]
    if words[0] in {"report", "viz"}:
        at = words.index("--method") if "--method" in words else len(words)
        return [*words[:at], "--method", "pca", *words[at + 2 :]]
    if words[0] not in {"probe", "sweep"} or "--head" not in words:
        return words
    at = words.index("--head") + 1
    heads = words[at].split(",")
    rivals = RIVALS if set(heads) & set(ATTENTION_HEADS) else ()
    return [*words[:at], spelled(*dict.fromkeys([*heads, *rivals])), *words[at + 1 :]]


def _light_folder(found: re.Match[str]) -> str:
    return f"{found[1]}/{filed(found[2], found[3])}"


def _follow(page: Path, form: str) -> None:
    """Type the page's commands and run its code, in its order; blocks of Python go on from each other."""
    names: dict[str, Any] = {}
    for language, code in _blocks(page):
        if language == "python":
            exec(compile(code, page.name, "exec"), names)
            continue
        for words in _commands(code):
            result = run(*(_lighter(words) if form == LIGHTER else words))
            assert result.exit_code == 0, f"{page.name}: dvme {shlex.join(words)}\n{result.output}"


@pytest.fixture(scope="module", params=[LIGHTER, pytest.param("as typed", marks=[pytest.mark.slow, pytest.mark.umap])])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def project(form: str, tmp_path_factory: pytest.TempPathFactory, save_image: Callable[..., Path]) -> Path:
    """The folder that README leaves behind, from which the guides go on: images, a table of them, a cache and a run."""
    root = tmp_path_factory.mktemp("project")
    for level, name in enumerate(("dark", "grey", "light")):
        for index in range(12):
            save_image(root / "images" / name / f"{index:02d}.png", seed=100 * level + index, level=level)
    images = sorted((root / "images").rglob("*.png"))
    rows = [f"{path},{path.parent.name},{index}" for index, path in enumerate(images)]
    (root / "manifest.csv").write_text("image,grade,patient\n" + "\n".join(rows))
    shutil.copytree(ROOT / "examples", root / "examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        _follow(README, form)
    return root


def test_readme__three_commands_end_in_a_report(project: Path) -> None:
    (code,) = [code for language, code in _blocks(README) if language == "bash"]
    assert [words[0] for words in _commands(code)] == ["extract", "sweep", "report"]
    assert EmbeddingCache.open(project / "my.zarr").backbones == ["efficientnet-lite0", "random"]
    page = (project / "report.html").read_text(encoding="utf-8")
    assert "worth it" in page


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_guide__its_code_runs(
    project: Path, form: str, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(linked(project, tmp_path / "project"))
    _follow(page, form)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands__have_the_options_that_the_page_shows(page: Path) -> None:
    """Also of those that are not run."""
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"^```(?:bash|text)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        for typed in _commands(code):
            command: Any = get_command(app)
            words = list(typed)
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, typed


def test_guides__are_run_here_or_elsewhere() -> None:
    """Most have code that runs, and none of those with a test of their own has gone."""
    stems = {page.stem for page in (ROOT / "examples").glob("*.md")}
    assert stems >= ELSEWHERE
    assert len(GUIDES) >= 9


def test_first_screen__says_for_whom_and_shows_the_picture_and_the_two_commands() -> None:
    screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:12])
    assert "few labels" in screen
    assert re.search(r"^ {4}make demo .*\n {4}make test ", screen, flags=re.MULTILINE)
    assert re.search(r"^\[!\[.+\]\(examples/\w+\.png\)\]\(examples/\w+\.html\)$", screen, flags=re.MULTILINE)


def test_second_screen__shows_ten_lines_of_output() -> None:
    text = README.read_text(encoding="utf-8")
    every = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    (shown,) = [block for language, block in every if not language]
    assert len(shown.splitlines()) <= 10
    assert "no gain by fusion is shown" in shown
    assert text.index("dvme report") < text.index(shown) < text.index("## What you can rely on")


def test_promises__are_five_with_a_number_each() -> None:
    section = README.read_text(encoding="utf-8").partition("## What you can rely on\n")[2].partition("\n## ")[0]
    bullets = re.split(r"^- ", section, flags=re.MULTILINE)[1:]
    assert len(bullets) == 5
    assert all(re.search(r"\d", bullet) for bullet in bullets)


def test_backbones__are_those_of_the_zoo() -> None:
    """The table names every method's checkpoints, in full or by a range."""
    from dvme.backbones import get_spec, names

    text = (ROOT / "examples" / "backbones.md").read_text(encoding="utf-8")
    counts = re.search(r"^(\d+) checkpoints are known by name\. For (\d+) of them", text, flags=re.MULTILINE)
    assert counts is not None
    specs = [get_spec(name) for name in names()]
    assert len(specs) == int(counts[1])
    assert sum(spec.is_verified for spec in specs) == int(counts[2])
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`([a-z0-9-]+)`", table))
    missing = {
        name
        for name in names()
        if name not in named
        and not re.match(r"dinov[23]-vit|inat2021-(mini-)?scratch|efficientnet|.*-(2x|4x|vit[sb]16)", name)
    }
    assert missing == set()
    assert f"{len(specs)} published backbones" in README.read_text(encoding="utf-8").replace("\n  ", " ")
