from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light, spelled
from numpy.typing import NDArray

import dvme
from dvme.heads import Job
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.saving import SavedHead, load_head, subset_hash
from dvme.study import grid
from dvme.study.design.options import SubsetOptions
from dvme.study.kept_heads import KeptHeads, marks_of
from dvme.study.ledger import Ledger
from dvme.study.outcome import StudyReport
from dvme.study.run import Run
from dvme.training.schedule import TrainingProtocol
from dvme_cache import EmbeddingCache, Fingerprint

BOTH = ("a", "b")
HEADS = ("dvme", "dvme-tokens")
OPTIONS = SubsetOptions(sizes=("12", "full"), n_folds=2)
N_JOBS, N_KEPT = len(HEADS) * 2 * 2, len(HEADS) * 2


def _sweep(cache: Path, folder: Path, heads: Sequence[str] = HEADS) -> StudyReport:
    found: StudyReport = dvme.sweep(cache, folder, heads=light(*heads), options=OPTIONS, controls=False)
    return found


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "run"
    _sweep(cache, folder)
    return folder


@pytest.fixture
def folder(swept: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(swept, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(head, training images) of every job that is fitted from now on."""
    found: list[tuple[str, int]] = []
    fit_each = grid.fit_each

    def noted(jobs: Sequence[Job], *args: Any, **kwargs: Any) -> Iterator[Any]:
        found.extend((job.head.name, len(job.train)) for job in jobs)
        return fit_each(jobs, *args, **kwargs)

    monkeypatch.setattr(grid, "fit_each", noted)
    return found


def _assert_holds_its_heads(folder: Path, cache: Path, heads: Sequence[str] = HEADS) -> None:
    """Every head predicts what its job's file says, each is there once, and nothing else is left."""
    run, store = Run.load(folder), EmbeddingCache.open(cache)
    kept = run.kept_heads()
    assert list(kept) == [(head, BOTH) for head in heads]
    row_of = {bytes(own): row for row, own in enumerate(store.samples.ids)}
    rows = [row_of[bytes(own)] for own in run.manifest.images[run.manifest.test]]
    blocks = [store.embeddings(name).read(np.array(rows)) for name in BOTH]
    for method, place in kept.items():
        jobs = run.finished[run.methods.index(method), 1]
        for fold, job in zip(load_head(place).folds, jobs, strict=True):
            np.testing.assert_allclose(fold.head.predict_proba(blocks), job.test, rtol=0, atol=1e-6)
    assert all(entry.suffix == ".npz" for entry in (folder / "jobs").iterdir())
    assert sorted((folder / "heads").iterdir()) == sorted(kept.values())


def test_sweep__keeps_the_heads_of_the_largest_size(swept: Path, cache: Path) -> None:
    run, store = Run.load(swept), EmbeddingCache.open(cache)
    manifest, images = run.manifest, run.manifest.images
    assert manifest.sizes == ("12", "full")
    kept = run.kept_heads()
    assert kept == {
        ("dvme", BOTH): swept / "heads" / "dvme--a+b",
        ("dvme-tokens", BOTH): swept / "heads" / "dvme-tokens--a+b",
    }
    report = dvme.sweep(cache, swept, heads=light(*HEADS), options=OPTIONS, controls=False)
    for (name, _), place in kept.items():
        saved = load_head(place)
        assert saved.head == NetworkHead(name, TrainingProtocol(max_epochs=2, min_epochs=1))
        assert (saved.backbones, saved.dims, saved.classes) == (BOTH, (8, 10), manifest.classes)
        assert saved.fingerprints == tuple(store.embeddings(each).fingerprint for each in BOTH)
        assert saved.test_hash == subset_hash(images[manifest.test])
        for number, (fold, draw) in enumerate(zip(saved.folds, manifest.draws, strict=True)):
            np.testing.assert_array_equal(fold.train_ids, images[manifest.train(draw, 1)])
            np.testing.assert_array_equal(fold.validation_ids, images[manifest.validation(draw, 1)])
            assert fold.seed == int(np.random.SeedSequence([0, draw.repeat, draw.fold]).generate_state(1)[0])
            (cell,) = (cell for cell in report.row(name, BOTH) if cell.size == "full")
            assert fold.metrics == {metric: score.folds[number] for metric, score in cell.test.items()}
    _assert_holds_its_heads(swept, cache)


def test_sweep__a_finished_run_is_left_as_it_is(folder: Path, cache: Path, fitted: list[tuple[str, int]]) -> None:
    before = {path: path.stat().st_mtime_ns for part in ("jobs", "heads") for path in (folder / part).rglob("*")}
    assert _sweep(cache, folder).n_reused == N_JOBS
    assert fitted == []
    _sweep(cache, folder, (*HEADS, "knn"))
    assert {name for name, _ in fitted} == {"knn"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    _assert_holds_its_heads(folder, cache)


def test_sweep__heads_that_are_added_and_left_out(folder: Path, cache: Path, fitted: list[tuple[str, int]]) -> None:
    """What is not swept this time stays for the next, and is not said to be this run's."""
    _sweep(cache, folder, ["dvme"])
    assert list(Run.load(folder).kept_heads()) == [("dvme", BOTH)]
    _sweep(cache, folder, HEADS)
    assert fitted == []
    _assert_holds_its_heads(folder, cache)


def test_sweep__a_run_that_kept_no_heads_fits_those_jobs_again(
    folder: Path, cache: Path, fitted: list[tuple[str, int]]
) -> None:
    shutil.rmtree(folder / "heads")
    assert Run.load(folder).kept_heads() == {}
    assert _sweep(cache, folder).n_reused == N_JOBS - N_KEPT
    assert sorted(fitted) == [("dvme", 60), ("dvme", 60), ("dvme-tokens", 60), ("dvme-tokens", 60)]
    _assert_holds_its_heads(folder, cache)


def test_sweep__only_fusions_by_attention_keep_heads(tmp_path: Path, cache: Path) -> None:
    _sweep(cache, tmp_path / "others", ["linear", "dvme-noattn", "mlp", "concat"])
    dvme.sweep(cache, tmp_path / "alone", heads=light("dvme"), backbones=["a"], options=OPTIONS, controls=False)
    for name in ("others", "alone"):
        assert not (tmp_path / name / "heads").exists()
        assert Run.load(tmp_path / name).kept_heads() == {}
        assert all(entry.suffix == ".npz" for entry in (tmp_path / name / "jobs").iterdir())


KILLS = """
import os, pathlib, shutil, signal, sys, types
import pandas, sklearn.metrics, torch  # before the forks, once for all
import dvme
from dvme.heads import saving
from dvme.study.design.options import SubsetOptions
from dvme.study import kept_heads as kept
from dvme.study import sweep
from dvme.study.ledger import Ledger

digest, write = saving.file_digest, Ledger.write

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def while_it_is_written(path):
    die()

def while_they_are_put_together(path):
    return die() if "heads" in path.parts else digest(path)

def before_the_job_is(ledger, key, job):
    return die() if (ledger.folder / key).exists() else write(ledger, key, job)

def before_the_single_ones_are_gone(path):
    die()

def with_half_of_a_single_one_gone(path):
    (path / "weights.safetensors").unlink()
    die()

def break_in(point):
    if point.__name__.startswith("while"):
        saving.file_digest = point
    elif point is before_the_job_is:
        Ledger.write = point
    else:
        kept.shutil = types.SimpleNamespace(rmtree=point)

cache, folder, heads = sys.argv[1:]
torch.set_num_threads(1)
for point in (while_it_is_written, before_the_job_is, while_they_are_put_together, before_the_single_ones_are_gone,
              with_half_of_a_single_one_gone):
    child = os.fork()
    if not child:
        break_in(point)
        options = SubsetOptions(sizes=("12", "full"), n_folds=2)
        dvme.sweep(cache, pathlib.Path(folder, point.__name__), heads=heads.split(","), options=options,
                   controls=False, runtime=dvme.Runtime(device="cpu"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, status)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Runs that were killed, by where."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLS, str(cache), str(folder), spelled(*HEADS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the children are forked
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("where", "left", "n_reused"),
    [
        ("while_it_is_written", "jobs/.*.partial/weights.safetensors", None),
        ("before_the_job_is", "jobs/*/head.json", None),
        ("while_they_are_put_together", "heads/.dvme--a+b.partial/weights.safetensors", N_JOBS),
        ("before_the_single_ones_are_gone", "heads/dvme--a+b/head.json", N_JOBS),
        ("with_half_of_a_single_one_gone", "heads/dvme--a+b/head.json", N_JOBS),
    ],
)
def test_sweep__killed_while_heads_are_kept(
    killed: Path, cache: Path, where: str, left: str, n_reused: int | None
) -> None:
    """SIGKILL, then the same call: what is in the ledger has its head, and is not fitted again."""
    folder = killed / where
    assert list(folder.glob(left))
    finished = {path: path.stat().st_mtime_ns for path in (folder / "jobs").glob("*.npz")}
    assert _sweep(cache, folder).n_reused == len(finished) == (n_reused or len(finished)) <= N_JOBS
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    _assert_holds_its_heads(folder, cache)


def test_sweep__heads_of_other_settings_are_replaced(folder: Path, cache: Path, swept: Path) -> None:
    longer = [NetworkHead(name, TrainingProtocol(max_epochs=3, min_epochs=3)) for name in HEADS]

    def again() -> StudyReport:
        found: StudyReport = dvme.sweep(cache, folder, heads=longer, options=OPTIONS, controls=False)
        return found

    assert again().n_reused == 0
    _assert_holds_its_heads(folder, cache)
    for place in Run.load(folder).kept_heads().values():
        assert load_head(place).head in longer
    # Heads that someone else put there do not pass for this run's.
    shutil.rmtree(folder / "heads")
    shutil.copytree(swept / "heads", folder / "heads")
    assert Run.load(folder).kept_heads() == {}
    assert again().n_reused == N_JOBS - N_KEPT
    _assert_holds_its_heads(folder, cache)


def test_sweep__heads_on_other_embeddings_are_replaced(
    folder: Path, write_embeddings: Callable[..., Path], features: dict[str, NDArray[Any]], names: list[str]
) -> None:
    """Extracted anew under the same name, by other weights."""
    other = write_embeddings(folder.parent / "o.zarr", {"a": features["a"]}, label=names)
    made_by = Fingerprint({"weights": "new"})
    with EmbeddingCache.writing(other) as store:
        table = store.ensure_embeddings("b", made_by, dim=10, dtype="float32", provenance={})
        for shard in table.pending_shards():
            table.commit(shard, 2 * features["b"][shard], {})
    assert _sweep(other, folder).n_reused == 0
    _assert_holds_its_heads(folder, other)
    for place in Run.load(folder).kept_heads().values():
        assert load_head(place).fingerprints[1] == made_by


def _truncated(folder: Path) -> None:
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[:-7])


def _flipped(folder: Path) -> None:
    whole = bytearray((folder / "weights.safetensors").read_bytes())
    whole[-100] ^= 1
    (folder / "weights.safetensors").write_bytes(whole)


def _reworded(folder: Path) -> None:
    text = (folder / "head.json").read_text()
    (folder / "head.json").write_text(text.replace('"seed": ', '"seed": 1'))


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _flipped,
        _reworded,
        lambda folder: (folder / "weights.safetensors").unlink(),
        lambda folder: (folder / "head.json").unlink(),
        lambda folder: (folder / "head.json").write_text("[]"),
        lambda folder: (folder / "head.json").write_text("{"),
        lambda folder: (folder / "head.json").write_bytes(b"\xff"),
    ],
)
def test_sweep__damaged_heads_are_fitted_again(
    folder: Path, cache: Path, fitted: list[tuple[str, int]], damage: Callable[[Path], object]
) -> None:
    damage(folder / "heads" / "dvme--a+b")
    assert list(Run.load(folder).kept_heads()) == [("dvme-tokens", BOTH)]
    assert _sweep(cache, folder).n_reused == N_JOBS - 2
    assert fitted == [("dvme", 60)] * 2
    _assert_holds_its_heads(folder, cache)
    assert _sweep(cache, folder).n_reused == N_JOBS


def test_sweep__a_job_that_is_fitted_again_brings_its_new_head(
    folder: Path, cache: Path, fitted: list[tuple[str, int]]
) -> None:
    """Two fits of one job may differ, on other devices by a lot: the head has to be that of the predictions."""
    run, ledger = Run.load(folder), Ledger(folder / "jobs")
    (key,) = (key for method, size, draw, key in run.described["jobs"] if (method, size, draw) == (0, 1, 1))
    job = run.finished[0, 1][1]
    ledger.write(key, replace(job, log_test=job.log_test[:, ::-1].copy()))
    assert list(Run.load(folder).kept_heads()) == [("dvme-tokens", BOTH)]
    assert _sweep(cache, folder).n_reused == N_JOBS - 1
    assert fitted == [("dvme", 60)]
    _assert_holds_its_heads(folder, cache)
    (folder / "jobs" / f"{key}.npz").unlink()
    _sweep(cache, folder)
    assert fitted == [("dvme", 60)] * 2
    _assert_holds_its_heads(folder, cache)


def test_gather__takes_the_newer_of_two_heads(folder: Path) -> None:
    """As after a kill between a job's new head and its place among the others."""
    run, heads = Run.load(folder), KeptHeads(folder)
    saved = load_head(heads.folder("dvme", BOTH))
    keys = [key for method, size, _, key in run.described["jobs"] if (method, size) == (0, 1)]
    jobs = list(zip(keys, run.finished[0, 1], strict=True))
    marked = replace(saved.folds[1], seed=saved.folds[1].seed + 1)
    heads.save(keys[1], replace(saved, folds=[marked]))
    heads.gather("dvme", BOTH, jobs)
    gathered = load_head(heads.folder("dvme", BOTH))
    assert [fold.seed for fold in gathered.folds] == [saved.folds[0].seed, saved.folds[1].seed + 1]
    assert [fold.job for fold in gathered.folds] == [fold.job for fold in saved.folds]
    assert not (folder / "jobs" / keys[1]).exists()


def test_marks_of__what_cannot_be_read_is_not_taken_for_torn(folder: Path) -> None:
    place = folder / "heads" / "dvme--a+b"
    assert len(marks_of(place)) == 2
    assert marks_of(folder / "none") == ()
    (place / "head.json").unlink()
    (place / "head.json").mkdir()
    with pytest.raises(IsADirectoryError):
        marks_of(place)


@pytest.mark.parametrize("name", HEADS)
def test_explain__takes_a_kept_head(swept: Path, cache: Path, name: str) -> None:
    run = Run.load(swept)
    report = dvme.explain(run.kept_heads()[name, BOTH], cache)
    n_test = len(run.manifest.test)
    assert (report.n_folds, report.n_images, report.images) == (2, n_test, f"the head's {n_test} test images")
    assert report.attention is not None


def test_predict__takes_a_kept_head(swept: Path, cache: Path, tmp_path: Path) -> None:
    saved: SavedHead = load_head(swept / "heads" / "dvme--a+b")
    dvme.predict(swept / "heads" / "dvme--a+b", cache, out=tmp_path / "p.csv")
    assert saved.classes == ("0", "1", "2")
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 151
