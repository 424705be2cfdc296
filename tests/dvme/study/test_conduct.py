"""A probe is a study of one size: it says what a sweep says, keeps what a sweep keeps, and reads a cache once."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light, named
from numpy.typing import NDArray
from once import digest

import dvme
from dvme.errors import OptionError
from dvme.heads.neighbours.knn import KNN
from dvme.study import conduct, fitting
from dvme.study.design.options import SubsetOptions
from dvme.study.ledger import FinishedJob, Ledger
from dvme.study.outcome import Cell, StudyReport
from dvme.study.run import Run
from dvme_cache.embeddings import Embeddings
from dvme_cache.tables import ColumnTables

N = 90
FULL = SubsetOptions(sizes=("full",), n_folds=2)
SIZES = SubsetOptions(sizes=("12", "full"), n_folds=2)
EXACT = light("linear", "knn", "mean-logits")
DATA: dict[str, dict[str, list[str]]] = {
    "seeded": {},
    "grouped": {"group": [f"p{image // 2}" for image in range(N)]},
    "train and test": {"split": ["train"] * 60 + ["test"] * 30},
    "train, val and test": {"split": ["train"] * 45 + ["val"] * 15 + ["test"] * 30},
}


@pytest.fixture(scope="module")
def cache_of(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Callable[..., Path]:
    """A cache of two backbones with these columns."""

    def make(**columns: list[str]) -> Path:
        labels = np.arange(N) % 3
        features = {"a": make_features(labels, 0.8, 0), "b": make_features(labels, 0.5, 1, dim=10)}
        root = tmp_path_factory.mktemp("conducted")
        return write_embeddings(root / "c.zarr", features, label=[str(label) for label in labels], **columns)

    return make


@pytest.fixture(scope="module")
def cache(cache_of: Callable[..., Path]) -> Path:
    return cache_of()


def _fitted(cells: Sequence[Cell]) -> list[Any]:
    """What no other size has a say in, to the last digit; as text, in which nan equals nan."""
    names = ("head", "backbones", "validation", "test", "interval", "epochs", "n_parameters", "chosen", "is_highest")
    return [{name: repr(getattr(cell, name)) for name in names} for cell in cells]


def _said(report: StudyReport) -> dict[str, str]:
    """All that a study found."""
    found = report.to_json()
    for cell in found["cells"]:
        del cell["seconds"]
    return {name: repr(found[name]) for name in found if name not in {"run", "seconds", "saved"}}


def _learned(run: Path) -> dict[str, list[Any]]:
    """By kept head: of each fold its seed, and the images that it learned from and chose on, in their order."""
    return {
        folder.name: [
            (fold.seed, fold.train_ids.tolist(), fold.validation_ids.tolist(), fold.metrics)
            for fold in dvme.load_head(folder).folds
        ]
        for folder in (run / "heads").iterdir()
    }


@pytest.mark.parametrize("kind", DATA)
def test_probe_and_sweep__agree_to_the_last_digit(cache_of: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    heads = light("dvme", "linear", "concat") if kind == "seeded" else EXACT
    cache = cache_of(**DATA[kind])
    probed = dvme.probe(cache, heads=heads, controls=False, n_folds=2, out=tmp_path / "probe")
    swept = dvme.sweep(cache, tmp_path / "sweep", heads=heads, controls=False, options=SIZES)
    full = [cell for cell in swept.cells if cell.size == "full"]
    assert len(full) == len(probed.cells) == (4 if kind == "seeded" else 5)
    assert _fitted(probed.cells) == _fitted(full)
    for one, other in zip(probed.cells, full, strict=True):  # who leads is the same, so differences are of the same
        assert (one.difference is None) is (other.difference is None)
        assert one.difference is None or one.difference.estimate == other.difference.estimate  # type: ignore[union-attr]
    assert _learned(tmp_path / "probe") == _learned(tmp_path / "sweep")
    runs = [Run.load(tmp_path / name) for name in ("probe", "sweep")]
    for method in range(len(full)):
        for mine, its in zip(runs[0].finished[method, 0], runs[1].finished[method, 1], strict=True):
            assert mine.scores == its.scores
            np.testing.assert_allclose(mine.test, its.test, atol=1e-6)


@pytest.mark.parametrize("kind", ["seeded", "grouped"])
def test_probe__is_a_sweep_of_one_size(cache_of: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    """Marks, intervals and verdicts too."""
    cache = cache_of(**DATA[kind])
    probed = dvme.probe(cache, heads=EXACT, n_folds=2)
    swept = dvme.sweep(cache, tmp_path / "run", heads=EXACT, options=FULL)
    assert _said(probed) == _said(swept)
    assert probed.verdict == swept.verdict != ""
    assert {cell.mark for cell in probed.cells} > {"*"}


def test_probe__out_is_a_run_that_is_gone_on_with(cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = dvme.probe(cache, heads=light("linear"), n_folds=2, out=run)
    more = dvme.probe(cache, heads=light("linear", "concat"), n_folds=2, out=run)
    assert [(each.n_jobs, each.n_reused) for each in (first, more)] == [(4, 0), (6, 4)]
    assert more.run == str(run)
    swept = dvme.sweep(cache, run, heads=light("linear", "concat"), options=FULL)  # of one size: the same jobs
    assert (swept.n_jobs, swept.n_reused) == (6, 6)
    assert _said(swept) == _said(more) | {"n_reused": "6"}
    fewer = dvme.probe(cache, heads=light("concat"), n_folds=2, out=run)  # who asks for less is told what there was
    (line,) = (line for line in fewer.notices if "of an earlier call" in line)
    assert line.startswith(f"{run} has 2 more methods of an earlier call (a + {named('linear')}, ")
    assert not any("of an earlier call" in line for line in more.notices)
    assert dvme.probe(cache, heads=light("linear", "concat"), n_folds=2, out=run).n_reused == 6
    before = digest(run)
    for other in ({"seed": 1}, {"n_folds": 3}, {"test_fraction": 0.3}):
        with pytest.raises(OptionError, match="is a run over other subsets") as refused:
            dvme.probe(cache, heads=light("linear"), **{"n_folds": 2, **other}, out=run, save=tmp_path / "heads")
        assert "\n" not in str(refused.value)
    assert digest(run) == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix != ".lock"] == ["run"]


def test_probe__save_and_out_hold_the_same_heads(cache: Path, tmp_path: Path) -> None:
    """Also where a second call fits nothing; a folder of heads alone holds no file of single jobs."""
    run, heads = tmp_path / "run", light("linear", "concat")
    both = dvme.probe(cache, heads=heads, n_folds=2, out=run, save=tmp_path / "one")
    again = dvme.probe(cache, heads=heads, n_folds=2, out=run, save=tmp_path / "two" / "deep")
    assert (again.n_reused, again.n_jobs) == (6, 6)
    assert len(both.saved) == len(again.saved) == 3
    assert digest(run / "heads") == digest(tmp_path / "one") == digest(tmp_path / "two" / "deep")
    alone = dvme.probe(cache, heads=heads, n_folds=2, save=tmp_path / "alone")
    assert {Path(folder).name for folder in alone.saved} == {entry.name for entry in (tmp_path / "alone").iterdir()}
    assert {Path(folder).name for folder in alone.saved} == {Path(folder).name for folder in both.saved}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_probe__stopped_midway_goes_on_and_saves_nothing_until_it_is_done(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    written, write = [], Ledger.write

    def failing(self: Ledger, key: str, job: FinishedJob) -> None:
        if len(written) == 2:
            raise error
        written.append(key)
        write(self, key, job)

    arguments: dict[str, Any] = {"heads": light("linear"), "n_folds": 2, "save": tmp_path / "heads"}
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "write", failing)
        with pytest.raises(type(error)):
            dvme.probe(cache, out=tmp_path / "run", **arguments)
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix != ".lock"] == ["run"]
    assert {file.stem for file in (tmp_path / "run" / "jobs").glob("*.npz")} == set(written)
    resumed = dvme.probe(cache, out=tmp_path / "run", **arguments)
    assert (resumed.n_jobs, resumed.n_reused) == (4, 2)
    assert len(resumed.saved) == 2


def test_methods__two_variants_of_one_head_are_two_lines(cache: Path, tmp_path: Path) -> None:
    heads: list[Any] = ["knn@k=5", KNN(neighbours=(20,))]
    report = dvme.probe(cache, heads=heads, backbones=["a"], n_folds=2, out=tmp_path / "run")
    assert report.methods == [("knn@k=5", ("a",)), ("knn@k=20", ("a",))]
    assert [[each["k"] for each in cell.chosen] for cell in report.cells] == [[5, 5], [20, 20]]
    assert len(list((tmp_path / "run" / "jobs").glob("*.npz"))) == 4
    assert {entry.name for entry in (tmp_path / "run" / "heads").iterdir()} == {"knn@k=5--a", "knn@k=20--a"}
    # What stands in the key is the setting, not how it was typed.
    again = dvme.sweep(cache, tmp_path / "run", heads=["knn@k=20", "knn@k=5"], backbones=["a"], options=FULL)
    assert (again.n_jobs, again.n_reused) == (4, 4)
    assert [cell.test for cell in again.cells] == [cell.test for cell in reversed(report.cells)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the embeddings of each backbone and each column are read from the cache from now on."""
    found: Counter[str] = Counter()
    read, read_column = Embeddings.read, ColumnTables._read

    def counted(self: Embeddings, rows: NDArray[Any]) -> NDArray[Any]:
        found[f"embeddings of {self.name}"] += 1
        return read(self, rows)

    def counted_column(self: ColumnTables, generation: str, column: str, *rest: Any) -> NDArray[Any]:
        found[column] += 1
        return read_column(self, generation, column, *rest)

    monkeypatch.setattr(Embeddings, "read", counted)
    monkeypatch.setattr(ColumnTables, "_read", counted_column)
    return found


ONCE = dict.fromkeys(["embeddings of a", "embeddings of b", "label", "split", "group", "path"], 1)


def test_study__reads_everything_once(cache: Path, tmp_path: Path, reads: Counter[str]) -> None:
    heads = light("linear", "knn", "concat")
    dvme.sweep(cache, tmp_path / "run", heads=heads, options=SIZES)
    assert reads == ONCE
    reads.clear()
    dvme.sweep(cache, tmp_path / "run", heads=[*heads, named("mean-logits")], subsets=tmp_path / "run" / "subsets.json")
    assert reads == ONCE  # gone on with, and with given subsets
    reads.clear()
    dvme.probe(cache, heads=heads, n_folds=2, drop_duplicates=True, out=tmp_path / "probe", save=tmp_path / "heads")
    assert reads == ONCE


def test_study__reads_as_often_as_little_memory_makes_it(
    cache: Path, tmp_path: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to be looked at, and once for each set of backbones that is fitted together."""
    for module in (conduct, fitting):
        monkeypatch.setattr(module, "EMBEDDINGS_SHARE", 10**6)  # as if they were large beside the memory
    heads, memory = light("linear", "concat"), dvme.Runtime(memory=2**28)
    report = dvme.sweep(cache, tmp_path / "run", heads=heads, options=FULL, runtime=memory)
    assert reads == ONCE | {"embeddings of a": 1 + 2, "embeddings of b": 1 + 2}
    monkeypatch.undo()
    roomy = dvme.sweep(cache, tmp_path / "roomy", heads=heads, options=FULL)
    assert [cell.chosen for cell in report.cells] == [cell.chosen for cell in roomy.cells]


@pytest.mark.parametrize("where", ["run", "run/heads", "."])
def test_probe__heads_in_the_run_or_around_it_are_refused_before_anything(
    cache: Path, tmp_path: Path, where: str
) -> None:
    with pytest.raises(OptionError, match=r"lie inside each other; a run keeps its heads in .*heads: leave out save"):
        dvme.probe(cache, heads=EXACT, n_folds=2, out=tmp_path / "run", save=tmp_path / where)
    assert list(tmp_path.iterdir()) == []


def test_probe__another_study_is_not_told_of_an_option_it_lacks(cache: Path, tmp_path: Path) -> None:
    dvme.probe(cache, heads=["knn"], n_folds=2, out=tmp_path / "run")
    with pytest.raises(OptionError, match=r"have changed; name another folder with out$"):
        dvme.probe(cache, heads=["knn"], n_folds=3, out=tmp_path / "run")
    with pytest.raises(OptionError, match=r"or pass subsets='.*' to go on with its own$"):
        dvme.sweep(cache, tmp_path / "run", heads=["knn"], options=SIZES)


def test_probe__what_is_refused_leaves_a_finished_run_finished(cache: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"heads": light("linear"), "n_folds": 2, "out": tmp_path / "run"}
    dvme.probe(cache, **asked)
    for place in (tmp_path / "run" / "jobs").glob("*.npz"):
        place.unlink()
    with pytest.raises(OptionError, match="a linear fit of"):
        dvme.probe(cache, **asked, runtime=dvme.Runtime(device="cpu", memory=1))
    assert '"jobs"' in (tmp_path / "run" / "run.json").read_text()


def test_probe__nothing_to_fit_asks_for_no_device(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"heads": ["knn"], "n_folds": 2, "out": tmp_path / "run"}
    dvme.probe(cache, **asked)
    monkeypatch.setattr(dvme.Runtime, "torch_device", lambda _: pytest.fail("torch is asked"))
    assert dvme.probe(cache, **asked).n_reused == 4


def test_probe__ctrl_c_while_heads_are_put_together_keeps_the_jobs(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"heads": light("linear"), "backbones": ["a"], "n_folds": 2, "out": tmp_path / "run"}

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dvme.study.kept_heads.KeptHeads.gather", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dvme.probe(cache, **asked)
    assert dvme.probe(cache, **asked).n_reused == 2


def test_study__draws_of_one_set_show_no_spread_of_a_head_that_draws_nothing(cache_of: Callable[..., Path]) -> None:
    """A user's own validation part: the draws differ in order and seed alone."""
    report = dvme.probe(cache_of(**DATA["train, val and test"]), heads=light("linear", "linear-adam"), backbones=["a"])
    spread = {cell.head: cell.test["auc"].std for cell in report.cells}
    assert np.isnan(spread[named("linear")])
    assert spread[named("linear-adam")] > 0.0
    assert [len(cell.test["auc"].folds) for cell in report.cells] == [5, 5]


def test_study__a_backbone_that_was_constant_is_looked_at_again(
    tmp_path: Path, write_embeddings: Callable[..., Path], make_features: Callable[..., NDArray[Any]]
) -> None:
    """The line says to extract it anew, which gives it the same fingerprint."""
    labels = np.arange(60) % 2
    good, names = make_features(labels, 0.8, 0), [str(label) for label in labels]
    asked: dict[str, Any] = {"heads": ["knn"], "n_folds": 2, "out": tmp_path / "run"}
    said = []
    for values in (np.ones_like(good), make_features(labels, 0.8, 1)):
        write_embeddings(tmp_path / "c.zarr", {"a": good, "b": values}, label=names)
        said.append([line for line in dvme.probe(tmp_path / "c.zarr", **asked).notices if "identical" in line])
        shutil.rmtree(tmp_path / "c.zarr")
    assert [len(lines) for lines in said] == [1, 0]


def test_probe__an_approximate_search_is_said_wherever_its_results_are(cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = dvme.probe(cache, backbones=["a"], heads=["knn@k=5@search=ivf"], out=run, n_folds=2)
    (line,) = (each for each in report.notices if "is approximate" in each)
    (cell,) = report.cells
    assert line.startswith("knn@k=5@search=ivf is approximate: recall ")
    assert f" at 5, at least {min(own['recall_low'] for own in cell.chosen):.3f} on a sample of " in line
    assert all(own["n_probes"] < own["n_lists"] for own in cell.chosen)
    assert "neighbours were searched approximately" in dvme.methods(run).text
    dvme.write_report(run, out=tmp_path / "report.html")
    assert "knn@k=5@search=ivf is approximate: recall " in (tmp_path / "report.html").read_text()
    (head,) = (run / "heads").iterdir()
    predicted = dvme.predict(head, cache, out=tmp_path / "predictions.csv")
    assert predicted.remarks == [line]
