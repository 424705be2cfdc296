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
from light import light
from numpy.typing import NDArray
from own_head import Centroids

import dvme
from dvme.heads import Head, Job, full_name, get_head
from dvme.heads.saved_head import subset_hash
from dvme.heads.saving import load_head, save_head
from dvme.study import fitting, grid
from dvme.study.design.options import SubsetOptions
from dvme.study.kept_heads import KeptHeads, marks_of
from dvme.study.ledger import Ledger
from dvme.study.methods import make_methods
from dvme.study.outcome import StudyReport
from dvme.study.run import Run
from dvme_cache import EmbeddingCache, Fingerprint

BOTH = ("a", "b")
HEADS = [full_name(get_head(name)) for name in light("linear", "knn", "dvme")]
OPTIONS = SubsetOptions(sizes=("12", "full"), n_folds=2)
METHODS = [(HEADS[0], ("a",)), (HEADS[1], ("a",)), (HEADS[0], ("b",)), (HEADS[1], ("b",)), (HEADS[2], BOTH)]
PLACES = [
    "linear@strengths=0.001%3A0.1--a",
    "knn--a",
    "linear@strengths=0.001%3A0.1--b",
    "knn--b",
    "dvme@min-epochs=1@max-epochs=2--a+b",
]
LINEAR = PLACES[0]
N_JOBS, N_KEPT = len(METHODS) * 2 * 2, len(METHODS) * 2


def _sweep(cache: Path, folder: Path, heads: Sequence[str | Head] = HEADS) -> StudyReport:
    found: StudyReport = dvme.sweep(cache, folder, heads=heads, options=OPTIONS, controls=False)
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
    fit_each = fitting.fit_each

    def noted(jobs: Sequence[Job], *args: Any, **kwargs: Any) -> Iterator[Any]:
        found.extend((job.head.name, len(job.train)) for job in jobs)
        return fit_each(jobs, *args, **kwargs)

    monkeypatch.setattr(fitting, "fit_each", noted)
    return found


def _assert_holds_its_heads(folder: Path, cache: Path, methods: Sequence[Any] = METHODS) -> None:
    """Every head predicts what its job's file says, each is there once, and nothing else is left."""
    run, store = Run.load(folder), EmbeddingCache.open(cache)
    kept = run.kept_heads()
    assert list(kept) == list(methods)
    row_of = {bytes(own): row for row, own in enumerate(store.samples.ids)}
    rows = [row_of[bytes(own)] for own in run.manifest.images[run.manifest.test]]
    for method, place in kept.items():
        blocks = [store.embeddings(name).read(np.array(rows)) for name in method[1]]
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
    assert kept == {method: swept / "heads" / place for method, place in zip(METHODS, PLACES, strict=True)}
    report = _sweep(cache, swept)
    for ((name, backbones), place), method in zip(
        kept.items(), make_methods(HEADS, BOTH, with_controls=False), strict=True
    ):
        saved = load_head(place)
        assert saved.head == method.head
        dims = tuple({"a": 8, "b": 10}[each] for each in backbones)
        assert (saved.backbones, saved.dims, saved.classes) == (backbones, dims, manifest.classes)
        assert saved.fingerprints == tuple(store.embeddings(each).fingerprint for each in backbones)
        assert saved.test_hash == subset_hash(images[manifest.test])
        for number, (fold, draw) in enumerate(zip(saved.folds, manifest.draws, strict=True)):
            np.testing.assert_array_equal(fold.train_ids, images[manifest.train(draw, 1)])
            np.testing.assert_array_equal(fold.validation_ids, images[manifest.validation(draw, 1)])
            assert fold.seed == int(np.random.SeedSequence([0, draw.repeat, draw.fold]).generate_state(1)[0])
            (cell,) = (cell for cell in report.row(name, backbones) if cell.size == "full")
            assert fold.metrics == {metric: score.folds[number] for metric, score in cell.test.items()}
    _assert_holds_its_heads(swept, cache)


def test_sweep__a_finished_run_is_left_as_it_is(folder: Path, cache: Path, fitted: list[tuple[str, int]]) -> None:
    before = {path: path.stat().st_mtime_ns for part in ("jobs", "heads") for path in (folder / part).rglob("*")}
    assert _sweep(cache, folder).n_reused == N_JOBS
    assert fitted == []
    _sweep(cache, folder, [*HEADS, "knn@k=5"])
    assert fitted == [("knn", 12), ("knn", 12), ("knn", 60), ("knn", 60)] * 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    added = [*METHODS[:2], ("knn@k=5", ("a",)), *METHODS[2:4], ("knn@k=5", ("b",)), METHODS[4]]
    _assert_holds_its_heads(folder, cache, added)


def test_sweep__heads_that_are_added_and_left_out(folder: Path, cache: Path, fitted: list[tuple[str, int]]) -> None:
    """What is not swept this time stays for the next, and is not said to be this run's."""
    _sweep(cache, folder, HEADS[2:])
    assert list(Run.load(folder).kept_heads()) == METHODS[4:]
    _sweep(cache, folder, HEADS)
    assert fitted == []
    _assert_holds_its_heads(folder, cache)


def test_sweep__a_run_that_kept_no_heads_fits_those_jobs_again(
    folder: Path, cache: Path, fitted: list[tuple[str, int]]
) -> None:
    shutil.rmtree(folder / "heads")
    assert Run.load(folder).kept_heads() == {}
    assert _sweep(cache, folder).n_reused == N_JOBS - N_KEPT
    assert sorted(fitted) == [*[("dvme", 60)] * 2, *[("knn", 60)] * 4, *[("linear", 60)] * 4]
    _assert_holds_its_heads(folder, cache)


def test_sweep__a_head_of_another_program_is_fitted_and_not_kept(tmp_path: Path, cache: Path) -> None:
    """It could not be built again; beside it, every kind of head is kept."""
    heads = [full_name(get_head(name)) for name in light("linear-adam", "mlp", "concat", "mean-logits")]
    report = _sweep(cache, tmp_path / "run", [Centroids(), *heads])
    assert "heads that are not dvme's own are not kept: centroids" in report.notices
    assert not [line for line in _sweep(cache, tmp_path / "run", heads).notices if "not kept" in line]
    methods = [(heads[0], ("a",)), (heads[0], ("b",)), *((head, BOTH) for head in heads[1:])]
    _assert_holds_its_heads(tmp_path / "run", cache, methods)
    again = _sweep(cache, tmp_path / "run", [Centroids(), *heads])
    assert again.n_reused == again.n_jobs == report.n_jobs == 7 * 2 * 2
    (cell,) = (cell for cell in again.row("centroids", ("a",)) if cell.size == "full")
    assert 0.5 < cell.test["auc"].mean <= 1.0


def test_probe__keeps_its_heads_in_its_run_and_where_it_is_told(tmp_path: Path, cache: Path) -> None:
    both: dict[str, Any] = {"heads": HEADS[:2], "n_folds": 2}
    dvme.probe(cache, out=tmp_path / "run", save=tmp_path / "heads", **both)
    dvme.probe(cache, save=tmp_path / "alone", **both)
    expected = sorted(PLACES[:4])
    for folder in (tmp_path / "run" / "heads", tmp_path / "heads", tmp_path / "alone"):
        assert sorted(entry.name for entry in folder.iterdir()) == expected
        assert all(len(load_head(entry).folds) == 2 for entry in folder.iterdir())
    assert all(entry.suffix == ".npz" for entry in (tmp_path / "run" / "jobs").iterdir())


KILLS = """
import os, pathlib, shutil, signal, sys, types
import pandas, sklearn.metrics, torch  # before the forks, once for all
import dvme
from dvme.heads import saving
from dvme.study.design.options import SubsetOptions
from dvme.study import grid, kept_heads as kept
from dvme.study.ledger import Ledger

grid.KEPT_EVERY = -1.0  # but for the last draw of a method, every head goes to disk by itself
digest, write = saving.file_digest, Ledger.write

def die():
    global after
    if not after:
        os.kill(os.getpid(), signal.SIGKILL)
    after -= 1

def while_it_is_written(path):
    die()
    return digest(path)

def while_they_are_put_together(path):
    if "heads" in path.parts:
        die()
    return digest(path)

def before_the_job_is(ledger, key, job):
    if (ledger.folder / key).exists():
        die()
    write(ledger, key, job)

def before_the_single_ones_are_gone(path):
    die()
    shutil.rmtree(path)

def with_half_of_a_single_one_gone(path):
    (path / "weights.safetensors").unlink()
    die()
    shutil.rmtree(path)

def break_in(point):
    if point.__name__.startswith("while"):
        saving.file_digest = point
    elif point is before_the_job_is:
        Ledger.write = point
    else:
        kept.shutil = types.SimpleNamespace(rmtree=point)

cache, folder, heads, *points = sys.argv[1:]
torch.set_num_threads(1)
for place in points:
    point, after = globals()[place.split("-")[0]], int(place.split("-")[1])
    child = os.fork()
    if not child:
        break_in(point)
        options = SubsetOptions(sizes=("12", "full"), n_folds=2)
        dvme.sweep(cache, pathlib.Path(folder, place), heads=heads.split(","), options=options,
                   controls=False, runtime=dvme.Runtime(device="cpu"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, status)
"""


KILLED = [
    # Where, after how many that passed there, what is left, and how many jobs are finished. Of two draws one head is
    # kept by itself.
    ("while_it_is_written", 0, "jobs/.*.partial/weights.safetensors", None),
    ("before_the_job_is", 2, "jobs/*/head.json", None),
    ("before_the_job_is", 4, "jobs/*/head.json", None),
    ("while_they_are_put_together", 1, "heads/.*.partial/weights.safetensors", None),
    ("before_the_single_ones_are_gone", 0, f"heads/{PLACES[0]}/head.json", N_JOBS),
    ("with_half_of_a_single_one_gone", 3, f"heads/{PLACES[4]}/head.json", N_JOBS),
]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Runs that were killed, by where."""
    folder = tmp_path_factory.mktemp("killed")
    points = [f"{where}-{after}" for where, after, *_ in KILLED]
    command = [sys.executable, "-c", KILLS, str(cache), str(folder), ",".join(HEADS), *points]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the children are forked
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("where", "after", "left", "n_reused"), KILLED)
def test_sweep__killed_while_heads_are_kept(
    killed: Path, cache: Path, where: str, after: int, left: str, n_reused: int | None
) -> None:
    """SIGKILL, then the same call: what is in the ledger has its head, and is not fitted again."""
    folder = killed / f"{where}-{after}"
    assert list(folder.glob(left))
    finished = {path: path.stat().st_mtime_ns for path in (folder / "jobs").glob("*.npz")}
    assert _sweep(cache, folder).n_reused == len(finished) == (n_reused or len(finished)) <= N_JOBS
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    _assert_holds_its_heads(folder, cache)


def test_sweep__heads_that_someone_put_there_do_not_pass_for_its_own(
    folder: Path, cache: Path, fitted: list[tuple[str, int]]
) -> None:
    """As those of other images, or of another fit."""
    place = folder / "heads" / LINEAR
    saved = load_head(place)
    save_head(place, replace(saved, folds=[replace(fold, job="0" * 32) for fold in saved.folds]), force=True)
    assert list(Run.load(folder).kept_heads()) == METHODS[1:]
    assert _sweep(cache, folder).n_reused == N_JOBS - 2
    assert fitted == [("linear", 60)] * 2
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
    assert _sweep(other, folder).n_reused == 2 * 2 * 2  # on the first backbone alone
    _assert_holds_its_heads(folder, other)
    for (_, backbones), place in Run.load(folder).kept_heads().items():
        assert (load_head(place).fingerprints[-1] == made_by) == ("b" in backbones)


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
    damage(folder / "heads" / LINEAR)
    assert list(Run.load(folder).kept_heads()) == METHODS[1:]
    assert _sweep(cache, folder).n_reused == N_JOBS - 2
    assert fitted == [("linear", 60)] * 2
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
    assert list(Run.load(folder).kept_heads()) == METHODS[1:]
    assert _sweep(cache, folder).n_reused == N_JOBS - 1
    assert fitted == [("linear", 60)]
    _assert_holds_its_heads(folder, cache)
    (folder / "jobs" / f"{key}.npz").unlink()
    _sweep(cache, folder)
    assert fitted == [("linear", 60)] * 2
    _assert_holds_its_heads(folder, cache)


def test_sweep__two_backbones_of_one_fingerprint_both_get_the_head(
    tmp_path: Path, features: dict[str, NDArray[Any]], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their jobs have one key, and so one place for the head of a single job."""
    monkeypatch.setattr(grid, "KEPT_EVERY", -1.0)  # every head goes to disk by itself
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        rows = cache.samples.add([os.urandom(16) for _ in names], [f"{n}.png" for n in range(len(names))])
        cache.update_columns(rows, {"label": names})
        for name in BOTH:
            values = features["a"]
            table = cache.ensure_embeddings(
                name, Fingerprint({"w": "same"}), dim=values.shape[1], dtype="float32", provenance={}
            )
            table.write(rows, values)
    heads = HEADS[:1]
    _sweep(tmp_path / "c.zarr", tmp_path / "run", heads)
    for place in (LINEAR, PLACES[2]):
        shutil.rmtree(tmp_path / "run" / "heads" / place)
        _sweep(tmp_path / "c.zarr", tmp_path / "run", heads)
        assert set(Run.load(tmp_path / "run").kept_heads()) == {(heads[0], ("a",)), (heads[0], ("b",))}
    assert [entry.name for entry in (tmp_path / "run" / "jobs").iterdir() if entry.is_dir()] == []


def test_gather__takes_the_newer_of_two_heads(folder: Path) -> None:
    """As after a kill between a job's new head and its place among the others."""
    run, heads = Run.load(folder), KeptHeads.of_run(folder)
    saved = load_head(heads.folder(*METHODS[0]))
    keys = [key for method, size, _, key in run.described["jobs"] if (method, size) == (0, 1)]
    jobs = list(zip(keys, run.finished[0, 1], strict=True))
    marked = replace(saved.folds[1], seed=saved.folds[1].seed + 1)
    heads.save(keys[1], replace(saved, folds=[marked]))
    heads.gather(*METHODS[0], jobs)
    heads.tidy(keys)
    gathered = load_head(heads.folder(*METHODS[0]))
    assert [fold.seed for fold in gathered.folds] == [saved.folds[0].seed, saved.folds[1].seed + 1]
    assert [fold.job for fold in gathered.folds] == [fold.job for fold in saved.folds]
    assert not (folder / "jobs" / keys[1]).exists()


def test_marks_of__what_cannot_be_read_is_not_taken_for_torn(folder: Path) -> None:
    place = folder / "heads" / LINEAR
    assert len(marks_of(place)) == 2
    assert marks_of(folder / "none") == ()
    (place / "head.json").unlink()
    (place / "head.json").mkdir()
    with pytest.raises(IsADirectoryError):
        marks_of(place)


@pytest.mark.parametrize("place", ["linear--a", "knn--a"])
def test_sweep__heads_of_several_findings_go_to_disk_one_by_one_as_well(
    tmp_path: Path,
    write_embeddings: Callable[..., Path],
    features: dict[str, NDArray[Any]],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """And are known again by a second call, which fits nothing."""
    monkeypatch.setattr(grid, "KEPT_EVERY", -1.0)
    texts = ["|x|" if row % 3 else "|y|" if row % 2 else "|x|y|" for row in range(150)]
    cache = write_embeddings(tmp_path / "c.zarr", {"a": features["a"]}, label=texts)
    for n_reused in (0, 2):
        report = dvme.probe(cache, heads=[place.partition("--")[0]], n_folds=2, out=tmp_path / "run")
        assert report.n_reused == n_reused
    assert len(marks_of(tmp_path / "run" / "heads" / place)) == 2


@pytest.mark.parametrize("place", PLACES)
def test_predict__takes_a_kept_head(swept: Path, cache: Path, tmp_path: Path, place: str) -> None:
    """Whatever the study recommends."""
    dvme.predict(swept / "heads" / place, cache, out=tmp_path / "p.csv")
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 151


def test_explain__takes_a_kept_fusion(swept: Path, cache: Path) -> None:
    report = dvme.explain(swept / "heads" / PLACES[-1], cache)
    n_test = len(Run.load(swept).manifest.test)
    assert (report.n_folds, report.n_images, report.images) == (2, n_test, f"the head's {n_test} test images")
    assert report.attention is not None


def test_marks__of_heads_of_several_labels(several: Path) -> None:
    """They have a format of their own; once a fit that took half a minute could not find what it had just kept."""
    run = Run.load(several / "run")
    for (head, backbones), place in run.kept_heads().items():
        jobs = run.finished[run.methods.index((head, backbones)), run.manifest.largest]
        assert len(marks_of(place)) == len(jobs) == 2
    before = {path: path.stat().st_mtime_ns for path in (several / "run" / "heads").rglob("*")}
    options = SubsetOptions(sizes=("60", "full"), n_folds=2)
    again = dvme.sweep(
        several / "c.zarr", several / "run", heads=light("linear", "concat"), controls=False, options=options
    )
    assert again.n_reused == again.n_jobs
    assert {path: path.stat().st_mtime_ns for path in (several / "run" / "heads").rglob("*")} == before
