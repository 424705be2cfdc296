"""The guide to many machines: its commands as typed, with the tasks of the arrays one after the other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run

from dvme_cache import EmbeddingCache, RowState

GUIDE = (Path(__file__).parents[1] / "examples" / "clusters.md").read_text(encoding="utf-8")
TASK = "$SLURM_ARRAY_TASK_ID"


def scripts(heading: str) -> list[list[list[str]]]:
    """The commands of each block below a heading, as words; those of an array once for each of its tasks."""
    text = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        array = re.search(r"--array=1-(\d+)", block)
        tasks = range(1, int(array[1]) + 1) if array else [0]
        lines = [line for line in block.splitlines() if line.startswith("dvme ")]
        found.append([shlex.split(line.replace(TASK, str(task)))[1:] for task in tasks for line in lines])
    return found


@pytest.fixture
def project(tmp_path: Path, save_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    for level, name in enumerate(("ill", "well")):
        for index in range(16):
            save_image(tmp_path / "images" / name / f"{index}.png", seed=100 * level + index, level=level)
    (tmp_path / "shared").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(words: list[str]) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


def test_guide__parts_of_an_extraction_and_of_a_sweep(project: Path) -> None:
    array, again = scripts("A job array")
    assert [words[-2] for words in array] == ["1/4", "2/4", "3/4", "4/4"]
    for words in array:
        said(words)
    states = EmbeddingCache.open("shared/my.zarr").embeddings("random").states()
    assert (states == RowState.DONE).sum() == 32
    assert "Every embedding was reused; nothing was computed." in said(again[0])
    sweep, table = scripts("A sweep in parts")
    for words in sweep:
        assert "random + linear" not in said(words)
    jobs = {path: path.stat().st_mtime_ns for path in (project / "shared/run/jobs").glob("*.npz")}
    assert "random + linear" in said(table[0])
    assert {path: path.stat().st_mtime_ns for path in (project / "shared/run/jobs").glob("*.npz")} == jobs
    assert jobs


def test_guide__ray_has_the_same_commands() -> None:
    """What the two ways are told apart by is how the work is shared out; a cluster is begun in other tests."""
    extract, sweep = scripts("A Ray cluster")[1]
    engine = ["--engine", "ray", "--ray-address", "HOST:6379"]
    assert extract == scripts("A job array")[1][0] + engine
    assert sweep == scripts("A sweep in parts")[1][0] + engine
