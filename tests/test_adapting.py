"""The guide to adapting a backbone: its commands as typed, on few images and for one epoch."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run

GUIDE = (Path(__file__).parents[1] / "examples" / "adapting.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """As words, with one epoch for those that train, and the quickest of maps in the report."""
    blocks = "\n".join(re.findall(r"```text\n(.*?)```", GUIDE, re.DOTALL)).replace("\\\n", " ")
    typed = [shlex.split(line)[1:] for line in blocks.splitlines() if line.startswith("dvme ")]
    quick = [
        ["1" if before == "--epochs" else word for before, word in zip(["", *words], words, strict=False)]
        for words in typed
    ]
    return [[*words, "--method", "pca"] if words[0] == "report" else words for words in quick]


def test_guide__its_commands_end_in_an_answer(
    tmp_path: Path, save_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "patient"])
        for number in range(32):
            save_image(tmp_path / f"{number}.png", seed=number, level=number % 2)
            rows.writerow([f"{number}.png", ("NORMAL", "PNEUMONIA")[number % 2], f"p{number // 2}"])
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(compile(code, "adapting.md", "exec"), {})
    typed = commands()
    assert [words[0] for words in typed] == ["adapt", "adapt", "extract", "sweep", "report"]
    for words in typed:
        result = run(*("6,full" if word == "50,200,full" else word for word in words))
        assert result.exit_code == 0, result.output
        if words[0] == "sweep":
            assert re.search(r"adapting (gains|is worse)|no gain by adapting", result.output)
    assert Path("adapted.html").exists()
