from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from light import light, named
from numpy.typing import NDArray
from scipy.stats import ttest_ind_from_stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score

import dvme
from dvme.errors import DataError, OptionError, UnknownNameError
from dvme.stats import crossed
from dvme.stats.influence import scored
from dvme.stats.units import Units
from dvme.study.compare import CompareReport, Pair
from dvme.study.design.options import SubsetOptions
from dvme.study.judge import Judge
from dvme.study.run import Run

N = 240
LABELS = np.arange(N) % 5
"""Grades, as of APTOS."""
NAMES = [str(label) for label in LABELS]
OPTIONS = SubsetOptions(sizes=("50 S", "100", "full F"), n_folds=3)
Write = Callable[..., Path]
Make = Callable[..., NDArray[Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, write_embeddings: Write, make_features: Make) -> Path:
    """`one` and `other` are runs over the same subsets; the other has weaker embeddings of the same backbones."""
    root = tmp_path_factory.mktemp("compared")
    for name, signal in (("one", 0.8), ("other", 0.2)):
        features = {each: make_features(LABELS, signal, seed) for seed, each in enumerate(("swav", "dino"))}
        write_embeddings(root / f"{name}.zarr", features, label=NAMES)
    dvme.sweep(
        root / "one.zarr", root / "one", heads=light("linear", "knn", "dvme-noattn"), options=OPTIONS, metric="kappa"
    )
    dvme.sweep(root / "other.zarr", root / "other", heads=light("linear", "mlp"), subsets=root / "one" / "subsets.json")
    return root


def test_compare__two_runs_by_hand(root: Path) -> None:
    report = dvme.compare(root / "one", root / "other")
    assert (report.metric, report.test, report.is_published) == ("kappa", "crossed", False)
    one, other = Run.load(root / "one"), Run.load(root / "other")
    truth = one.manifest.targets.values[one.manifest.test]
    units = Units(truth)
    shared = Judge(one.manifest, one.methods, one.finished, units, "kappa").shared_rows
    expected = []
    for size in range(3):
        for name in ("dino", "swav"):
            method = named("linear"), (name,)
            mine, its = (
                scored(truth, [job.test for job in run.finished[run.methods.index(method), size]], units)
                for run in (one, other)
            )
            gap = mine["kappa"] - its["kappa"]
            expected.append(crossed(gap.folds, gap.test_covariance, shared[size], test_df=gap.test_df))
    assert [pair.method for pair in report.pairs] == [f"{name} + {named('linear')}" for name in ("dino", "swav")] * 3
    assert [pair.size for pair in report.pairs] == [name for name in ("50 (S)", "100", "full (F)") for _ in range(2)]
    adjusted = np.minimum(1.0, 6 * np.array([each.p for each in expected]))
    for pair, comparison, p in zip(report.pairs, expected, adjusted, strict=True):
        assert pair.comparison is not None
        assert pair.comparison.p == pytest.approx(comparison.p, nan_ok=True)
        assert pair.p_adjusted == pytest.approx(p, nan_ok=True)
        assert np.isnan(p) or pair.comparison.difference.includes_zero == (p >= 0.05)
        wider = pair.comparison.difference.high - pair.comparison.difference.estimate
        assert np.isnan(p) or wider > comparison.difference.high - comparison.difference.estimate
        assert pair.one is not None
        assert pair.other is not None
        assert pair.comparison.difference.estimate == pytest.approx(pair.one.mean - pair.other.mean)
    for pair in report.pairs:
        size = one.manifest.sizes.index(pair.size)
        jobs = one.finished[one.names.index(pair.method), size]
        kappas = [cohen_kappa_score(truth, job.test.argmax(1), labels=range(5), weights="quadratic") for job in jobs]
        assert pair.one is not None
        assert pair.one.folds == pytest.approx(kappas)
    assert report.notices == [
        f"only in {root / 'one'}: dino + knn, swav + knn, {named('dvme-noattn')} of 2 backbones",
        f"only in {root / 'other'}: {named('mlp')} of 2 backbones",
    ]


def test_compare__a_run_and_itself(root: Path) -> None:
    report = dvme.compare(root / "one", root / "one", metric="auc")
    assert len(report.pairs) == 5 * 3
    for pair in report.pairs:
        assert pair.comparison is not None
        assert (pair.comparison.difference.estimate, pair.p_adjusted) == (0.0, 1.0)


def test_compare__runs_over_other_subsets(root: Path, tmp_path: Path) -> None:
    dvme.sweep(root / "one.zarr", tmp_path / "run", heads=["knn"], options=replace(OPTIONS, seed=1))
    with pytest.raises(DataError, match=r"are over different subsets .*sweep one of them again with subsets='"):
        dvme.compare(root / "one", tmp_path / "run")


def test_compare__a_probe_and_a_sweep_at_the_size_that_both_have(root: Path, tmp_path: Path) -> None:
    """The full size of the sweep is the probe: nothing differs. The other sizes are named."""
    probed = tmp_path / "probe"
    dvme.probe(root / "one.zarr", heads=light("linear"), n_folds=3, out=probed)
    report = dvme.compare(root / "one", probed, metric="auc")
    assert [(pair.method, pair.size) for pair in report.pairs] == [
        (f"{name} + {named('linear')}", "full (F)") for name in ("dino", "swav")
    ]
    for pair in report.pairs:
        assert pair.one is not None
        assert pair.other is not None
        assert pair.one.folds == pair.other.folds
        assert pair.p_adjusted == 1.0
    left = f"sizes of {root / 'one'} that the other has not with the same images: 50 (S), 100"
    assert report.notices[-1] == left
    back = dvme.compare(probed, root / "one", metric="auc")
    assert [(pair.method, pair.size) for pair in back.pairs] == [(pair.method, "full") for pair in report.pairs]


def test_compare__runs_without_a_method_in_common(root: Path, tmp_path: Path) -> None:
    subsets = root / "one" / "subsets.json"
    dvme.sweep(root / "one.zarr", tmp_path / "run", heads=light("concat"), subsets=subsets)
    with pytest.raises(DataError, match="have no method in common; sweep the same heads and backbones"):
        dvme.compare(root / "other", tmp_path / "run")


def test_compare__a_cache_that_knows_the_patients_and_one_that_does_not(
    tmp_path: Path, write_embeddings: Write, make_features: Make
) -> None:
    """Both are resampled by patients, or the differences would be between unlike resamples."""
    groups = [f"p{row // 4}" for row in range(N)]
    features = {"swav": make_features(LABELS, 0.5, 0)}
    known = write_embeddings(tmp_path / "known.zarr", features, label=NAMES, group=groups)
    unknown = write_embeddings(tmp_path / "unknown.zarr", features, label=NAMES)
    dvme.sweep(known, tmp_path / "known", heads=["knn"], options=OPTIONS)
    dvme.sweep(unknown, tmp_path / "unknown", heads=["knn"], subsets=tmp_path / "known" / "subsets.json")
    for one, other in (("known", "unknown"), ("unknown", "known")):
        report = dvme.compare(tmp_path / one, tmp_path / other)
        assert [pair.p_adjusted for pair in report.pairs] == [1.0] * 3  # the same predictions


@pytest.fixture(scope="module")
def beside(root: Path) -> CompareReport:
    found: CompareReport = dvme.compare(root / "one", published="truong2021:aptos")
    return found


def _pair(report: CompareReport, method: str, size: str) -> Pair:
    (pair,) = (each for each in report.pairs if (each.method, each.size) == (method, size))
    return pair


def test_compare__published_cells_and_who_stands_beside_them(beside: CompareReport) -> None:
    assert (beside.is_published, beside.metric, len(beside.pairs)) == (True, "kappa", 60)
    pair = _pair(beside, "swav, linear", "50 (S)")
    assert pair.other is not None
    assert (pair.other.mean, pair.other.std) == (0.6330, 0.0204)
    assert pair.beside == f"swav + {named('linear')}"
    assert _pair(beside, "dvme-no-attention", "full (F)").beside == f"{named('dvme-noattn')} of 2 backbones"
    # Neither the run's knn nor a size that it lacks has a counterpart; nor do fine-tuned networks.
    assert _pair(beside, "swav, linear", "200").one is None
    assert _pair(beside, "swav, finetune", "50 (S)").beside == ""
    assert _pair(beside, "simclr, linear", "50 (S)").one is None
    assert _pair(beside, "dvme", "50 (S)").one is None
    with_both = [pair for pair in beside.pairs if pair.one is not None]
    assert len(with_both) == 3 * 3  # swav, dino, dvme-no-attention at 50, 100 and full
    assert all((pair.comparison is None) == (pair.one is None) for pair in beside.pairs)


def test_compare__welch_from_means_and_deviations(beside: CompareReport) -> None:
    p_values = []
    for pair in beside.pairs:
        if pair.one is None or pair.other is None:
            assert math.isnan(pair.p_adjusted)
            continue
        theirs = ttest_ind_from_stats(
            pair.one.mean, pair.one.std, 3, pair.other.mean, pair.other.std, 5, equal_var=False
        )
        assert pair.comparison is not None
        assert pair.comparison.statistic == pytest.approx(theirs.statistic)
        assert pair.comparison.p == pytest.approx(theirs.pvalue)
        assert pair.comparison.difference.estimate == pytest.approx(pair.one.mean - pair.other.mean)
        p_values.append(theirs.pvalue)
    adjusted = [pair.p_adjusted for pair in beside.pairs if pair.one is not None]
    assert adjusted == pytest.approx(np.minimum(1.0, 9 * np.array(p_values)).tolist())
    assert beside.test == "Welch's t from means and std"


def test_compare__the_misprint_is_shown_as_it_is(beside: CompareReport) -> None:
    pair = _pair(beside, "random, finetune", "100")
    assert pair.other is not None
    assert pair.other.mean == 0.8080
    assert "misprint" in pair.doubt
    assert [each for each in beside.pairs if each.doubt] == [pair]


def test_compare__names_that_differ(root: Path) -> None:
    report = dvme.compare(root / "one", published="truong2021:aptos", stands_for={"simclr": "dino"})
    assert _pair(report, "simclr, linear", "50 (S)").beside == f"dino + {named('linear')}"
    ours = _pair(report, "simclr, linear", "50 (S)").one
    assert ours is not None
    assert ours == _pair(report, "dino, linear", "50 (S)").one


def test_compare__says_whose_numbers_they_are(beside: CompareReport, root: Path, tmp_path: Path) -> None:
    assert any("another test set (1,928 images)" in notice for notice in beside.notices)
    assert any("between studies, not between methods" in notice for notice in beside.notices)
    subsets = root / "one" / "subsets.json"
    dvme.sweep(root / "one.zarr", tmp_path / "run", heads=["knn"], subsets=subsets)
    nothing = dvme.compare(tmp_path / "run", published="truong2021:aptos")
    assert nothing.notices[-1] == (
        "This run has no cell beside it: pass stands_for={'swav': 'BACKBONE'} where names differ, and sweep with "
        "sizes=['truong2021:aptos']"
    )
    assert json.dumps(nothing.to_json()["pairs"][0]["method"]) == '"random, linear"'


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, OptionError, "name a second run to compare with, or a published table"),
        ({"other": "one", "published": "truong2021:aptos"}, OptionError, "name a second run"),
        ({"other": "none"}, DataError, "is not a run; dvme sweep CACHE --out"),
        ({"other": "one", "metric": "f1"}, OptionError, "metric 'f1' is not known"),
        (
            {"published": "truong2021:aptos", "metric": "auc"},
            OptionError,
            "was published as kappa; pass metric='kappa'",
        ),
        ({"published": "truong2021:mnist"}, UnknownNameError, "is not a published table; choose from"),
    ],
)
def test_compare__what_cannot_be_compared(
    root: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {**arguments, "other": root / arguments["other"]} if "other" in arguments else arguments
    with pytest.raises(error, match=message):
        dvme.compare(root / "one", **given)


def test_compare__runs_of_several_findings_by_their_mean_and_by_one(several: Path) -> None:
    run = Run.load(several / "run")
    truth = run.manifest.targets.values[run.manifest.test]
    whole, one = (dvme.compare(several / "run", several / "run", finding=each) for each in (None, "Mass"))
    for report, columns in ((whole, (0, 1, 2)), (one, (2,))):
        assert report.metric == "auc"
        for pair in report.pairs:
            method, size = run.names.index(pair.method), run.manifest.sizes.index(pair.size)
            known = {c: ~np.isnan(truth[:, c]) for c in columns}
            expected = [
                np.mean([roc_auc_score(truth[some, c], job.log_test[some, c]) for c, some in known.items()])
                for job in run.finished[method, size]
            ]
            assert pair.one is not None
            assert pair.one.folds == pytest.approx(expected)
    assert (whole.finding, one.finding) == (None, "Mass")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metric": "kappa"}, "several findings is judged by auc, not by kappa"),
        ({"metric": "subset_accuracy"}, "'subset_accuracy' stands beside the AUC"),
        ({"finding": "Hernia"}, "no finding 'Hernia'; choose from Edema, Effusion, Mass"),
        ({"metric": "mae"}, "mae cannot judge a study"),
    ],
)
def test_compare__what_several_findings_do_not_have(several: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        dvme.compare(several / "run", several / "run", **asked)


def test_compare__several_findings_beside_a_published_table_of_classes(several: Path, root: Path) -> None:
    with pytest.raises(OptionError, match="one class for each image"):
        dvme.compare(several / "run", published="truong2021:aptos")
    with pytest.raises(OptionError, match="its images have one class each"):
        dvme.compare(root / "one", root / "other", finding="Mass")
