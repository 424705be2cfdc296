from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from dvme.environment import check_single_cache, check_single_faiss, explain_import, installed
from dvme.errors import EnvironmentMismatchError
from dvme.places import check_new_cache, open_cache


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        ImportError("/site-packages/torchvision/_C.so: undefined symbol: _ZN3c10\nmore"),
        OSError("libtorch_cuda.so: cannot open shared object file"),
        AttributeError("partially initialized module 'torchvision' has no attribute 'extension'"),
    ],
)
def test_explain_import__torch_and_torchvision_are_no_pair(error: Exception) -> None:
    with pytest.raises(EnvironmentMismatchError) as caught, explain_import():
        raise error
    text = str(caught.value)
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert f"torchvision {torchvision.__version__.partition('+')[0]}" in text
    assert "pip install --force-reinstall torch torchvision" in text
    assert str(error).splitlines()[0] in text
    assert "\n" not in text
    assert caught.value.__cause__ is error
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'yaml'"), RuntimeError("out of memory"), KeyError("torch"), ValueError("x")]
)
def test_explain_import__unrelated_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explain_import():
        raise error
    assert caught.value is error


def test_explain_import__unrelated_error_in_an_environment_named_pytorch() -> None:
    error = ImportError("cannot import name 'x' from 'yaml' (/opt/conda/envs/pytorch/lib/yaml/__init__.py)")
    with pytest.raises(ImportError) as caught, explain_import():
        raise error
    assert caught.value is error


def test_explain_import__no_error() -> None:
    with explain_import():
        found = 1
    assert found == 1


def test_installed__version_or_note() -> None:
    assert installed("torch") == torch.__version__.partition("+")[0] or installed("torch") == torch.__version__
    assert installed("no-such-distribution") == "(not installed)"


def add_distribution(folder: Path, name: str, version: str = "1.0") -> None:
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_check_single_faiss__two_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    add_distribution(tmp_path, "faiss-cpu")
    check_single_faiss()
    add_distribution(tmp_path, "faiss-gpu")
    with pytest.raises(EnvironmentMismatchError) as caught:
        check_single_faiss()
    expected = "pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-gpu"
    assert str(caught.value).startswith("faiss-cpu and faiss-gpu are both installed")
    assert expected in str(caught.value)


def test_check_single_cache__two_versions_of_one_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {name: tmp_path / name for name in ("dvme", "same", "other")}
    for folder in folders.values():
        folder.mkdir()
    add_distribution(folders["dvme"], "dvme")
    add_distribution(folders["same"], "dvme-cache")
    add_distribution(folders["other"], "dvme-cache", "2.0")
    for sound in ([], ["dvme"], ["same"], ["other"], ["dvme", "same"]):
        monkeypatch.setattr("sys.path", [str(folders[name]) for name in sound])
        check_single_cache()
    monkeypatch.setattr("sys.path", [str(folders["dvme"]), str(folders["other"])])
    for refused in (check_single_cache, lambda: open_cache("c.zarr"), lambda: check_new_cache("c.zarr")):
        with pytest.raises(EnvironmentMismatchError) as caught:
            refused()
        assert str(caught.value).startswith("dvme 1.0 and dvme-cache 2.0 are both installed and overwrite each other")
        assert "pip uninstall -y dvme-cache" in str(caught.value)
        assert "\n" not in str(caught.value)
