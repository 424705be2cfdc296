"""A Python file of one's own is run once, cannot end dvme, and says which backbones it holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dvme.backbones import get_spec
from dvme.backbones.own.own_python import spec_from_python
from dvme.errors import DataError
from dvme.extraction.models import Choice, recall_backbones
from dvme.runtime import Runtime

OWN = """
import pathlib
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

log = pathlib.Path(__file__).with_name("runs")
log.write_text(log.read_text() + "x" if log.exists() else "x")

def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

def spec(name):
    return BackboneSpec(name=name, method="ours", architecture="net", dim=3, pooling="model", checkpoint=None,
        preprocess=Preprocess(resize=4, crop=4), licence="MIT", paper="ours", source="built", build=net)

one, two = spec("one"), spec("two")
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def refusal(reference: object) -> str:
    with pytest.raises(DataError) as caught:
        get_spec(str(reference))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_spec_from_python__runs_the_file_once_for_all_names(own: Path) -> None:
    choice = Choice(names=[f"{own}:one", f"{own}:two"])
    choice.specs()
    assert [model.dim for model in recall_backbones(choice, Runtime(device="cpu"))] == [3, 3]
    assert own.with_name("runs").read_text() == "x"


def test_spec_from_python__runs_it_again_once_it_has_changed(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the same second and of the same size, which is all that Python's own bytecode is told apart by."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert spec_from_python(f"{own}:one").licence == "MIT"
    before = own.stat()
    own.write_text(OWN.replace('"MIT"', '"BSD"'))
    os.utime(own, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert spec_from_python(f"{own}:one").licence == "BSD"


def test_spec_from_python__two_files_of_one_name(own: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "own.py").write_text(OWN.replace('"one"', '"uno"'))
    assert spec_from_python(f"{own}:one").name == "one"
    assert spec_from_python(f"{tmp_path}/other/own.py:one").name == "uno"


@pytest.mark.parametrize("statement", ["import sys; sys.exit(0)", "raise SystemExit", "exit()"])
def test_spec_from_python__file_that_ends_the_process(statement: str, tmp_path: Path) -> None:
    (tmp_path / "exit.py").write_text(statement)
    assert refusal(f"{tmp_path}/exit.py:spec") == f"{tmp_path}/exit.py cannot be run: it ends the process"
    (tmp_path / "late.py").write_text(f"def spec():\n    {statement}\n")
    assert "late.py:spec failed with SystemExit" in refusal(f"{tmp_path}/late.py:spec")


def test_spec_from_python__without_a_name_lists_them(own: Path) -> None:
    assert refusal(own) == f"{own} says no name; pass {own}:one, {own}:two"
    assert refusal(f"{own}:three") == f"{own} holds no three; pass {own}:one, {own}:two"


def test_spec_from_python__file_without_any(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("number = 3\n")
    expected = f"{tmp_path}/empty.py says no name, and no dvme.backbones.BackboneSpec"
    assert refusal(f"{tmp_path}/empty.py").startswith(expected)
    assert "there is no Python file" in refusal(tmp_path / "nowhere.py")
