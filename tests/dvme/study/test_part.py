from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from light import light
from numpy.typing import NDArray

import dvme
from dvme.errors import OptionError
from dvme.heads.saving import load_head
from dvme.json_values import plain
from dvme.study.design.options import SubsetOptions
from dvme.study.outcome import StudyReport
from dvme.study.run import Run

HEADS = light("linear", "knn", "mean-logits", "dvme-noattn")
N_JOBS = 6 * 3 * 3
"""Two single heads on two backbones and two fusions; sizes; folds."""


def _swept(cache: Path, run: Path, options: SubsetOptions, part: str | None = None) -> StudyReport:
    found: StudyReport = dvme.sweep(cache, run, heads=HEADS, controls=False, options=options, part=part)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path, options: SubsetOptions) -> StudyReport:
    return _swept(cache, tmp_path_factory.mktemp("whole") / "run", options)


def _assert_same_but_for_rounding(one: StudyReport, other: StudyReport) -> None:
    """Predictions to 1e-6, those of knn to the bit, kept heads, and what is said of them."""
    runs = Run.load(one.run), Run.load(other.run)
    assert runs[0].described["jobs"] == runs[1].described["jobs"]
    for place, jobs in runs[0].finished.items():
        for mine, theirs in zip(jobs, runs[1].finished[place], strict=True):
            np.testing.assert_allclose(mine.test, theirs.test, rtol=0, atol=1e-6)
            np.testing.assert_allclose(mine.validation, theirs.validation, rtol=0, atol=1e-6)
            if runs[0].methods[place[0]][0] == "knn":
                np.testing.assert_array_equal(mine.log_test, theirs.log_test)
            assert mine.chosen.keys() == theirs.chosen.keys()
            assert (mine.n_parameters, mine.chosen.get("k")) == (theirs.n_parameters, theirs.chosen.get("k"))
    kept = [run.kept_heads() for run in runs]
    assert kept[0].keys() == kept[1].keys()
    assert len(kept[0]) == 6
    for method, folder in kept[0].items():
        folds = [load_head(each).folds for each in (folder, kept[1][method])]
        for mine, theirs in zip(*folds, strict=True):
            np.testing.assert_array_equal(mine.train_ids, theirs.train_ids)
            for name, values in mine.head.arrays().items():
                np.testing.assert_allclose(values, theirs.head.arrays()[name], rtol=0, atol=1e-5)
    assert one.verdict == other.verdict
    assert [(cell.method, cell.size, cell.mark) for cell in one.cells] == [
        (cell.method, cell.size, cell.mark) for cell in other.cells
    ]


@pytest.mark.parametrize("order", [(2, 1), (3, 1, 4, 2)])
def test_part__in_any_order_they_are_one_sweep(
    order: tuple[int, ...], whole: StudyReport, tmp_path: Path, cache: Path, options: SubsetOptions
) -> None:
    run, n_fitted = tmp_path / "run", 0
    for k in order:
        done = _swept(cache, run, options, f"{k}/{len(order)}")
        n_fitted += done.n_jobs
        assert done.part is not None
        assert (done.n_reused, done.cells, done.verdict, done.rows) == (0, [], "", [])
        assert (done.part.part, done.part.n_left) == (f"{k}/{len(order)}", N_JOBS - n_fitted)
        assert not (run / "summary.json").exists()
        assert 0 < done.n_jobs < N_JOBS
        assert StudyReport.from_json(plain(done.to_json())).part == done.part
    assert n_fitted == N_JOBS
    assert (tmp_path / ".run.parts").is_dir()
    judged = _swept(cache, run, options)
    assert (judged.n_reused, judged.part) == (N_JOBS, None)
    _assert_same_but_for_rounding(judged, whole)
    assert not (tmp_path / ".run.parts").exists()
    assert not [entry for entry in (run / "jobs").iterdir() if entry.is_dir()]  # heads lie together now


def test_part__of_a_finished_run_has_nothing_to_do(
    whole: StudyReport, tmp_path: Path, cache: Path, options: SubsetOptions
) -> None:
    shutil.copytree(whole.run, tmp_path / "run")
    done = _swept(cache, tmp_path / "run", options, "1/2")
    assert done.part is not None
    assert (done.n_reused, done.part.n_left) == (done.n_jobs, 0)
    assert Run.load(tmp_path / "run").described["jobs"]  # it is finished still


@pytest.fixture
def begin(tmp_path: Path, cache: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Begin a slow part as a process of its own, and wait until it fits."""
    begun: list[subprocess.Popen[str]] = []

    def part(which: str) -> subprocess.Popen[str]:
        program = (
            "import dvme, sys, time, numpy as np\n"
            "from dvme.study.ledger import Ledger\n"
            "write = Ledger.write\n"
            "def slowly(self, key, job):\n"
            "    write(self, key, job)\n"
            "    print('wrote', flush=True)\n"
            "    time.sleep(60)\n"
            "Ledger.write = slowly\n"
            "options = dvme.SubsetOptions(sizes=('12', '40', 'full'), n_folds=3)\n"
            f"dvme.sweep({str(cache)!r}, {str(tmp_path / 'run')!r}, heads={HEADS!r}, controls=False,\n"
            f"           options=options, part={which!r})\n"
        )
        begun.append(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True))
        assert begun[-1].stdout is not None
        assert begun[-1].stdout.readline() == "wrote\n"
        return begun[-1]

    yield part
    for each in begun:
        each.kill()
        each.communicate()


def test_part__what_is_refused_beside_a_living_one_and_after_its_death(
    begin: Callable[[str], subprocess.Popen[str]],
    whole: StudyReport,
    tmp_path: Path,
    cache: Path,
    options: SubsetOptions,
) -> None:
    living = begin("1/2")
    for part, refusal in (
        (None, r"part 1/2 of .*run is being fitted; wait until all parts are done, then run the same without part"),
        ("1/2", r"part 1/2 of .*run is being fitted already"),
        ("3/4", r"run is being fitted in 2 parts; wait for them, or pass part='2/2'"),
    ):
        with pytest.raises(OptionError, match=refusal):
            _swept(cache, tmp_path / "run", options, part)
    second = _swept(cache, tmp_path / "run", options, "2/2")
    living.send_signal(signal.SIGKILL)
    living.wait()
    again = _swept(cache, tmp_path / "run", options, "1/2")
    assert again.part is not None
    assert 0 < again.n_reused < again.n_jobs
    assert (again.n_jobs + second.n_jobs, again.part.n_left) == (N_JOBS, 0)
    _assert_same_but_for_rounding(_swept(cache, tmp_path / "run", options), whole)


def test_part__beside_a_study_that_is_none(tmp_path: Path, cache: Path, options: SubsetOptions) -> None:
    (tmp_path / ".run.lock").write_text('{"process": "1", "host": "here", "since": "now"}')
    with FileLock(tmp_path / ".run.lock"):
        start = time.monotonic()
        with pytest.raises(OptionError, match=r"another dvme is writing to .*run; wait for it"):
            _swept(cache, tmp_path / "run", options, "1/2")
        assert time.monotonic() - start < 5.0


@pytest.mark.parametrize(
    ("part", "refusal"),
    [
        ("17/16", r"17/16.*part='3/16' is the third"),
        ("0/4", "0/4"),
        ("1/0", "1/0"),
        ("three", "'three' is no part"),
        ("", "'' is no part"),
        ("-1/4", "is no part"),
    ],
)
def test_part__is_none(part: str, refusal: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(OptionError, match=refusal):
        dvme.sweep(cache, tmp_path / "run", part=part)
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_part__of_a_probe_needs_a_run_and_saves_nothing_elsewhere(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(OptionError, match="keeps its jobs in a run's folder; pass out='RUN'"):
        dvme.probe(cache, part="1/2")
    with pytest.raises(OptionError, match="leave out save, and pass it to the same command without part"):
        dvme.probe(cache, out=tmp_path / "run", save=tmp_path / "heads", part="1/2")
    assert not os.listdir(tmp_path)  # noqa: PTH208
    done = [dvme.probe(cache, heads=light("linear"), n_folds=2, out=tmp_path / "run", part=f"{k}/2") for k in (1, 2)]
    assert sum(each.n_jobs for each in done) == 4


def test_part__jobs_of_equal_embeddings_are_of_one(
    tmp_path: Path, write_embeddings: Callable[..., Path], features: dict[str, NDArray[Any]], names: list[str]
) -> None:
    """Jobs of one key are one file, which two processes would write at once."""
    from dvme.study.design.snapshot import Snapshot
    from dvme.study.grid import Grid
    from dvme.study.ledger import Ledger
    from dvme.study.methods import make_methods
    from dvme_cache import EmbeddingCache, Fingerprint
    from dvme_cache.parts import Part

    path = write_embeddings(tmp_path / "c.zarr", {"a": features["a"]}, label=names)
    with EmbeddingCache.writing(path) as cache:
        table = cache.ensure_embeddings("twin", Fingerprint({"weights": "a"}), dim=8, dtype="float32", provenance={})
        for shard in table.pending_shards():
            table.commit(shard, features["a"][shard], {})
    manifest = dvme.subsets(path, options=SubsetOptions(sizes=("12", "full"), n_folds=2)).manifest
    snapshot = Snapshot.take(EmbeddingCache.open(path), ["a", "twin"])
    order = [snapshot.ids.tolist().index(image.tolist()) for image in manifest.images]
    methods = make_methods(["linear", "knn"], ["a", "twin"], with_controls=False)
    grid = Grid(snapshot.at(np.array(order)), manifest, methods, Ledger(None), None)
    assert len(set(grid.keys.values())) == len(grid.places) // 2
    parts = [{grid.keys[place] for place in grid.places_of(Part(k, 3))} for k in (1, 2, 3)]
    assert set.union(*parts) == set(grid.keys.values())
    assert not any(one & other for one, other in combinations(parts, 2))
