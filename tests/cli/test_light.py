"""What is refused, or reused, imports no heavy module. Structure, not clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import once
import pytest
from filelock import FileLock

import dvme
from dvme_cache import EmbeddingCache

LITE = "efficientnet-lite0@size=32"
HEAVY = ("torch", "timm", "torchvision", "pandas", "pyarrow", "scipy", "sklearn", "h5py", "plotly", "faiss")
STORE = ("zarr", *HEAVY)
"""A place where there is no cache, or a locked one, is told without zarr too."""
REFUSED: list[tuple[str, str, tuple[str, ...]]] = [
    ("extract missing c.zarr --backbones random", "missing does not exist", STORE),
    ("extract images c.zarr --backbones nosuch", "unknown backbone 'nosuch'", STORE),
    ("extract images c.zarr --backbones timm:resnt50", "did you mean 'timm:resnet50'", STORE),
    ("extract images c.zarr --backbones own --arch own=resnt50", "did you mean 'resnet50'", STORE),
    ("extract images c.zarr --backbones random@size=0", "size=0 is not possible", STORE),
    ("extract images c.zarr --backbones random --dtype float99", "float99", STORE),
    ("extract images c.zarr --backbones random --device nosuch", "device 'nosuch'", STORE),
    ("extract images c.zarr --backbones random --shard-rows 0", "--shard-rows", STORE),
    ("extract images new.zarr --backbones efficientnet-lite0 --weights efficientnet-lite0=no", "no such file", STORE),
    ("extract images new.zarr --backbones random@draft=9", "draft=9 is not possible", STORE),
    ("extract images new.zarr --backbones random@draft=99", "fewer pixels than the 256 that images are", STORE),
    ("extract images new.zarr --backbones hf-hub:a/b/c", "is no name of a hub repository", STORE),
    ("extract images new.zarr --backbones own --arch own=resnet50", "the weights of own (own.pth) are nowhere", HEAVY),
    (
        "extract images new.zarr --backbones efficientnet-lite0 --weights efficientnet-lite0=page.html",
        "page.html is a web page, perhaps an error or a login page, not a checkpoint",
        STORE,
    ),
    ("extract images page.html/new.zarr --backbones random", "name another place for the cache", STORE),
    ("extract images locked.zarr --backbones random", "--wait waits", STORE),
    ("extract images file.h5 --backbones random", "dvme cache export file.zarr file.h5", STORE),
    ("extract images picture.png --backbones random", "picture.png is no name for a cache", STORE),
    ("extract images page.html --backbones random", "page.html is a file, not a cache", STORE),
    ("extract images images --backbones random", "images is a folder of images, not a cache", STORE),
    ("extract c.zarr images --backbones random", "swap them: images c.zarr", STORE),
    ("extract table.csv c.zarr --backbones random --label-col no", "table.csv has no column 'no'", ("torch", "scipy")),
    ("probe missing.zarr", "there is no cache at missing.zarr", STORE),
    ("probe run", "run is a run of dvme sweep or probe, not a cache; its cache is", STORE),
    ("probe c.zarr --head nosuch", "unknown head 'nosuch'", HEAVY),
    ("probe c.zarr --head dvme@max-epochs=x", "max-epochs=x is not possible", HEAVY),
    ("probe c.zarr --backbones nosuch", "has no nosuch embeddings", HEAVY),
    ("probe c.zarr --folds 1", "1 folds are not possible", HEAVY),
    ("probe c.zarr --save run", "run is there already", HEAVY),
    ("sweep images --out r", "images is a folder of images, not a cache", STORE),
    ("sweep run --out c.zarr", "pass c.zarr --out run", STORE),
    ("sweep c.zarr --out images", "images is there already", STORE),
    ("sweep c.zarr --out r --metric no", "metric 'no' is not known", STORE),
    ("sweep c.zarr --out r --subsets no.json", "no.json does not exist", HEAVY),
    ("subsets c.zarr --out s.json --sizes x", "size 'x'", STORE),
    ("compare run c.zarr", "c.zarr is a cache", STORE),
    ("compare missing run", "missing is not a run", STORE),
    ("methods missing", "missing is not a run", STORE),
    ("methods c.zarr", "c.zarr is a cache", STORE),
    ("methods run --out m.txt", "does not end in .md", STORE),
    ("predict missing images --out p.csv", "missing is not a saved head", STORE),
    ("predict images HEAD --out p.csv", "the head comes first; swap them:", STORE),
    ("predict HEAD run --out p.csv", "run is a run of dvme sweep or probe, not images or a cache; its cache is", STORE),
    ("predict HEAD images --out page.html", "does not end in .csv", STORE),
    ("explain c.zarr HEAD", "the head comes first; swap them:", STORE),
    ("cache prune images c.zarr", "the cache comes first; swap them: c.zarr images", STORE),
    ("cache label table.csv c.zarr", "the cache comes first; swap them: c.zarr table.csv", STORE),
    ("cache import c.zarr x.npz --backbone x", "comes first; swap them: x.npz c.zarr", STORE),
    ("report c.zarr --out r.html", "dvme sweep c.zarr --out RUN", STORE),
    ("report run --out r.txt", "does not end in .html", STORE),
    ("viz missing.zarr --out v.html", "there is no cache", STORE),
    ("viz c.zarr --out v.html --backbones nosuch", "has no nosuch embeddings", HEAVY),
    ("info page.html", "page.html is a file, not a cache", STORE),
    ("cache verify missing.zarr", "there is no cache", STORE),
    ("cache repair locked.zarr", "is being written", STORE),
    ("cache label locked.zarr table.csv", "is being written", HEAVY),
    ("cache prune c.zarr missing", "missing does not exist", HEAVY),
    ("cache export c.zarr x.txt", "x.txt has no suffix", STORE),
    ("cache import missing.h5 new.zarr --backbone x", "missing.h5 is not a file", STORE),
    ("data nih-cxr14 images --out table.csv", "table.csv is there already", STORE),
    ("data nih-cxr14 images --out new.csv", "images has no Data_Entry_2017", STORE),
    ("data padchest images --out new.csv --labels some", "labels 'some' are not known; pass --labels common", STORE),
    ("backbones check nosuch", "unknown backbone", STORE),
    ("backbones check efficientnet-lite0 --weights no.pth", "no such file", STORE),
    ("backbones convert no.pth", "no.pth does not exist", STORE),
]
CODE = """
import json, sys
from command_line import run
seen = []
for command in json.load(sys.stdin):
    before = set(sys.modules)
    result = run(*command)
    seen.append([result.exit_code, result.stderr, sorted(set(sys.modules) - before)])
print(json.dumps(seen))
"""


def told(folder: Path, commands: list[list[str]]) -> list[tuple[int, str, set[str]]]:
    """(exit code, stderr, modules that were new) of commands in one fresh process, the lightest first."""
    paths = [*sys.path, str(Path(__file__).parent.parent / "support")]
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(commands),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return [(code, errors, set(modules)) for code, errors, modules in found]


@pytest.fixture
def study(small_study: Path, tmp_path: Path) -> Path:
    """The small study beside files of other kinds, and a cache that someone writes to."""
    folder = once.linked(small_study, tmp_path / "study")
    (folder / "page.html").write_text("<html>")
    (folder / "table.csv").write_text("image,label\nimages/x.png,a\n")
    return folder


def test_refusals__import_nothing_heavy(study: Path) -> None:
    with EmbeddingCache.writing(study / "locked.zarr"):
        pass
    head = next((study / "run" / "heads").glob("dvme@*"))
    ordered = sorted(REFUSED, key=lambda row: -len(row[2]))
    commands = [
        [os.path.relpath(head, study) if part == "HEAD" else part for part in row[0].split()] for row in ordered
    ]
    place = study / ".locked.zarr.lock"
    with FileLock(place):
        place.write_text(json.dumps({"process": "1", "host": "here", "since": "now"}))
        results = told(study, commands)
    for (_, message, heavy), command, (code, errors, modules) in zip(ordered, commands, results, strict=True):
        assert code == 1, (command, errors)
        assert message in errors, command
        assert not modules & set(heavy), command
    assert not list(study.glob("new*")) + list(study.glob("r")) + list(study.glob("p.csv"))


def test_reuse__imports_no_torch(class_folders: Path, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    dvme.extract(class_folders, cache, backbones=[LITE])
    extract = ["extract", str(class_folders), str(cache), "--backbones", LITE]
    first, planned, verified, changed = told(
        tmp_path,
        [
            extract,
            [*extract, "--plan"],
            ["cache", "verify", str(cache)],
            [*extract, "--dtype", "float16"],
        ],
    )
    for code, errors, modules in (first, planned, verified):
        assert code == 0, errors
        assert not modules & {"torch", "timm", "torchvision", "pandas", "sklearn", "h5py"}
    assert changed[0] == 1
    assert "dtype: cached 'float32', asked 'float16'" in changed[1]
    assert "torch" not in changed[2]
