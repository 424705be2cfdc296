"""What an installation brings is what is used: dvme without extras, the cache alone, and the demo's torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from alone import closure, modules_of, run_alone, site_of
from light import spelled
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pixel_backbone import pixel_backbone
from scans import write_scan

from dvme.extras import NEEDS
from dvme_cache import EmbeddingCache

ROOT = Path(__file__).parent.parent
OURS = [ROOT, ROOT / "cache", ROOT / "cli"]
PROJECT, CACHE = (
    tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"] for folder in ("", "cache")
)
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REFUSED = [
    ("viz c.zarr --out new.html", "t-SNE maps need openTSNE: pip install 'dvme[maps]'"),
    ("viz c.zarr --out new.html --method pca,umap", "UMAP maps need umap-learn: pip install 'dvme[maps]'"),
    ("report run --out new.html", "figures need plotly: pip install 'dvme[report]'"),
    ("viz c.zarr --out new.html --figures new", "figures need kaleido: pip install 'dvme[figures]'"),
    ("cache export c.zarr new.h5", "HDF5 files need h5py: pip install 'dvme[convert]'"),
    ("cache import made.h5 new.zarr --backbone x", "HDF5 files need h5py: pip install 'dvme[convert]'"),
    ("extract made.h5 new.zarr --backbones random", "HDF5 files need h5py: pip install 'dvme[convert]'"),
    ("extract scans new.zarr --backbones random", "DICOM files need pydicom: pip install 'dvme[dicom]'"),
    ("extract book.xlsx new.zarr --backbones random", "which needs openpyxl: pip install 'dvme[excel]'"),
    ("probe c.zarr --engine ray", "a cluster needs Ray: pip install 'dvme[ray]'"),
    ("info s3://bucket/c.zarr", "needs obstore: pip install 'dvme[remote]'"),
]
"""A command, and the line that refuses it; that of U-Nets is in tests/dvme/segmentation/unet/test_network.py."""
COMMANDS = """
import json
from command_line import run
results = [run(*command) for command in json.load(sys.stdin)]
print(json.dumps([[each.exit_code, each.stdout, each.stderr] for each in results]))
"""
PIP, UV = "python -m pip install --quiet", "bin/uv pip install --quiet --python NEW/bin/python"


def test_base__extracts_and_probes_and_names_the_extra_of_all_else(class_folders: Path, tmp_path: Path) -> None:
    """In a process that has the packages of `pip install dvme`."""
    backbone = pixel_backbone(tmp_path)
    (tmp_path / "made.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    write_scan(tmp_path / "scans" / "a.dcm")
    openpyxl.Workbook().save(tmp_path / "book.xlsx")
    np.savez(tmp_path / "made.npz", features=np.eye(3, dtype=np.float32), ids=np.array(["a.png", "b.png", "c.png"]))
    done = [
        ["extract", class_folders.name, "c.zarr", "--backbones", backbone, "--device", "cpu"],
        ["probe", "c.zarr", "--head", spelled("linear", "knn"), "--folds", "2", "--out", "run"],
        ["viz", "c.zarr", "--out", "pca.html", "--method", "pca"],
        ["cache", "import", "made.npz", "made.zarr", "--backbone", "x"],
    ]
    refused = [command.split() for command, _ in REFUSED]
    site = site_of([*closure(PROJECT["dependencies"]), "dvme"], tmp_path / "site")
    assert {path.name for path in site.iterdir()}.isdisjoint({*NEEDS, "ray", "pydicom", "kaleido", "obstore"})
    before = {path.name for path in tmp_path.iterdir()}
    paths = [*OURS, ROOT / "tests" / "support", site]
    results = json.loads(run_alone(COMMANDS, *paths, cwd=tmp_path, given=json.dumps([*done, *refused])))
    assert [code for code, *_ in results] == [0] * len(done) + [1] * len(refused), results
    assert "test AUC" in results[1][1]
    assert "pca maps of 36 images" in results[2][1]
    for (command, line), (_, out, errors) in zip(REFUSED, results[len(done) :], strict=True):
        last = errors.splitlines()[-1]
        assert last.startswith("error: "), command
        assert line in last, command
        assert not out.strip(), command
    new = {path.name for path in tmp_path.iterdir()} - before
    assert {name for name in new if not name.startswith(".")} == {"c.zarr", "run", "pca.html", "made.zarr"}


@pytest.fixture(scope="module")
def cache_alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel of cache/, unpacked, and the packages that it requires."""
    folder = tmp_path_factory.mktemp("alone")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT / "cache")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "wheel")
    return folder / "wheel", site_of(closure(CACHE["dependencies"]), folder / "site")


WRITING = """
import numpy as np
from dvme_cache import EmbeddingCache, Fingerprint
with EmbeddingCache.writing("new.zarr") as cache:
    rows = cache.samples.add([bytes(range(16))], ["a.png"])
    cache.update_columns(rows, {"label": ["x"]})
    table = cache.ensure_embeddings("m", Fingerprint({"weights": "w"}), dim=2, dtype="float32", provenance={})
    table.commit(rows, np.ones((1, 2), dtype=np.float32), {})
"""
TELLING = """
import json, dvme_cache
loaded = sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)
print(json.dumps([dvme_cache.__file__, features.tolist(), labels.tolist(), groups.tolist(), loaded]))
"""


def test_cache_alone__writes_a_cache_and_opens_one_as_its_readme_says(
    cache_alone: tuple[Path, Path], write_embeddings: Callable[..., Path], tmp_path: Path
) -> None:
    features = np.arange(24, dtype=np.float32).reshape(6, 4)
    features[4] = np.nan  # an image that failed
    labels, groups = list("abcabc"), [f"patient {row // 2}" for row in range(6)]
    write_embeddings(tmp_path / "my.zarr", {"dino": features}, label=labels, group=groups)
    readme = (ROOT / "cache" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 5
    place, *read, loaded = json.loads(run_alone(WRITING + code + TELLING, *cache_alone, cwd=tmp_path))
    rows = [0, 1, 2, 3, 5]
    assert Path(place).is_relative_to(cache_alone[0])
    assert read == [features[rows].tolist(), [labels[row] for row in rows], [groups[row] for row in rows]]
    assert {"dvme_cache", "numpy", "zarr"} <= set(loaded)
    heavy = {"torch", "timm", "pandas", "rich", "typer", "sklearn", "pydantic", "h5py"}
    assert heavy.isdisjoint(loaded)
    assert heavy.isdisjoint(path.name for path in cache_alone[1].iterdir())
    cache = EmbeddingCache.open(tmp_path / "new.zarr")
    assert cache.embeddings("m").read(np.array([0])).tolist() == [[1.0, 1.0]]
    assert cache.column("label").tolist() == ["x"]


def test_cache_alone__has_the_package_and_nothing_else(cache_alone: tuple[Path, Path]) -> None:
    wheel, _ = cache_alone
    (info,) = wheel.glob("*.dist-info")
    assert {path.name for path in wheel.iterdir()} == {"dvme_cache", info.name}
    sources = {path.name for path in (ROOT / "cache" / "dvme_cache").iterdir() if path.is_file()}
    assert {path.name for path in (wheel / "dvme_cache").iterdir()} == sources
    assert {"py.typed", "schema.json"} <= sources
    assert (info / "licenses" / "LICENSE").is_file()


def test_cache_alone__agrees_with_dvme_of_which_it_is_a_part() -> None:
    assert (ROOT / "cache" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for field in ("version", "requires-python", "license"):
        assert CACHE[field] == PROJECT[field], field
    assert set(CACHE["dependencies"]) <= set(PROJECT["dependencies"])
    assert CACHE["optional-dependencies"]["remote"] == EXTRAS["remote"]


def test_extras__are_those_that_messages_name() -> None:
    """And bring the package that is missing."""
    sources = [path for folder in ("cache", "cli", "dvme") for path in (ROOT / folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    named = {name for text in texts for found in re.findall(r"'dvme\[([a-z,]+)\]'", text) for name in found.split(",")}
    assert {"dicom", "excel", "figures", "ray", "remote", "segment"} <= named <= set(EXTRAS)
    for module, (_, extra) in NEEDS.items():
        names = [Requirement(text).name for text in EXTRAS[extra]]
        assert any(module in modules_of(name) for name in names if name != "dvme"), module
    assert {"maps", "report", "convert", "dicom", "ray", "adapt", "segment", "notebook"} <= set(EXTRAS)


def test_extras__of_the_demo_and_of_developers_bring_what_these_run() -> None:
    def brought(extra: str) -> set[str]:
        """Extras and distributions."""
        found = set()
        for each in map(Requirement, EXTRAS[extra]):
            inner = [{part, *brought(part)} for part in each.extras] if each.name == "dvme" else []
            found |= set().union({canonicalize_name(each.name)}, *inner)
        return found

    assert {"opentsne", "umap-learn", "plotly"} <= brought("demo")
    assert set(EXTRAS) - {"dev", "gpu"} <= brought("dev")  # faiss-gpu and faiss-cpu exclude each other


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["TORCH_INDEX=https://index/cpu"], [f"{PIP} --index-url 'https://index/cpu' torch torchvision"]),
        (["TORCH=cpu"], [f"{UV} --torch-backend 'cpu' torch torchvision"]),
    ],
)
def test_makefile__installs_torch_and_torchvision_as_a_pair_before_all_else(
    given: list[str], expected: list[str], tmp_path: Path
) -> None:
    """Shown, not run. Where nobody asks for it, everything comes from where pip looks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "TORCH"))}
    command = ["make", "--dry-run", "--no-print-directory", "demo", f"VENV={tmp_path}", *given]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=kept)
    *first, last = [line for line in done.stdout.splitlines() if " install " in line]
    assert last.endswith(f"{PIP} --editable '.[demo]'")
    assert len(first) == len(expected)
    for line, text in zip(first, expected, strict=True):
        assert line.endswith(text.replace("NEW", str(tmp_path)))


def test_project__names_no_host_of_a_package_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    places = [ROOT / name for name in tracked.split("\n") if Path(name).suffix in {".md", ".toml", ".py", ""} and name]
    hosts = re.compile(r"pypi\.org|pythonhosted\.org|pytorch\.org/whl", re.IGNORECASE)
    texts = {place: place.read_text(encoding="utf-8") for place in places if place.is_file()}
    assert len(texts) > 500
    assert [str(place) for place, text in texts.items() if hosts.search(text)] == []
