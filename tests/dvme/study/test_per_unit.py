"""Scores per image and per patient: joined by hand, resampled by patient on both sides, conflicts counted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from simulated_findings import draw_findings
from sklearn.metrics import roc_auc_score

from dvme.json_values import plain, rebuilt
from dvme.stats.findings import scored_findings
from dvme.stats.influence import scored
from dvme.stats.units import Units
from dvme.study.panel import Panel
from dvme.study.per_unit import Joining, PerUnit, per_unit, several

NAN = float("nan")


def _texts(values: Any) -> np.ndarray:
    return np.array([f"{value}" for value in values], dtype=object)


def _found(
    panel: Panel,
    values: Any,
    groups: Any,
    *,
    unit: str = "patient",
    join: Any = "mean",
    conflicts: Any = "any",
    metrics: tuple[str, ...] = ("auc", "accuracy"),
    is_multilabel: bool = True,
) -> PerUnit:
    images = [f"{place}.png" for place in range(len(panel))]
    how = Joining(unit, join, conflicts)
    return per_unit(
        "m", panel, how, _texts(values), _texts(groups), images, metrics=metrics, is_multilabel=is_multilabel
    )


@pytest.fixture(scope="module")
def drawn() -> tuple[Panel, np.ndarray]:
    truth, heads, patients, _ = draw_findings(np.random.default_rng(0), (200,), (0.4, 0.3), per_patient=3, unknown=0.1)
    return Panel(("A", "B"), truth, tuple(heads), patients), patients


@pytest.mark.parametrize("join", ["mean", "max", "noisy-or"])
def test_per_unit__is_the_plain_join_scored_by_a_peer(drawn: tuple[Panel, np.ndarray], join: str) -> None:
    panel, patients = drawn
    found = _found(panel, patients, patients, join=join)
    make = {"mean": np.mean, "max": np.max, "noisy-or": lambda p, axis: 1.0 - np.prod(1.0 - p, axis=axis)}[join]
    whole = [patients == each for each in np.unique(patients)]
    assert (found.n_images, found.n_units, found.n_joined) == (200, 67, 67)
    assert found.findings == ("A", "B")
    estimates = []
    for label, score in enumerate(found.scores[1:]):
        truths = [panel.truth[rows, label] for rows in whole]
        known = [1.0 if (own == 1).any() else NAN if np.isnan(own).any() else 0.0 for own in truths]
        is_known = ~np.isnan(known)
        joined = [[make(expit(fold[rows, label]), axis=0) for rows in whole] for fold in panel.odds]
        aucs = [roc_auc_score(np.array(known)[is_known], np.array(each)[is_known]) for each in joined]
        assert score.units.score.estimate == pytest.approx(np.mean(aucs))
        assert (score.units.n, score.units.n_positive) == (is_known.sum(), np.nansum(known))
        estimates.append(score.units.score.estimate)
    assert found.scores[0].units.score.estimate == pytest.approx(np.mean(estimates))


def test_per_unit__the_side_of_images_is_the_studys_own(drawn: tuple[Panel, np.ndarray]) -> None:
    panel, patients = drawn
    found = _found(panel, patients, patients)
    each, mean = scored_findings(panel.truth, panel.odds, patients)
    assert mean is not None
    assert found.scores[0].images.score == mean.interval()
    assert [score.images.score for score in found.scores[1:]] == [own.interval() for own in each]
    assert found.resampled == "patient"


def test_per_unit__studies_of_a_patient_are_resampled_with_it(drawn: tuple[Panel, np.ndarray]) -> None:
    """Study names begin anew at every patient, as CheXpert's do; each patient has two."""
    panel, patients = drawn
    of_patient = patients // 2
    studies = [f"study{each % 2}" for each in patients]
    found = _found(panel, studies, of_patient, unit="study")
    alone = _found(panel, patients, [""] * 200, unit="study")
    assert (found.unit, found.resampled, found.n_units) == ("study", "patient", 67)
    assert found.remarks[0] == "65 names of a study occur at several patients, which are taken apart"
    assert alone.resampled == "study"
    for one, other in zip(found.scores, alone.scores, strict=True):
        assert one.units.score.estimate == pytest.approx(other.units.score.estimate)
    joined = Panel(panel.names, *_joined(panel, patients))
    _, by_patient = scored_findings(joined.truth, joined.odds, np.unique(patients) // 2)
    assert by_patient is not None
    assert found.scores[0].units.score.low == pytest.approx(by_patient.interval().low)
    assert found.scores[0].units.score.low != pytest.approx(alone.scores[0].units.score.low)


def _joined(panel: Panel, unit: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    whole = [unit == each for each in np.unique(unit)]
    truth = [
        [1.0 if (own == 1).any() else NAN if np.isnan(own).any() else 0.0 for own in panel.truth[rows].T]
        for rows in whole
    ]
    return np.array(truth), tuple(
        logit(np.array([expit(fold[rows]).mean(axis=0) for rows in whole])) for fold in panel.odds
    )


def test_per_unit__conflicts_are_counted_named_and_a_policy() -> None:
    """Patient p1 has A on one of two images; of p3's, one is not known."""
    truth = np.array([[1, 0], [0, 0], [1, 1], [0, NAN], [0, 1], *[[place % 2, place % 2] for place in range(10)]])
    patients = ["p1", "p1", "p2", "p3", "p3", *[f"q{place}" for place in range(10)]]
    odds = (np.random.default_rng(0).normal(size=truth.shape),)
    panel = Panel(("A", "B"), truth, odds)
    found = {policy: _found(panel, patients, patients, conflicts=policy) for policy in ("any", "drop")}
    assert found["any"].conflicting == found["drop"].conflicting == {"A": ["p1"]}
    counts = {policy: [(s.units.n, s.units.n_positive) for s in each.scores[1:]] for policy, each in found.items()}
    assert counts == {"any": [(13, 7), (13, 7)], "drop": [(12, 6), (13, 7)]}
    assert found["any"].remarks == (
        "1 patient with conflicting labels (p1): each counts as what an image of it has (conflicts: any; `drop` leaves "
        "them out)",
    )
    assert found["drop"].remarks == ("1 patient with conflicting labels (p1): left out of the finding in question",)
    assert [s.images.n for s in found["drop"].scores[1:]] == [15, 14]


def test_per_unit__of_two_classes() -> None:
    labels = np.array([0, 1, 1, 1, *[place % 2 for place in range(12)]])
    patients = ["p1", "p1", "p2", "p2", *range(12)]
    odds = np.random.default_rng(0).normal(size=(16, 1)) + labels[:, None]
    panel = Panel(("sick",), labels[:, None].astype(float), (odds,))
    found = _found(panel, patients, patients, is_multilabel=False)
    assert found.conflicting == {"": ["p1"]}
    assert found.remarks[0].startswith("1 patient with conflicting labels (p1): each counts as sick, if an image of it")
    own = expit(odds[:, 0])
    joined = np.r_[own[:2].mean(), own[2:4].mean(), own[4:]]
    truth = np.r_[1, 1, labels[4:]]
    auc, accuracy = found.scores
    assert auc.units.score.estimate == pytest.approx(roc_auc_score(truth, joined))
    assert accuracy.units.score.estimate == pytest.approx(((joined > 0.5) == truth).mean())
    assert (auc.units.n, auc.units.n_positive, auc.images.n, auc.images.n_positive) == (14, 8, 16, 9)
    numbers = np.unique(patients, return_inverse=True)[1]
    folds = [np.concatenate([-odds, odds], axis=1)]
    by_patient = scored(labels, folds, Units(labels, numbers), ["auc"])["auc"].interval()
    assert auc.images.score == by_patient
    dropped = _found(panel, patients, patients, is_multilabel=False, conflicts="drop")
    assert (dropped.scores[0].units.n, dropped.scores[0].images.n) == (13, 16)
    assert dropped.remarks == ("1 patient with conflicting labels (p1): left out",)


@pytest.mark.parametrize("policy", ["any", "drop"])
def test_per_unit__of_several_classes_conflicts_are_left_out(policy: str) -> None:
    labels = np.r_[0, 1, np.arange(18) % 3]
    patients = ["p", "p", *range(18)]
    truth = np.eye(3)[labels]
    panel = Panel(("a", "b", "c"), truth, (3.0 * truth - 1.0,))
    found = _found(panel, patients, patients, is_multilabel=False, conflicts=policy)
    assert found.conflicting == {"": ["p"]}
    assert found.remarks == ("1 patient with conflicting labels (p): left out, as nobody is of two classes",)
    assert [(each.images.n, each.units.n) for each in found.scores] == [(20, 18), (20, 18)]
    assert [each.units.score.estimate for each in found.scores] == [1.0, 1.0]


def test_per_unit__too_few_say_so() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    patients = ["a", "b", "c", "d", "e", "e", "f", "f"]
    panel = Panel(("sick",), labels[:, None].astype(float), (labels[:, None] - 0.5,))
    found = _found(panel, patients, patients, is_multilabel=False)
    assert {each.units.why_not for each in found.scores} == {"2 patients with sick; it takes 3 of every class"}
    assert {each.images.why_not for each in found.scores} == {"2 patients with sick; it takes 3 of every class"}
    several_ = _found(panel, patients, patients)
    assert several_.scores[1].units.why_not == "2 patients with it, 4 without; it takes 3"
    assert several_.scores[0].units.why_not == "no finding can be judged on both sides"
    assert (
        several_.said()
        == "Per patient (mean of its images) AUC is undefined (no interval), per image undefined (no interval)."
    )


def test_per_unit__images_without_a_unit_are_counted() -> None:
    labels = np.arange(12) % 2
    panel = Panel(("sick",), labels[:, None].astype(float), (labels[:, None] - 0.5,))
    found = _found(panel, ["", "", *range(10)], [""] * 12, unit="study", is_multilabel=False)
    assert found.n_units == 12
    assert found.remarks == (
        "2 test images without a study: each counts as one of its own",
        "every study has one test image, so both sides are the same",
    )
    assert found.scores[0].units == found.scores[0].images
    assert found.resampled == "study"


def test_per_unit__said_and_json(drawn: tuple[Panel, np.ndarray]) -> None:
    panel, patients = drawn
    found = _found(panel, patients, patients, join="noisy-or")
    one, other = (getattr(found.scores[0], side).score.estimate for side in ("units", "images"))
    assert found.said().startswith(f"Per patient (noisy-or of its images) mean AUC is {one:.3f} (95% CI ")
    assert f"per image {other:.3f} (95% CI " in found.said()
    assert found.counts == (
        "200 test images of 67 patients, of which 67 have several, joined by noisy-or; on both sides 95% CI are over "
        "patients."
    )
    assert repr(rebuilt(PerUnit, plain(asdict(found)))) == repr(found)
    assert (several(1, "study"), several(2, "study"), several(0, "visit")) == ("1 study", "2 studies", "0 visits")
