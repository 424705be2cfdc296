from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import kill_workers
from light import light, spelled
from numpy.typing import NDArray

import dvme
from dvme.errors import DataError
from dvme.heads import get_head
from dvme.runtime import Runtime
from dvme.study.design.options import SubsetOptions
from dvme.study.design.snapshot import Snapshot
from dvme.study.design.views import views_asked
from dvme.study.fitting import Assignment, fit_assignments
from dvme.study.methods import Method
from dvme.study.outcome import StudyReport
from dvme.study.run import Run
from dvme.study.spread_out import Bundle, Study, make_fit
from dvme_cache import EmbeddingCache

HEADS = ("linear", "knn", "mean-logits", "dvme-noattn")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, cache: Path, options: SubsetOptions) -> StudyReport:
    run = tmp_path_factory.mktemp("alone") / "run"
    found: StudyReport = dvme.sweep(cache, run, heads=light(*HEADS), controls=False, options=options)
    return found


@pytest.mark.ray
def test_sweep__of_a_killed_worker_equals_one_process_and_prints_nothing_but_json(
    head_node: str, alone: StudyReport, tmp_path: Path, cache: Path
) -> None:
    """Though Ray itself prints of a worker that is killed."""
    run, is_over, killed = tmp_path / "run", threading.Event(), list[int]()
    given = f"--sizes 12,40,full --folds 3 --no-controls --engine ray --ray-address {head_node} --json".split()
    command = [sys.executable, "-m", "dvme", "sweep", str(cache), "--out", str(run), "--head", spelled(*HEADS), *given]

    def kill_one() -> None:
        while not killed and not is_over.wait(0.05):
            killed.extend(kill_workers(1) if any(run.glob("jobs/*.npz")) else [])

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        killer = threading.Thread(target=kill_one)
        killer.start()
        out, log = process.communicate()
        is_over.set()
        killer.join()
    assert process.returncode == 0, log
    assert len(killed) == 1
    assert StudyReport.from_json(json.loads(out)).verdict == alone.verdict
    runs = Run.load(run), Run.load(str(alone.run))
    assert runs[0].described["jobs"] == runs[1].described["jobs"]
    for place, jobs in runs[0].finished.items():
        for mine, theirs in zip(jobs, runs[1].finished[place], strict=True):
            np.testing.assert_allclose(mine.test, theirs.test, rtol=0, atol=1e-6)
            assert (mine.n_parameters, mine.versions) == (theirs.n_parameters, theirs.versions)
    assert len(runs[0].kept_heads()) == len(runs[1].kept_heads()) == 6


def _study(cache: Path) -> Study:
    snapshot = Snapshot.take(EmbeddingCache.open(cache), ["a", "b"])
    digests = {name: table.fingerprint.digest for name, table in snapshot.backbones.items()}
    views = {"a": (), "b": ()}
    return Study(str(cache), digests, views, False, snapshot.rows, snapshot.targets(), np.arange(3), Runtime())


def test_make_fit__knows_views(
    tmp_path: Path, write_embeddings: Callable[..., Path], features: dict[str, NDArray[Any]], names: list[str]
) -> None:
    seen = {"a": features["a"], "a@view=1": features["a"][:, ::-1].copy()}
    store = EmbeddingCache.open(write_embeddings(tmp_path / "c.zarr", seen, label=names))
    snapshot = Snapshot.take(store, ["a"], views=views_asked("train,test", store, ["a"])[0])
    method = Method("knn", get_head("knn"), ("a",))
    given = [Assignment(method, np.arange(60), np.arange(60, 90), 0)]
    test, runtime = np.arange(90, 150), Runtime(device="cpu", memory=2**28)
    (alone,) = fit_assignments(
        given, snapshot, snapshot.targets(), test, runtime=runtime, budget=2**28, progress=dvme.silent
    )
    digests = {name: store.embeddings(name).fingerprint.digest for name in seen}
    study = Study(
        str(tmp_path / "c.zarr"), digests, {"a": ("a@view=1",)}, True, snapshot.rows, snapshot.targets(), test, runtime
    )
    (there,) = make_fit(study, 1)(Bundle([4], given, [True]))
    np.testing.assert_array_equal(there.log_test, alone.log_test)
    plain = replace(study, digests={"a": digests["a"]}, views={"a": ()}, averages_views=False)
    (other,) = make_fit(plain, 1)(Bundle([4], given, [False]))
    assert other.head is None
    assert not np.array_equal(other.log_test, alone.log_test)


def test_make_fit__a_machine_without_the_cache_says_what_it_needs(
    cache: Path,
    tmp_path: Path,
    write_embeddings: Callable[..., Path],
    features: dict[str, NDArray[Any]],
    names: list[str],
) -> None:
    with pytest.raises(DataError, match=r"cannot read .*no\.zarr .*storage that all of its machines share"):
        make_fit(replace(_study(cache), cache=str(tmp_path / "no.zarr")), 1)
    given = {"a": features["a"][:, :4], "b": features["b"]}
    other = write_embeddings(tmp_path / "c.zarr", given, label=names)
    study = replace(_study(cache), cache=str(other), digests={"a": "0" * 32})
    with pytest.raises(DataError, match=r"has other embeddings of a at .*c\.zarr; a cluster needs one cache"):
        make_fit(study, 1)


@pytest.mark.slow
@pytest.mark.ray
def test_sweep__ctrl_c_leaves_no_process(tmp_path: Path, cache: Path) -> None:
    """Pressed in a terminal, it goes to all processes of its group."""
    import signal

    command = [sys.executable, "-m", "dvme", "sweep", str(cache), "--out", str(tmp_path / "run")]
    command += ["--head", "dvme@min-epochs=500@max-epochs=500", "--engine", "ray"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    for target in (os.kill, os.killpg):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, env=environment)
        while not _children(process.pid, b"ray::_Worker"):
            assert process.poll() is None
            time.sleep(0.2)
        target(process.pid, signal.SIGINT)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 130, log
        assert b"jobs that were finished are kept in" in log
        deadline = time.monotonic() + 20
        while (left := _in_session(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == []


def _stat(entry: Path) -> list[str]:
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _in_session(session: int) -> list[int]:
    found = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [int(each.name) for each in found if (stat := _stat(each)) and stat[3] == str(session) and stat[0] != "Z"]


def _children(session: int, title: bytes) -> list[int]:
    def is_one(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(title)
        except OSError:
            return False

    return [pid for pid in _in_session(session) if is_one(pid)]
