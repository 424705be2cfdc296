"""What a shell is offered: names of backbones and heads, and nothing heavy is imported for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import once
import pytest

from dvme.backbones import names
from dvme.heads import HEADS, SEGMENT, TUNED, UNETS
from dvme_cli.completion import heads, known_backbones

HEAVY = ("torch", "timm", "torchvision", "pandas", "pyarrow", "scipy", "sklearn", "zarr", "h5py", "plotly", "faiss")
CODE = f"""
import contextlib, io, json, os, sys
from dvme_cli.main import main
answers = []
for typed in json.load(sys.stdin):
    last = len(typed.split(" ")) - 1
    os.environ |= {{"_DVME_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(last)}}
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        sys.argv = ["dvme"]
        main()
    answers.append(shown.getvalue().splitlines())
print(json.dumps([answers, sorted(set({HEAVY!r}) & set(sys.modules))]))
"""
TYPED = (
    "dvme swe",
    "dvme extract a b --backbones efficientnet-lite",
    "dvme extract a b --backbones dino,swa",
    "dvme probe c.zarr --head linear,segment-l",
    "dvme probe c.zarr --backbones ",
    "dvme probe gone.zarr --backbones swa",
    "dvme adapt a --backbone swa",
    "dvme backbones show swa",
    "dvme cache verify c.zarr --seed",
    "dvme nonsense --hea",
)


def test_completion__as_a_shell_asks_for_it(small_study: Path, tmp_path: Path) -> None:
    study = once.linked(small_study, tmp_path / "study")
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(TYPED),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=study,
        check=True,
        capture_output=True,
        text=True,
    )
    found: tuple[list[list[str]], Any] = json.loads(done.stdout)
    answers = dict(zip(TYPED, found[0], strict=True))
    assert found[1] == []
    assert answers[TYPED[0]] == ["sweep"]
    assert set(answers[TYPED[1]]) == {name for name in names() if name.startswith("efficientnet-lite")}
    assert "dino,swav" in answers[TYPED[2]]
    assert answers[TYPED[3]] == ["linear,segment-linear"]
    kept = [folder.name for folder in (study / "c.zarr" / "embeddings").iterdir() if folder.is_dir()]
    assert len(answers[TYPED[4]]) == len(kept)
    assert all("swav" in answers[typed] for typed in TYPED[5:8])
    assert answers[TYPED[8]] == ["--seed"]
    assert done.stderr == ""


def test_completion__can_be_installed() -> None:
    from command_line import run

    shown = run("--help").stdout
    assert "--install-completion" in shown
    assert "--show-completion" in shown


@pytest.mark.parametrize(("typed", "lacks"), [("", ""), ("linear,", "linear"), ("linear,knn,", "knn")])
def test_heads__a_list_goes_on_with_what_it_lacks(typed: str, lacks: str) -> None:
    known = {*HEADS, *TUNED, *SEGMENT, *UNETS}
    offered = heads(typed)
    assert {name.rpartition(",")[2] for name in offered} == known - set(typed.split(","))
    assert all(name.startswith(typed) for name in offered)
    assert f"{typed}{lacks}" not in offered


def test_known_backbones__are_all_that_the_library_lists() -> None:
    assert set(names()) <= set(known_backbones(""))
