from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dvme
from dvme.health import doctor as module
from dvme.health.finding import Finding
from dvme.requirements import CALLED, requirements

TRIED = module.TRIED


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that are quick to import."""
    monkeypatch.setattr(module, "TRIED", ("numpy",))


def test_doctor__this_installation_is_sound(tmp_path: Path) -> None:
    health = dvme.doctor(tmp_path / "my.zarr")
    assert health.wrong == []
    assert health.is_well
    assert "cache" in {each.topic for each in health.findings}
    as_json = json.loads(json.dumps(health.to_json()))
    assert as_json["is_well"] is True
    assert as_json["findings"][0] == {
        "topic": "Python",
        "said": health.findings[0].said,
        "step": "",
        "is_wrong": False,
    }
    assert {"name", "purpose", "missing", "command"} == set(as_json["extras"][0])
    assert repr(health).startswith("Health: nothing is wrong")
    assert list(health.to_frame()["topic"]) == [each.topic for each in health.findings]


def test_doctor__a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    health = dvme.doctor(tmp_path / "file" / "my.zarr")
    assert not health.is_well
    (line,) = [each.line for each in health.wrong]
    assert line.endswith("; name another place")


def test_tried__are_packages_that_every_installation_has() -> None:
    every = {each.name for each in requirements() if not each.extra}
    assert {CALLED.get(name, name) for name in TRIED} <= every


def test_doctor__imports_nothing_that_may_be_broken() -> None:
    heavy = ("numpy", "torch", "zarr", "faiss", "pandas", "sklearn", "dvme_cache")
    code = (
        f"import sys; sys.modules |= dict.fromkeys({heavy!r}); import dvme; from dvme.health import doctor as module\n"
        "module.TRIED = ('json',); print(len(dvme.doctor().findings) > 5)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_finding__its_mark_and_its_line() -> None:
    assert (Finding("a", "b").mark, Finding("a", "b").line) == ("", "a: b")
    assert (Finding("a", "b", "c").mark, Finding("a", "b", "c").line) == ("note", "a: b; c")
    assert Finding("a", "b", is_wrong=True).mark == "wrong"
