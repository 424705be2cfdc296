"""Studies with other sites, end to end; expected values come from saved heads and scikit-learn."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hospitals import NAMES, Hospital, findings_text, write_site
from light import light, named
from numpy.typing import NDArray
from own_head import Centroids
from sklearn.metrics import cohen_kappa_score, roc_auc_score

import dvme
from dvme.errors import DataError, OptionError
from dvme.study.outcome import StudyReport
from dvme.study.run import Run, read_summary
from dvme_cache import FingerprintMismatchError

N, M = 150, 90
HEADS = light("linear", "mean-logits")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`own.zarr`; `ny.zarr`, which has other names and no Mass; `kids.zarr` of one class each."""
    root = tmp_path_factory.mktemp("sites")
    own, ny, kids = Hospital(0, N), Hospital(1, M, 0.5), Hospital(2, M)
    write_site(root / "own.zarr", own.values, own.labels, groups=own.groups)
    names = [findings_text(row[:2], ("Oedema", "Effusion")) for row in ny.truth]
    write_site(root / "ny.zarr", ny.values, names, groups=ny.groups, first=1000)
    write_site(root / "kids.zarr", kids.values, kids.classes, first=2000)
    return root


@pytest.fixture(scope="module")
def report(root: Path) -> StudyReport:
    found: StudyReport = dvme.probe(
        root / "own.zarr",
        heads=HEADS,
        n_folds=2,
        out=root / "run",
        test=[root / "ny.zarr", f"kids={root / 'kids.zarr'}"],
        label_map={"ny:Edema": "Oedema", "kids:Effusion": ["FLUID"]},
        score={"test": 0.25, "kids": 0.75},
    )
    return found


def _predicted(root: Path, head: str, backbones: str, hospital: Hospital) -> list[NDArray[Any]]:
    """By the kept heads of a method."""
    folders = (root / "run" / "heads").iterdir()
    (folder,) = (each for each in folders if each.name.startswith(f"{head}@") and each.name.endswith(f"--{backbones}"))
    blocks = [hospital.values[name] for name in backbones.split("+")]
    return [fold.head.predict_proba(blocks) for fold in dvme.load_head(folder).folds]


def test_sites__scores_are_those_of_the_saved_heads(root: Path, report: StudyReport) -> None:
    assert report.sites is not None
    ny, kids = report.sites.sites
    assert [site.name for site in (ny, kids)] == ["ny", "kids"]
    hospital, children = Hospital(1, M, 0.5), Hospital(2, M)
    assert (ny.judged, ny.ours_only, ny.n_images, ny.n_groups) == (("Edema", "Effusion"), ("Mass",), M, M // 2)
    assert (kids.judged, kids.theirs_only, kids.n_groups) == (("Effusion",), ("NORMAL",), None)
    for head, backbones in (("linear", "a"), ("linear", "b"), ("mean-logits", "a+b")):
        name = f"{named(head)} of 2 backbones" if "+" in backbones else f"{backbones} + {named(head)}"
        there = _predicted(root, head, backbones, hospital)
        areas = np.array([[roc_auc_score(hospital.truth[:, f], p[:, f]) for f in (0, 1)] for p in there])
        found, its = ny.of(name), kids.of(name)
        assert found is not None
        assert its is not None
        assert found.external.estimate == pytest.approx(areas.mean(), abs=1e-9)
        said = _predicted(root, head, backbones, children)
        at_kids = np.mean([roc_auc_score(children.truth[:, 1], p[:, 1]) for p in said])
        assert its.external.estimate == pytest.approx(at_kids, abs=1e-9)
        assert its.why_not == found.why_not == ""
        (total,) = (each for each in report.sites.scores if each.method == name)
        assert total.total.estimate == pytest.approx(0.25 * its.internal.estimate + 0.75 * at_kids, abs=1e-9)


def test_sites__own_scores_are_of_the_same_findings_on_the_test_images(root: Path, report: StudyReport) -> None:
    assert report.sites is not None
    run = Run.load(root / "run")
    truth = run.manifest.targets.values[run.manifest.test]
    for method, (head, backbones) in enumerate(run.methods):
        name = report.sites.sites[0].drops[method].method
        assert head in name
        jobs = run.finished[method, 0]
        areas = [[roc_auc_score(truth[:, f], job.log_test[:, f]) for f in (0, 1)] for job in jobs]
        assert report.sites.sites[0].drops[method].internal.estimate == pytest.approx(np.mean(areas), abs=1e-9)
        assert len(backbones) == (2 if head.startswith("mean") else 1)
    leading = report.rows[0].method
    assert report.sites.leader == leading
    assert [(each.finding, each.method) for each in report.sites.sites[0].findings] == [
        ("Edema", leading),
        ("Effusion", leading),
    ]
    assert report.sites.sites[0].findings[0].theirs == ("Oedema",)


def test_sites__drops_of_a_method_and_findings_of_the_leading_one_are_a_family_each(report: StudyReport) -> None:
    assert report.sites is not None
    ny, kids = report.sites.sites
    for n, rows in ((2, [*ny.drops, *kids.drops]), (3, [*ny.findings, *kids.findings])):
        for each in rows:
            assert each.together is not None
            assert each.together.p == pytest.approx(min(1.0, n * each.drop.p))
            assert each.together.difference.low < each.drop.difference.low
    assert len([*ny.findings, *kids.findings]) == 3
    assert report.sites.families == (
        "those of a method are for 2 sites together, those of findings for 3 together (Bonferroni)"
    )


def test_sites__are_kept_in_the_summary_and_the_same_when_gone_on_with(root: Path, report: StudyReport) -> None:
    """A study without sites is the same but for them; one that was finished before judges its kept heads."""
    assert repr(read_summary(root / "run").sites) == repr(report.sites)
    again = dvme.probe(
        root / "own.zarr",
        heads=HEADS,
        n_folds=2,
        out=root / "run",
        test=[root / "ny.zarr", f"kids={root / 'kids.zarr'}"],
        label_map={"ny:Edema": "Oedema", "kids:Effusion": ["FLUID"]},
        score={"test": 0.25, "kids": 0.75},
    )
    assert again.n_reused == again.n_jobs
    assert repr(again.sites) == repr(report.sites)
    fewer = dvme.probe(root / "own.zarr", heads=HEADS, n_folds=2, out=root / "run", test=root / "ny.zarr")
    before = f"{root / 'run'} had kids as other sites in an earlier call; name them again with test to have them in its"
    assert f"{before} report" in fewer.notices
    assert not any("in an earlier call" in line for line in again.notices)
    alone = dvme.probe(root / "own.zarr", heads=HEADS, n_folds=2)  # and keeps no head
    assert alone.sites is None
    assert repr(alone.cells[0].test) == repr(report.cells[0].test)
    bare = dvme.probe(root / "own.zarr", heads=HEADS, n_folds=2, test=root / "ny.zarr", label_map={"Edema": "Oedema"})
    assert bare.sites is not None
    assert report.sites is not None
    ny = report.sites.sites[0].drops
    assert repr(bare.sites.sites[0].drops) == repr(tuple(replace(each, together=each.drop) for each in ny))
    older = {name: value for name, value in report.to_json().items() if name != "sites"}
    assert StudyReport.from_json(json.loads(json.dumps(older))).sites is None


def test_sites__every_line_names_its_site_and_none_is_dropped(report: StudyReport) -> None:
    lines = [line for line in report.notices if line.startswith(("ny", "kids"))]
    assert lines == [
        "ny: Edema is Oedema there",
        "ny: of the study's findings it lacks Mass",
        "kids: Effusion is FLUID there",
        "kids: of the study's findings it lacks Edema, Mass",
        "kids: the study lacks NORMAL (its images count as being without the others)",
        "kids: no image has a group, so its images count as independent",
    ]
    assert set(lines) & set(report.asides) == {lines[0], lines[2], lines[4]}


def test_sites__a_copy_of_the_test_images_has_no_drop_and_is_named(root: Path, tmp_path: Path) -> None:
    own = Hospital(0, N)
    test = Run.load(root / "run").manifest.test
    copy = write_site(
        tmp_path / "copy.zarr",
        {name: values[test] for name, values in own.values.items()},
        [own.labels[image] for image in test],
        groups=[own.groups[image] for image in test],
        first=5000,
    )
    found = dvme.probe(root / "own.zarr", heads=light("linear"), n_folds=2, test=copy)
    assert found.sites is not None
    (site,) = found.sites.sites
    for cell in found.cells:
        its = site.of(cell.method)
        assert its is not None
        assert its.internal == its.external == cell.interval
        assert its.drop.difference.estimate == 0.0
        assert (its.drop.p, its.word) == (1.0, "no drop shown")
    (line,) = site.why_not_external
    assert line.startswith(
        f"copy may not be external: {len(test)} images of it all but coincide with some of the study:"
    )
    assert line in found.notices
    assert line not in found.asides
    assert all(each.discrepancy.p > 0.05 for each in site.shifts)


def _kappa(labels: NDArray[Any], chances: NDArray[Any]) -> float:
    return float(cohen_kappa_score(labels, chances.argmax(axis=1), labels=range(4), weights="quadratic"))


def test_sites__kappa_of_classes_and_a_sweep(tmp_path: Path, make_features: Any) -> None:
    """At a site that lacks a class; the largest size alone is judged there."""
    labels, there = np.arange(120) % 4, np.tile([0, 2, 3], 20)
    both = make_features(np.concatenate([labels, there]), 1.0, 0)
    write_site(tmp_path / "own.zarr", {"a": both[:120]}, [str(label) for label in labels])
    write_site(tmp_path / "ny.zarr", {"a": both[120:]}, [f"g{label}" for label in there], first=500)
    report = dvme.sweep(
        tmp_path / "own.zarr",
        tmp_path / "run",
        heads=light("linear"),
        options=dvme.SubsetOptions(sizes=("20", "full"), n_folds=2),
        metric="kappa",
        test=tmp_path / "ny.zarr",
        label_map={"0": "g0", "2": "g2", "3": "g3"},
    )
    assert report.sites is not None
    assert report.sites.metric == "kappa"
    (site,) = report.sites.sites
    (drop,) = site.drops
    run = Run.load(tmp_path / "run")
    truth = run.manifest.targets.values[run.manifest.test]
    (folder,) = (tmp_path / "run" / "heads").iterdir()
    own = [_kappa(truth[truth != 1], job.test[truth != 1]) for job in run.finished[0, 1]]
    its = [_kappa(there, fold.head.predict_proba([both[120:]])) for fold in dvme.load_head(folder).folds]
    assert drop.internal.estimate == pytest.approx(np.mean(own), abs=1e-9)
    assert drop.external.estimate == pytest.approx(np.mean(its), abs=1e-9)
    assert site.judged == ("0", "2", "3")


def test_sites__what_cannot_be_is_refused_before_a_fit(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme.study.grid.Grid.fit", lambda *_, **__: pytest.fail("something is fitted"))
    ny = Hospital(1, M)
    other = write_site(tmp_path / "other.zarr", ny.values, ny.labels, first=1000, weights={"a": "else"})
    with pytest.raises(FingerprintMismatchError, match=r"a in .*other.zarr was not made as in"):
        dvme.probe(root / "own.zarr", heads=HEADS, test=other)
    with pytest.raises(DataError, match=r"site kids has none of the study's findings \(Edema, Effusion, Mass\)"):
        dvme.probe(root / "own.zarr", heads=HEADS, test=root / "kids.zarr")


@pytest.mark.parametrize("is_drawn", [False, True])
def test_sites__names_are_checked_before_images_are_compared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_drawn: bool
) -> None:
    asked: dict[str, Any] = {"heads": HEADS, "test": root / "kids.zarr"}
    study = partial(dvme.probe, root / "own.zarr")
    if is_drawn:
        dvme.subsets(root / "own.zarr", tmp_path / "subsets.json", options=dvme.SubsetOptions(n_folds=2))
        study = partial(dvme.sweep, root / "own.zarr", tmp_path / "run", subsets=tmp_path / "subsets.json")
    monkeypatch.setattr("dvme.study.design.subsets.inspect", lambda *_, **__: pytest.fail("images are compared"))
    for names, said in (
        ({"Oedema": "FLUID"}, "says what 'Oedema' is called"),
        ({"Edema": "x"}, "site kids has no 'x'"),
    ):
        with pytest.raises((OptionError, DataError), match=said):
            study(label_map=names, **asked)
    with pytest.raises(OptionError, match=r"the weights sum to 0\.5"):
        study(label_map={"Effusion": "FLUID"}, score={"kids": 0.5}, **asked)


def test_sites__a_finding_without_positives_is_a_row_that_says_so(root: Path, tmp_path: Path) -> None:
    ny = Hospital(1, M)
    ny.truth[:, 0] = 0.0
    labels = [findings_text(row, NAMES) if image else "|Edema=|Mass|" for image, row in enumerate(ny.truth)]
    place = write_site(tmp_path / "ny.zarr", ny.values, labels, first=1000)
    report = dvme.probe(root / "own.zarr", heads=light("linear"), n_folds=2, test=place)
    assert report.sites is not None
    (site,) = report.sites.sites
    assert site.judged == ("Effusion", "Mass")
    assert site.findings[0].why_not == f"0 of the site's images with it, {M - 1} without: it takes 3 of each"


def test_sites__a_head_of_the_users_own_is_not_kept_and_not_judged(root: Path) -> None:
    asked: dict[str, Any] = {
        "n_folds": 2,
        "backbones": ["a"],
        "test": root / "ny.zarr",
        "label_map": {"FLUID": "Effusion"},
    }
    report = dvme.probe(root / "kids.zarr", heads=[Centroids()], **asked)
    assert report.sites is not None
    assert report.sites.said() == "Nothing can be said of ny: no head of this study is kept."
    assert report.sites.sites[0].drops == ()


def test_sites__images_that_the_study_uses_are_left_out_of_a_site(root: Path, tmp_path: Path) -> None:
    """Neither those that heads know, nor those on the other side of the drop; the rest is as it is without them."""
    ny, own = Hospital(1, M, 0.5), Hospital(0, N)
    values = {name: np.concatenate([own.values[name][-40:], ny.values[name]]) for name in own.values}
    asked: dict[str, Any] = {"heads": light("linear"), "n_folds": 2, "backbones": ["a"]}
    both = write_site(tmp_path / "both.zarr", {"a": values["a"]}, [*own.labels[-40:], *ny.labels], first=N - 40)
    alone = write_site(tmp_path / "alone.zarr", {"a": ny.values["a"]}, ny.labels, first=N)
    copied = dvme.probe(root / "own.zarr", test=both, out=tmp_path / "run", **asked)
    plain = dvme.probe(root / "own.zarr", test=alone, **asked)
    assert copied.sites is not None
    assert plain.sites is not None
    (site,), (its,) = copied.sites.sites, plain.sites.sites
    n_tested = int((Run.load(tmp_path / "run").manifest.test >= N - 40).sum())
    assert 0 < n_tested < 40
    assert site.n_images == M
    assert site.n_left_out == {
        "that heads of the study learn from or are chosen on": 40 - n_tested,
        "of the study's own test images": n_tested,
    }
    assert {f"both: left out: {n:,} {reason}" for reason, n in site.n_left_out.items()} <= set(copied.notices)
    assert repr((site.drops, site.findings, site.shifts)) == repr((its.drops, its.findings, its.shifts))
    assert site.shifts[0].classifier.n_all == (N, M)
    assert site.why_not_external[0].startswith("both is not external: 40 of its 130 images are files of the study")
    assert site.why_not_external[0].endswith(", 40 of them left out")


def test_sites__a_copy_of_the_study_claims_nothing(root: Path, tmp_path: Path) -> None:
    own = Hospital(0, N)
    copy = write_site(tmp_path / "copy.zarr", own.values, own.labels, groups=own.groups)
    asked: dict[str, Any] = {"test": [copy, root / "ny.zarr"], "score": {"test": 0.5, "copy": 0.5}}
    report = dvme.probe(root / "own.zarr", heads=HEADS, n_folds=2, label_map={"ny:Edema": "Oedema"}, **asked)
    why = "no image is left: all are the study's own"
    assert report.sites is not None
    site, ny = report.sites.sites
    assert (site.n_images, sum(site.n_left_out.values()), site.judged, site.findings) == (0, N, (), ())
    assert {(each.why_not, each.word) for each in site.drops} == {(why, "no test")}
    assert f"copy: {why}" in report.notices
    assert all(each.word != "no test" for each in ny.drops)
    assert report.sites.said().endswith("Nothing can be said of copy.")
    assert {each.why_not for each in report.sites.scores} == {f"copy: {why}"}
    assert all(np.isnan(each.total.estimate) for each in report.sites.scores)


def test_sites__a_score_counts_no_image_twice(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Hospital(1, M)
    first, second = (
        write_site(tmp_path / f"{name}.zarr", there.values, there.labels, first=start)
        for name, start in (("la", 1000), ("sf", 1000 + M - 5))
    )
    asked: dict[str, Any] = {"heads": light("linear"), "n_folds": 2, "test": [first, second]}
    monkeypatch.setattr("dvme.study.grid.Grid.fit", lambda *_, **__: pytest.fail("something is fitted"))
    with pytest.raises(OptionError) as refused:
        dvme.probe(root / "own.zarr", score={"la": 0.5, "sf": 0.5}, **asked)
    assert str(refused.value) == (
        "score would count 5 images twice: 1085.png is at la and at sf; leave one of the two sites out"
    )
    with pytest.raises(pytest.fail.Exception, match="something is fitted"):  # one of the two is no portion
        dvme.probe(root / "own.zarr", score={"la": 0.5, "test": 0.5}, **asked)
