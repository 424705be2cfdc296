"""A run that an older dvme wrote, kept in `fixtures`: format 2, without names of methods and scores of jobs.

Two backbones of 4 values, 60 images of two classes, `linear` and `concat` with two strengths, at two sizes, two folds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import assert_refused, run
from light import light, named
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import dvme
from dvme.study.design.options import SubsetOptions
from dvme.study.run import Run, read_summary

OLD = Path(__file__).parent / "fixtures" / "run_format_2"
LABELS = np.arange(60) % 2
OPTIONS = SubsetOptions(sizes=("16", "full"), n_folds=2)
METHODS = [(named("linear"), ("a",)), (named("linear"), ("b",)), (named("concat"), ("a", "b"))]


@pytest.fixture
def root(tmp_path: Path, write_embeddings: Callable[..., Path], make_features: Callable[..., NDArray[Any]]) -> Path:
    """`run`, and `c.zarr` with the same images and fingerprints of their embeddings."""
    shutil.copytree(OLD, tmp_path / "run")
    features = {name: make_features(LABELS, 1.0, seed, dim=4) for seed, name in enumerate("ab")}
    write_embeddings(tmp_path / "c.zarr", features, label=[str(label) for label in LABELS])
    return tmp_path


def test_old_run__gives_its_numbers(root: Path) -> None:
    """The means that it wrote down are those of its predictions, which scikit-learn finds as well."""
    found, summary = Run.load(root / "run"), read_summary(root / "run")
    assert list(found.methods) == METHODS
    written = json.loads((OLD / "summary.json").read_text())["cells"]
    assert len(summary.cells) == len(written) == 6
    truth = LABELS[found.manifest.test]
    for place, cell in enumerate(written):
        jobs = found.finished[place % 3, place // 3]
        assert cell["test"]["auc"]["folds"] == pytest.approx([roc_auc_score(truth, job.test[:, 1]) for job in jobs])
        assert summary.cells[place].test["auc"].folds == cell["test"]["auc"]["folds"]
        assert summary.cells[place].chosen == []  # was not written


def test_old_run__is_reported(root: Path) -> None:
    result = run("report", root / "run", "--out", root / "r.html", "--method", "pca")
    assert result.exit_code == 0, result.output
    page = (root / "r.html").read_text()
    for cell in json.loads((OLD / "summary.json").read_text())["cells"]:
        assert f"{cell['test']['auc']['mean']:.3f} ± {cell['test']['auc']['std']:.3f}" in page
    assert f"a + {named('linear')}" in page


def test_old_run__is_compared_and_gone_on_with(root: Path) -> None:
    """Jobs of the smaller size are not fitted again; those of the largest are, as their heads were not kept."""
    shutil.copytree(root / "run", root / "before")
    heads = light("linear", "concat")
    report = dvme.sweep(root / "c.zarr", root / "run", heads=heads, options=OPTIONS, controls=False)
    assert (report.methods, report.n_jobs, report.n_reused) == (METHODS, 12, 6)
    assert report.cells[0].test["auc"].folds == read_summary(root / "before").cells[0].test["auc"].folds
    pairs = dvme.compare(root / "before", root / "run").pairs
    assert [(pair.method, pair.size) for pair in pairs] == [
        (method, size)
        for size in ("16", "full")
        for method in (f"a + {heads[0]}", f"b + {heads[0]}", f"{heads[1]} of 2 backbones")
    ]
    assert [pair.comparison.difference.estimate for pair in pairs[:3] if pair.comparison is not None] == [0.0] * 3


@pytest.mark.parametrize("metric", ["auc", "kappa"])
def test_old_run__what_a_study_itself_sets_is_no_setting_of_a_head(root: Path, metric: str) -> None:
    """`knn` chose by the run's metric, which nobody typed."""
    dvme.sweep(root / "c.zarr", root / "new", heads=["knn", "knn@k=5"], backbones=["a"], metric=metric, options=OPTIONS)
    new = json.loads((root / "new" / "run.json").read_text())
    expected = [method.pop("name") for method in new["methods"]]
    (root / "new" / "run.json").write_text(json.dumps(new))
    assert [head for head, _ in Run.load(root / "new").methods] == expected == ["knn", "knn@k=5"]


@pytest.mark.parametrize(("number", "step"), [(1, "sweep again with"), (3, "update dvme")])
def test_old_run__other_formats_are_refused_in_one_line(root: Path, number: int, step: str) -> None:
    described = json.loads((root / "run" / "run.json").read_text()) | {"format": number}
    (root / "run" / "run.json").write_text(json.dumps(described))
    said = f"is of run format {number}, this dvme reads 2; {step}"
    assert_refused(run("report", root / "run", "--out", root / "r.html"), said)
    assert_refused(run("compare", root / "run", root / "run"), said)
    heads = ("--head", ",".join(light("linear", "concat")), "--folds", 2)
    assert_refused(run("sweep", root / "c.zarr", "--out", root / "run", "--sizes", "16,full", *heads), said)
    assert_refused(run("probe", root / "c.zarr", "--out", root / "run", *heads), said)
    assert not (root / "r.html").exists()
    assert json.loads((root / "run" / "run.json").read_text()) == described
