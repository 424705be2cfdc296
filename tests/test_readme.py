"""The README's code does what it says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import RIVALS, filed, spelled
from typer.testing import CliRunner

from dvme.heads import ATTENTION_HEADS
from dvme_cache import EmbeddingCache
from dvme_cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_first_screen__shows_the_two_commands_and_the_table() -> None:
    screen = "\n".join(README.splitlines()[:40])
    assert re.search(r"^ {4}make demo .*\n {4}make test ", screen, flags=re.MULTILINE)
    assert "val AUC" in screen
    assert "95% CI" in screen


def _lighter(words: list[str]) -> list[str]:
    """A command with the same heads and their rivals, but with few epochs and strengths; few images embedded again."""
    if words[:2] == ["cache", "verify"]:
        return [*words, "--sample", "2"]
    # A head's folder is called by its settings.
    words = [re.sub(r"^heads/(\w+)--(.*)", lambda found: f"heads/{filed(*found.groups())}", word) for word in words]
    if words[0] not in {"probe", "sweep"} or "--head" not in words:
        return words
    at = words.index("--head") + 1
    heads = words[at].split(",")
    rivals = RIVALS if set(heads) & set(ATTENTION_HEADS) else ()
    return [*words[:at], spelled(*dict.fromkeys([*heads, *rivals])), *words[at + 1 :]]


@pytest.mark.umap
@pytest.mark.parametrize("form", ["lighter", pytest.param("as typed", marks=pytest.mark.slow)])
def test_commands__run(class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    images = sorted(class_folders.rglob("*.png"))
    rows = [f"{path},{path.parent.name},{index}" for index, path in enumerate(images)]
    Path("manifest.csv").write_text("image,grade,patient\n" + "\n".join(rows))
    commands = [line for block in _blocks("bash") for line in block.splitlines() if line.startswith("dvme ")]
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        result = CliRunner().invoke(app, words if form == "as typed" else _lighter(words))
        assert result.exit_code == 0, f"{command}\n{result.output}"


def test_python__runs(class_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(class_folders.parent)
    for code in _blocks("python"):
        exec(compile(code, "README.md", "exec"), {})
    assert "36 computed, 0 reused" in capsys.readouterr().out


def test_architecture__a_cache_can_be_read_without_dvme(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only numpy, zarr and a crc32c, as the document promises."""
    import dvme

    monkeypatch.chdir(class_folders.parent)
    (class_folders / "dark" / "03.png").write_bytes(b"no image")
    dvme.extract("images", "my.zarr", backbones=["efficientnet-lite0"])
    (code,) = _blocks("python", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert "dvme_cache" not in code
    assert "import dvme" not in code
    names: dict[str, Any] = {}
    exec(compile(code, "ARCHITECTURE.md", "exec"), names)
    cache = EmbeddingCache.open("my.zarr")
    rows = cache.complete_rows(["efficientnet-lite0"])
    assert len(rows) == 35
    np.testing.assert_array_equal(names["features"], cache.embeddings("efficientnet-lite0").read(rows))
    assert names["labels"].tolist() == cache.column("label")[rows].tolist()
    assert names["paths"].tolist() == np.array(cache.samples.paths)[rows].tolist()


def test_makefile__has_the_commands() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_backbones__are_those_of_the_zoo() -> None:
    """The table names every method's checkpoints, in full or by a range."""
    from dvme.backbones import get_spec, names

    section = README[README.index("## Backbones") : README.index("## Heads and fusion")]
    counts = re.match(r"## Backbones\s+(\d+) published checkpoints, (\d+) of them", section)
    assert counts is not None
    specs = [get_spec(name) for name in names()]
    assert len(specs) == int(counts[1])
    assert sum(spec.is_verified for spec in specs) == int(counts[2])
    named = set(re.findall(r"`([a-z0-9-]+)`", section))
    missing = {
        name
        for name in names()
        if name not in named
        and not re.match(r"dinov[23]-vit|inat2021-(mini-)?scratch|efficientnet|.*-(2x|4x|vit[sb]16)", name)
    }
    assert missing == set()
