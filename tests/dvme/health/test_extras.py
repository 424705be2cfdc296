from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dvme.health import extras
from dvme.health.extras import PURPOSES, extras_here
from dvme.requirements import Requirement, requirements

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_purposes__every_extra_has_one() -> None:
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(declared) - {"dev"} <= set(PURPOSES)


def test_extras_here__of_this_installation() -> None:
    """The tests need all of them but faiss-gpu."""
    found = {extra.name: extra for extra in extras_here(requirements())}
    assert {"demo", "dicom", "figures", "ray", "remote"} <= {name for name, extra in found.items() if extra.is_here}
    assert "dev" not in found
    assert found["gpu"].command == "pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-gpu"
    assert found["dicom"].command == "pip install 'dvme[dicom]'"
    assert [*found] == [name for name in PURPOSES if name in found]


def test_extras_here__what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "extras", lambda: ["unheard-of", "adapt", "dicom"])
    known = [Requirement("numpy", "999", "dicom"), Requirement("no-such-one", "", "dicom"), Requirement("x", "", "ray")]
    dicom, adapt, other = extras_here(known)
    assert (dicom.name, dicom.missing, dicom.is_here) == ("dicom", ["numpy>=999", "no-such-one"], False)
    assert (adapt.name, adapt.missing, adapt.is_here) == ("adapt", [], True)
    assert (other.name, other.purpose) == ("unheard-of", "")
