"""`dvme doctor` as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run, strict

from dvme.health import doctor


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that are quick to import."""
    monkeypatch.setattr(doctor, "TRIED", ("json",))


def test_doctor__says_all_of_it_and_ends_with_0(quick: None, tmp_path: Path) -> None:
    result = run("doctor", "--cache", tmp_path / "my.zarr")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    for topic in ("Python", "dvme", "packages", "torch and torchvision", "FAISS", "memory", "cores", "cache"):
        assert any(line.removeprefix("note: ").startswith(f"{topic}: ") for line in lines), topic
    assert lines[-1] == "Nothing is wrong."
    as_json = strict(run("doctor", "--json").stdout)
    assert as_json["is_well"] is True
    assert {"demo", "dicom", "ray"} <= {extra["name"] for extra in as_json["extras"]}


def test_doctor__what_is_wrong_ends_with_its_step_and_with_1(
    quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(doctor, "TRIED", ("no_such_module",))
    for more in ([], ["--json"]):
        result = run("doctor", "--cache", tmp_path / "file" / "my.zarr", *more)
        assert result.exit_code == 1
        assert not result.stderr
    (said,) = [each for each in strict(result.stdout)["findings"] if each["topic"] == "cache"]
    assert said == {
        "topic": "cache",
        "said": f"{tmp_path / 'file'} is a file",
        "step": "name another place",
        "is_wrong": True,
    }
    lines = run("doctor", "--cache", tmp_path / "file" / "my.zarr").stdout.splitlines()
    wrong = [line for line in lines if line.startswith("wrong: ")]
    assert wrong == [
        "wrong: no_such_module: cannot be imported (ModuleNotFoundError: No module named 'no_such_module'); "
        "pip install --force-reinstall no_such_module",
        f"wrong: cache: {tmp_path / 'file'} is a file; name another place",
    ]
    assert lines[-1] == "2 things are wrong; each such line ends with what to do."


def test_doctor__where_packages_are_missing(tmp_path: Path) -> None:
    """As `python -m dvme doctor` in an installation that lacks them: modules of their names that fail to import."""
    for name in ("numpy", "torch", "zarr"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('torn')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "dvme", "doctor"],
        env=os.environ | {"PYTHONPATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert [line for line in done.stdout.splitlines() if line.startswith("wrong: ")] == [
        "wrong: numpy: cannot be imported (ImportError: torn); pip install --force-reinstall numpy",
        "wrong: torch: cannot be imported (ImportError: torn); pip install --force-reinstall torch",
    ]


@pytest.mark.parametrize("columns", [60, 80])
def test_doctor__in_a_narrow_terminal(columns: int, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extras are a block each in 60 columns; nothing is cut."""
    from dvme_cli import console

    monkeypatch.setattr(console, "WIDTH_WITHOUT_TERMINAL", columns)
    lines = run("doctor").stdout.splitlines()
    begin = next(index for index, line in enumerate(lines) if "dicom" in line)
    assert any("DICOM files" in line for line in lines[begin : begin + 2])
    assert "…" not in "\n".join(lines)
