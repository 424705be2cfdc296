from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dvme.health import machine
from dvme.health.importing import Trial
from dvme.health.machine import about_machine, about_place, folders
from dvme_cache import remote

GPU = {"name": "NVIDIA H200", "free": 139_000_000_000, "total": 150_000_000_000, "error": ""}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def torch_of(**facts: Any) -> dict[str, Trial]:
    """A torch that was imported, and what it says."""
    plain = {"version": "2.14.1", "cuda": None, "hip": None, "gpus": [], "has_mps": False, "n_threads": 4}
    return {"torch": Trial(facts=plain | facts)}


def devices(**facts: Any) -> list[str]:
    """The lines about devices."""
    lines = [each.line for each in about_machine(torch_of(**facts), None)]
    return lines[: next(index for index, line in enumerate(lines) if line.startswith("memory: "))]


def test_about_machine__is_complete() -> None:
    found = {each.topic: each.said for each in about_machine(torch_of(), None)}
    assert {"devices", "memory", "cores", "this folder", *folders()} == set(found)
    assert "torch computes with 4 threads" in found["cores"]
    assert found["memory"].endswith(" free to this process")
    assert found["this folder"].endswith(f" free at {Path.cwd()}")


def test_about_machine__where_torch_is_broken() -> None:
    topics = [each.topic for each in about_machine({"torch": Trial("ImportError: torn")}, None)]
    assert topics[:2] == ["memory", "cores"]


def test_about_machine__gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert devices(cuda="12.8", gpus=[GPU]) == [
        "GPU cuda:0: NVIDIA H200, 139 GB of 150 GB free",
        "devices: torch is built for CUDA 12.8",
    ]
    assert devices(has_mps=True) == ["devices: the GPU of this Mac can be used: --device mps"]
    taken = GPU | {"name": "", "error": "RuntimeError: CUDA error: all devices are busy"}
    (line,) = [each for each in about_machine(torch_of(cuda="12.8", gpus=[taken]), None) if each.is_wrong]
    assert line.line.startswith("GPU cuda:0: cannot be used (RuntimeError: CUDA error: all devices are busy); ")
    monkeypatch.setattr(machine, "DRIVERS", (tmp_path / "none",))
    assert devices() == ["devices: the CPU alone; torch is built without CUDA, and finds no GPU that it can use"]
    (rocm,) = devices(hip="6.2")
    assert rocm == "devices: the CPU alone; torch is built for ROCm 6.2, and finds no GPU that it can use"
    monkeypatch.setattr(machine, "DRIVERS", (tmp_path / "none", tmp_path))
    (without,) = devices()
    assert "cannot use the NVIDIA GPU that is here; https://pytorch.org/get-started/locally" in without
    (old,) = devices(cuda="12.8")
    assert "its driver may be too old" in old


def test_about_machine__little_memory_and_fewer_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 500_000_000)
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = {each.topic: each for each in about_machine({}, None)}
    assert found["memory"].line == "memory: 500 MB free to this process; end other programs, or ask for more"
    assert (found["memory"].mark, found["memory"].is_wrong) == ("note", False)
    assert found["cores"].said == "2 of 64 cores, as affinity or control groups allow (OMP_NUM_THREADS=1)"


def test_about_machine__a_system_that_does_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert "memory" not in {each.topic for each in about_machine({}, None)}


def test_about_place__that_is_not_there_yet(tmp_path: Path) -> None:
    found = about_place(tmp_path / "made" / "later" / "my.zarr")
    assert not found.is_wrong
    assert found.said.endswith(f" free at {tmp_path}")


def test_about_place__that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert (
        about_place(tmp_path / "file" / "my.zarr").line == f"cache: {tmp_path / 'file'} is a file; name another place"
    )
    monkeypatch.setattr(os, "access", lambda *_: False)
    closed = about_place(tmp_path / "my.zarr")
    assert closed.is_wrong
    assert f"{tmp_path} cannot be written to; name another place" in closed.line


def test_about_place__below_a_folder_that_nobody_may_look_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /root is to other users."""
    closed = tmp_path / "closed"
    closed.mkdir()
    stat = os.stat

    def refusing(path: Any, *rest: Any, **named: Any) -> os.stat_result:
        if isinstance(path, str | Path) and closed in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *rest, **named)

    monkeypatch.setattr(os, "stat", refusing)
    with pytest.raises(PermissionError):
        os.stat(closed / "my.zarr")  # noqa: PTH116
    assert about_place(closed / "my.zarr").said.endswith(f" free at {closed}")


def test_about_machine__in_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (found,) = [each for each in about_machine({}, None) if each.topic == "this folder"]
    assert found.is_wrong
    assert found.line.endswith("; go to another folder")


@pytest.mark.parametrize(("free", "mark"), [(0, "wrong"), (10**8, "note"), (10**10, "")])
def test_about_place__how_much_room_there_is(
    free: int, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(10**11, 0, free))
    assert about_place(tmp_path).mark == mark


def test_about_machine__a_cache_in_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(place: str = "s3://bucket/my.zarr") -> Any:
        return next(each for each in about_machine({}, place) if each.topic == "cache")

    assert set(machine.STORES) == set(remote.SCHEMES)
    assert told().said == "s3://bucket/my.zarr is in an object store, which was not asked"
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert told().is_wrong
    assert told().line.endswith("; pip install 'dvme[remote]'")
    assert told("https://host/my.zarr").is_wrong
    assert "is not the URL of a cache; write s3://bucket/name.zarr, " in told("https://host/my.zarr").line


def test_folders__as_the_environment_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    caches = Path("~/.cache").expanduser()
    assert [*folders().values()] == [
        caches / "torch" / "hub" / "checkpoints",
        caches / "huggingface" / "hub",
        caches / "dvme",
    ]
    for name in names[:3]:
        monkeypatch.setenv(name, str(tmp_path / name))
    assert [*folders().values()] == [
        tmp_path / "TORCH_HOME" / "hub" / "checkpoints",
        tmp_path / "HF_HOME" / "hub",
        tmp_path / "XDG_CACHE_HOME" / "dvme",
    ]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert [*folders().values()][1] == tmp_path


def test_folders__of_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where neither HOME nor a list of users knows it
    weights, hub = folders().values()  # nothing of dvme's own is kept
    assert weights == Path("~/.cache/torch/hub/checkpoints")  # as torch has it
    assert hub == Path("~/.cache/huggingface/hub")


def test_folders__are_those_of_the_libraries() -> None:
    import torch.hub

    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    weights, hub, _ = folders().values()
    assert weights == Path(torch.hub.get_dir()) / "checkpoints"
    assert hub == Path(done.stdout.strip())
