from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as skm

from dvme.data.targets import Targets
from dvme.heads import Head
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.neighbours.knn import KNN
from dvme.study import ledger as ledgers
from dvme.study.ledger import FinishedJob, Ledger, job_key, versions
from dvme.study.methods import Method
from dvme.study.scoring import shown_of
from dvme.training.schedule import TrainingProtocol

IDS = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
LABELS = np.arange(12) % 3


GIVEN: dict[str, Any] = {
    "head": Linear((1e-2, 1e-3)),
    "digests": ("of a", "of b"),
    "ids": IDS,
    "labels": LABELS,
    "n_classes": 3,
    "train": np.array([0, 1, 2, 3]),
    "validation": np.array([4, 5]),
    "test": np.array([6, 7]),
    "seed": 0,
}


def _key(**changes: Any) -> str:
    given = GIVEN | changes
    names = tuple(f"m{number}" for number in range(len(given["digests"])))
    described = Method("named", given["head"], names).identity(dict(zip(names, given["digests"], strict=True)))
    targets = Targets(tuple("abcd"[: given["n_classes"]]), given["labels"])
    parts = given["train"], given["validation"], given["test"]
    return job_key(described, given["ids"], targets, parts, given["seed"])


def _labelled(position: int, label: int) -> Any:
    labels = LABELS.copy()
    labels[position] = label
    return labels


def _replaced(position: int) -> Any:
    ids = IDS.copy()
    ids[position] += 1
    return ids


@dataclass(frozen=True)
class _Double(Linear):
    """Another kind with the same settings."""


@pytest.mark.parametrize(
    "changes",
    [
        {"head": Linear((1e-2,))},
        {"head": Linear((1e-2, 1e-3), name="other")},
        {"head": _Double((1e-2, 1e-3))},
        {"head": KNN()},
        {"head": Concat(Linear((1e-2, 1e-3)))},
        {"digests": ("of a",)},
        {"digests": ("of b", "of a")},
        {"digests": ("of a", "of b in float16")},
        {"ids": _replaced(0)},
        {"ids": _replaced(4)},
        {"ids": _replaced(6)},
        {"labels": _labelled(0, 1)},
        {"labels": _labelled(4, 0)},
        {"n_classes": 4},
        {"train": np.array([0, 1, 2])},
        {"train": np.array([1, 0, 2, 3])},
        {"validation": np.array([4])},
        {"validation": np.array([5, 4])},
        {"test": np.array([7, 6])},
        {"seed": 1},
    ],
)
def test_key__another_with_anything_that_determines_the_result(changes: dict[str, Any]) -> None:
    assert _key(**changes) != _key()


def test_key__every_field_of_the_training_protocol_counts() -> None:
    changed = {
        "learning_rate": 1e-4,
        "batch_size": 32,
        "min_epochs": 29,
        "max_epochs": 49,
        "plateau_factor": 0.2,
        "plateau_patience": 4,
        "stop_patience": 9,
        "sampling": "oversampled",
    }
    assert set(changed) == set(vars(TrainingProtocol()))
    keys = {_key(head=NetworkHead("dvme", TrainingProtocol(**{name: value}))) for name, value in changed.items()}
    keys |= {_key(head=NetworkHead(name)) for name in ("dvme", "dvme-noattn")}
    assert len(keys) == len(changed) + 2


def test_key__the_same_with_what_does_not() -> None:
    """Where the images stand in a cache, and the labels that no head may see."""
    key = _key()
    assert len(key) == 32
    assert _key(labels=_labelled(6, 2)) == key
    assert _key(labels=_labelled(11, 0), ids=_replaced(11)) == key
    order = np.random.default_rng(1).permutation(12)
    back = np.argsort(order)
    moved = {name: back[GIVEN[name]] for name in ("train", "validation", "test")}
    assert _key(ids=IDS[order], labels=LABELS[order], **moved) == key


@pytest.mark.parametrize("head", [Linear(), KNN(), Concat(), MeanLogits(), NetworkHead("dvme")])
def test_key__raised_with_the_revision_of_its_head(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = _key(head=head), _key(head=_Double())
    monkeypatch.setattr(type(head), "revision", head.revision + 1)
    assert _key(head=head) != key
    assert isinstance(head, Linear) == (_key(head=_Double()) != other)  # of other heads it stays


def _job() -> FinishedJob:
    rng = np.random.default_rng(0)
    return FinishedJob(
        log_test=-rng.random((20, 3), dtype=np.float32),
        log_validation=-rng.random((7, 3), dtype=np.float32),
        chosen={"strength": 1e-2, "is_converged": True, "validation_loss": float("nan"), "strengths": [1, 2]},
        seconds=1.25,
        n_parameters=39,
        versions=versions(),
    )


def test_ledger__gives_back_what_it_was_given(tmp_path: Path) -> None:
    ledger, job = Ledger(tmp_path / "jobs"), _job()
    assert ledger.read("k") is None
    ledger.write("k", job)
    found = ledger.read("k")
    assert found is not None
    np.testing.assert_array_equal(found.log_test, job.log_test)
    np.testing.assert_array_equal(found.log_validation, job.log_validation)
    assert found.log_test.dtype == np.float32
    np.testing.assert_allclose(np.log(found.test), job.log_test, rtol=1e-6)
    assert found.versions["numpy"] == np.__version__
    assert dict(found.chosen) == {**job.chosen, "validation_loss": None}
    assert (found.seconds, found.n_parameters) == (1.25, 39)
    assert ledger.read("other") is None
    assert [entry.name for entry in (tmp_path / "jobs").iterdir()] == ["k.npz"]


def test_ledger__gives_back_outlines_and_none_where_there_are_none(tmp_path: Path) -> None:
    ledger, scores = Ledger(tmp_path), np.array([[[1.5, 0.25]], [[np.inf, 0.0]], [[np.nan, np.nan]]])
    ledger.write("with", replace(_job(), outlines=scores))
    ledger.write("without", _job())
    found, other = ledger.read("with"), ledger.read("without")
    assert found is not None
    np.testing.assert_array_equal(found.outlines, scores)
    assert other is not None
    assert other.outlines is None


def test_ledger__a_torn_file_is_no_finished_job(tmp_path: Path) -> None:
    """Cut anywhere, or with any byte flipped: it is read as it was, or not at all."""
    ledger, job = Ledger(tmp_path), _job()
    ledger.write("k", job)
    path = tmp_path / "k.npz"
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert ledger.read("k") is None
    rng = np.random.default_rng(0)
    n_lost = 0
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= int(rng.integers(1, 256))
        path.write_bytes(flipped)
        found = ledger.read("k")
        n_lost += found is None
        if found is not None:
            np.testing.assert_array_equal(found.log_test, job.log_test)
            np.testing.assert_array_equal(found.log_validation, job.log_validation)
            assert (found.chosen["strength"], found.seconds, found.n_parameters) == (1e-2, 1.25, 39)
    assert n_lost > len(whole) / 3 / 2


TEST, VALIDATION = np.arange(20) % 3, np.arange(7) % 3


def _probable() -> FinishedJob:
    """Log probabilities that sum to 1, as a head gives them."""
    rng = np.random.default_rng(1)
    logits = [2.0 * rng.normal(size=(n, 3)) for n in (20, 7)]
    logs = [(each - np.logaddexp.reduce(each, axis=1, keepdims=True)).astype(np.float32) for each in logits]
    return replace(_job(), log_test=logs[0], log_validation=logs[1])


def test_scores__are_those_of_scikit_learn() -> None:
    job = _probable()
    scored = job.scored_by(TEST, VALIDATION)
    for part, labels, kept in (("test", TEST, job.test), ("validation", VALIDATION, job.validation)):
        chances, guesses = kept / kept.sum(axis=1, keepdims=True), kept.argmax(axis=1)
        assert dict(scored.scores[part]) == pytest.approx(
            {
                "auc": skm.roc_auc_score(labels, chances, multi_class="ovr", average="macro"),
                "accuracy": skm.accuracy_score(labels, guesses),
                "balanced_accuracy": skm.balanced_accuracy_score(labels, guesses),
                "kappa": skm.cohen_kappa_score(labels, guesses, weights="quadratic"),
                "mae": skm.mean_absolute_error(labels, guesses),
            },
            abs=1e-12,
        )


def test_scores__of_tuned_heads_are_without_cuts_where_these_were_chosen() -> None:
    job = _probable()
    tuned = replace(job, chosen={**job.chosen, "cuts": [0.2, 0.3]})
    plain, with_cuts = job.scored_by(TEST, VALIDATION).scores, tuned.scored_by(TEST, VALIDATION).scores
    assert with_cuts["validation"] == plain["validation"]
    grades = (job.test / job.test.sum(axis=1, keepdims=True)) @ np.arange(3)
    assert with_cuts["test"]["accuracy"] == skm.accuracy_score(TEST, np.digitize(grades, [0.2, 0.3]))
    assert with_cuts["test"]["accuracy"] != plain["test"]["accuracy"]
    assert with_cuts["test"]["auc"] == plain["test"]["auc"]


def test_scores__are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And kept with the job, nan included; of a job that was written without them, when it is read."""
    ledger, job = Ledger(tmp_path), _probable()
    scored = job.scored_by(TEST, VALIDATION)
    ledger.write("old", job)
    found = ledger.read("old")
    assert found is not None
    assert found.scores == {}
    assert found.scored_by(TEST, VALIDATION).scores == scored.scores
    kept = {"test": {"auc": float("nan"), "accuracy": 0.5}, "validation": {"auc": 0.25}}
    ledger.write("k", replace(scored, scores=kept))
    with monkeypatch.context() as patch:
        patch.setattr(ledgers, "scores_of", None)  # whoever scores again fails
        again = ledger.read("k")
        assert again is not None
        again = again.scored_by(TEST, VALIDATION)
        assert np.isnan(again.scores["test"]["auc"])
        assert (again.scores["test"]["accuracy"], again.scores["validation"]) == (0.5, {"auc": 0.25})
        assert scored.scored_by(TEST, VALIDATION) is scored
    # By other labels, or with another metric, the job is scored again.
    other = np.roll(TEST, 1)
    assert again.scored_by(other, VALIDATION).scores["test"]["accuracy"] == skm.accuracy_score(
        other, job.log_test.argmax(axis=1)
    )
    monkeypatch.setattr(ledgers, "shown_of", lambda labels: (*shown_of(labels), "mcc"))
    assert again.scored_by(TEST, VALIDATION).scores == scored.scores


def test_read__a_job_of_a_dvme_that_kept_no_scores(tmp_path: Path) -> None:
    """Its file, field by field."""
    job = _probable()
    record = {"chosen": {"strength": 0.1}, "seconds": 2.5, "n_parameters": 12, "versions": {"dvme": "0.1"}}
    np.savez(
        tmp_path / "k.npz",
        log_test=job.log_test,
        log_validation=job.log_validation,
        record=np.array(json.dumps(record)),
    )
    found = Ledger(tmp_path).read("k")
    assert found is not None
    assert {field.name: getattr(found, field.name) for field in fields(found)[2:]} == {
        **record,
        "scores": {},
        "scored_on": "",
        "outlines": None,
    }
    assert found.scored_by(TEST, VALIDATION).scores["test"]["accuracy"] == skm.accuracy_score(
        TEST, job.log_test.argmax(axis=1)
    )


def _pickled(path: Path) -> None:
    np.savez(path, log_test=np.array([{}], dtype=object), log_validation=np.zeros(1), record=np.array("{}"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: np.savez(path, log_test=np.zeros(1)),
        lambda path: np.savez(path, log_test=np.zeros(1), log_validation=np.zeros(1), record=np.array("{")),
        lambda path: np.savez(path, log_test=np.zeros(1), log_validation=np.zeros(1), record=np.array("[]")),
        lambda path: np.savez(path, log_test=np.zeros(1), log_validation=np.zeros(1), record=np.array("{}")),
        lambda path: path.write_text("hello"),
        _pickled,
    ],
)
def test_ledger__another_file_is_no_finished_job(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(tmp_path / "k.npz")
    assert Ledger(tmp_path).read("k") is None


def test_ledger__a_file_that_cannot_be_read_is_not_taken_for_torn(tmp_path: Path) -> None:
    (tmp_path / "k.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        Ledger(tmp_path).read("k")


def test_ledger__is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.write("k", _job())
    assert list(tmp_path.iterdir()) == []
    assert ledger.read("k") is None


def test_ledger__a_workplace_goes_once_its_job_is_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "jobs", tmp_path / "training")
    job = FinishedJob(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32), {}, 1.0, 3)
    places = [place for key in "ab" if (place := ledger.workplace(key)) is not None]
    assert places == [tmp_path / "training" / key for key in "ab"]
    ledger.write("c", job)
    for place in places:
        place.mkdir(parents=True)
        (place / "last.pt").touch()
    ledger.write("a", job)
    assert [place.exists() for place in places] == [False, True]
    assert ledger.has("a")
    ledger.tidy(["c"])
    assert places[1].exists()
    ledger.write("b", job)
    assert not (tmp_path / "training").exists()
    places[0].mkdir(parents=True)
    ledger.tidy()
    assert not (tmp_path / "training").exists()


def test_ledger__a_job_that_cannot_be_kept_keeps_its_workplace(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "jobs", tmp_path / "training")
    place = tmp_path / "training" / "a"
    place.mkdir(parents=True)
    (tmp_path / "jobs" / "a.npz").mkdir(parents=True)
    job = FinishedJob(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32), {}, 1.0, 3)
    with pytest.raises(IsADirectoryError):
        ledger.write("a", job)
    assert place.exists()
    assert Ledger(None).workplace("a") is None
    assert Ledger(tmp_path / "jobs").workplace("a") is None
