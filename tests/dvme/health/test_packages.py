from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

import dvme
from dvme.health.importing import Trial
from dvme.health.packages import MEND_PAIR, about_packages, about_pair
from dvme.requirements import Requirement, requirements

SOUND = {name: Trial() for name in ("numpy", "torch", "torchvision", "timm", "sklearn")}


def add_distribution(folder: Path, name: str, version: str) -> None:
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def wrong(trials: dict[str, Trial], known: list[Requirement]) -> list[str]:
    """The lines of what does not work."""
    return [each.line for each in about_packages(trials, known) if each.is_wrong]


@pytest.mark.parametrize(
    ("torch", "torchvision"),
    [
        ("2.4.0", "0.19.0"),
        ("2.14.1", "0.29.1"),
        ("2.9.0+cpu", "0.24.0+cpu"),
        ("2.9.0", "0.24.0+cu128"),
        ("2.5.0a0+git", "0.20"),
    ],
)
def test_about_pair__two_that_fit(torch: str, torchvision: str) -> None:
    found = about_pair(torch, torchvision)
    assert found is not None
    assert not found.is_wrong
    assert f"{torch} and {torchvision}, a pair" in found.line


@pytest.mark.parametrize(
    ("torch", "torchvision", "why"),
    [
        ("2.9.0", "0.19.0", "torch 2.9 belongs to torchvision 0.24"),
        ("2.4.0", "0.24.1+cpu", "torch 2.4 belongs to torchvision 0.19"),
        ("2.9.0+cpu", "0.24.0+cu128", "one is built for cpu and the other for cu128"),
    ],
)
def test_about_pair__two_that_do_not(torch: str, torchvision: str, why: str) -> None:
    found = about_pair(torch, torchvision)
    assert found is not None
    assert found.is_wrong
    assert found.line.endswith(f"; {MEND_PAIR}")
    assert why in found.said


def test_about_pair__what_is_not_known() -> None:
    assert about_pair("", "0.24.0") is None
    assert about_pair("2.9.0", "") is None
    later = about_pair("3.0.0", "1.0.0")
    assert later is not None
    assert not later.is_wrong
    assert "not known" in later.said


def test_about_packages__this_installation_is_sound() -> None:
    found = list(about_packages(SOUND, requirements()))
    assert [each.line for each in found if each.mark] == []
    topics = {each.topic: each.said for each in found}
    assert {"Python", "dvme", "packages", "torch and torchvision", "FAISS"} == set(topics)
    assert sys.executable in topics["Python"]
    assert "scikit-learn " in topics["packages"]


def test_about_packages__missing_and_too_old_ones_have_their_commands() -> None:
    known = [Requirement("numpy", "999", ""), Requirement("no-such-one", "1", ""), Requirement("absent", "", "extra")]
    first, second = wrong(SOUND, known)
    assert first.startswith("numpy: ")
    assert first.endswith("and dvme needs 999 or newer; pip install --upgrade 'numpy>=999'")
    assert second == "no-such-one: is not installed; pip install dvme"
    (pair,) = wrong(SOUND, [Requirement("torchvision", "999", "")])
    assert pair.endswith("; pip install --upgrade torch torchvision")


def test_about_packages__a_broken_one_is_told_once() -> None:
    """What rests on it cannot be imported either."""
    error = Trial("ImportError: libtorch_cuda.so: cannot open shared object file")
    broken = SOUND | dict.fromkeys(("torch", "torchvision", "timm"), error) | {"sklearn": Trial("ImportError: torn")}
    first, second = wrong(broken, requirements())
    assert first == f"torch: cannot be imported ({error.error}); {MEND_PAIR}"
    assert second == "sklearn: cannot be imported (ImportError: torn); pip install --force-reinstall scikit-learn"
    (line,) = wrong(SOUND | dict.fromkeys(("numpy", "sklearn"), Trial("ImportError: torn")), requirements())
    assert line.startswith("numpy: cannot be imported")


def test_about_packages__two_of_faiss_and_no_dvme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("faiss-cpu", "faiss-gpu"):
        add_distribution(tmp_path, name, "1.15")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    first, second = wrong({}, [])
    clone = shlex.quote(str(Path(dvme.__file__).resolve().parents[1]))
    assert first == f"dvme: is not installed, only its files are found; pip install {clone}"
    assert "faiss-cpu and faiss-gpu are both installed and overwrite each other" in second
    assert "pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-gpu" in second


def test_about_packages__faiss_on_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_distribution(tmp_path, "faiss-gpu", "1.15")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    found = list(about_packages({"faiss": Trial(facts={"has_gpu": True, "n_gpus": 2})}, []))
    assert "FAISS: faiss-gpu 1.15, which sees 2 GPUs" in [each.line for each in found]


def test_about_packages__a_broken_faiss_on_gpus_is_not_joined_by_one_on_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_distribution(tmp_path, "faiss-gpu", "1.15")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    lines = wrong({"faiss": Trial("ImportError: libcudart.so: cannot open shared object file")}, [])
    assert lines[-1].endswith("; pip install --force-reinstall faiss-gpu")


def test_about_packages__the_package_of_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another version overwrote it, or it went with that."""
    add_distribution(tmp_path, "dvme", "1.0")
    add_distribution(tmp_path, "dvme-cache", "2.0")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (line,) = wrong({}, [])
    assert line.startswith("dvme_cache: dvme 1.0 and dvme-cache 2.0 are both installed and overwrite each other; ")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "dvme_cache", None)
    (_, gone) = wrong({}, [])
    assert gone.startswith("dvme_cache: is gone, as after pip uninstall dvme-cache; install dvme again ")
