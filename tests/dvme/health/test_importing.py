from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dvme.health.importing import Trial, tried

MODULES = {
    "sound": "print('said on the way')",
    "torn": "raise ImportError('libsomething.so: undefined symbol\\nmore')",
    "exiting": "raise SystemExit(3)",
    "silent": "raise RuntimeError",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "ended": "import os; os._exit(7)",
    "loud": "import sys; sys.stderr.buffer.write(bytes([255, 254, 10]))",  # of another encoding
    "slow": "import time; time.sleep(60)",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules, which other processes find."""
    for name, code in MODULES.items():
        (tmp_path / f"own_{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return tmp_path


def test_tried__what_becomes_of_each() -> None:
    """A process that ends takes none of the others with it."""
    names = [f"own_{name}" for name in ("sound", "loud", "torn", "killed", "exiting", "ended", "silent")]
    assert tried([*names, "no_such_module"]) == {
        "own_sound": Trial(),
        "own_loud": Trial(),
        "own_torn": Trial("ImportError: libsomething.so: undefined symbol"),
        "own_killed": Trial("the import ended Python (SIGKILL)"),
        "own_exiting": Trial("SystemExit: 3"),
        "own_ended": Trial("the import ended Python with status 7"),
        "own_silent": Trial("RuntimeError"),
        "no_such_module": Trial("ModuleNotFoundError: No module named 'no_such_module'"),
    }
    assert tried([]) == {}


def test_tried__one_that_takes_too_long() -> None:
    found = tried(["own_sound", "own_slow"], seconds=0.5)
    assert found["own_sound"] == Trial() or "took more than 0.5 s" in found["own_sound"].error
    assert "took more than 0.5 s" in found["own_slow"].error


def test_tried__faiss_says_what_it_can_use() -> None:
    facts = tried(["faiss"])["faiss"].facts
    assert facts["has_gpu"] in {True, False}
    assert facts["n_gpus"] >= 0


def test_tried__no_folder_of_the_user_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A json.py beside the user's data is not taken for Python's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH")
    (tmp_path / "json.py").write_text("raise ImportError('not this one')")
    assert tried(["json"]) == {"json": Trial()}


TORCH = """
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod(lambda index: f"GPU {index}")
    def mem_get_info(index):
        if index:
            raise RuntimeError("CUDA error: all devices are busy\\nmore")
        return 5, 10
class version:
    cuda = "12.8"
backends = object()
get_num_threads = lambda: 4
__version__ = "2.9.0"
"""


def test_tried__a_gpu_that_is_taken_says_nothing_of_torch(modules: Path) -> None:
    (modules / "torch.py").write_text(TORCH)
    found = tried(["torch"])["torch"]
    assert found.error == ""
    assert found.facts["gpus"] == [
        {"name": "GPU 0", "free": 5, "total": 10, "error": ""},
        {"name": "", "free": 0, "total": 0, "error": "RuntimeError: CUDA error: all devices are busy"},
    ]
