from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvme.heads import Head
from dvme.heads.exact.linear import Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.neighbours.knn import KNN
from dvme.study.ledger import FinishedJob, JobIdentity, Ledger, versions
from dvme.training.schedule import TrainingProtocol
from dvme_cache import Fingerprint

IDS = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
LABELS = np.arange(12) % 3


def _identity(**changes: Any) -> JobIdentity:
    given = JobIdentity(
        head=Linear((1e-2, 1e-3)),
        fingerprints=(Fingerprint({"weights": "a"}), Fingerprint({"weights": "b"})),
        ids=IDS,
        labels=LABELS,
        n_classes=3,
        train=np.array([0, 1, 2, 3]),
        validation=np.array([4, 5]),
        test=np.array([6, 7]),
        seed=0,
    )
    return replace(given, **changes)


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
        {"fingerprints": (Fingerprint({"weights": "a"}),)},
        {"fingerprints": (Fingerprint({"weights": "b"}), Fingerprint({"weights": "a"}))},
        {"fingerprints": (Fingerprint({"weights": "a"}), Fingerprint({"weights": "b", "dtype": "float16"}))},
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
    assert _identity(**changes).key != _identity().key


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
    keys = {
        _identity(head=NetworkHead("dvme", TrainingProtocol(**{name: value}))).key for name, value in changed.items()
    }
    keys |= {_identity(head=NetworkHead(name)).key for name in ("dvme", "dvme-noattn")}
    assert len(keys) == len(changed) + 2


def test_key__the_same_with_what_does_not() -> None:
    """Where the images stand in a cache, and the labels that no head may see."""
    key = _identity().key
    assert len(key) == 32
    assert _identity(labels=_labelled(6, 2)).key == key
    assert _identity(labels=_labelled(11, 0), ids=_replaced(11)).key == key
    order = np.random.default_rng(1).permutation(12)
    back = np.argsort(order)
    moved = {name: back[getattr(_identity(), name)] for name in ("train", "validation", "test")}
    assert _identity(ids=IDS[order], labels=LABELS[order], **moved).key == key


@pytest.mark.parametrize("head", [Linear(), KNN(), Concat(), MeanLogits(), NetworkHead("dvme")])
def test_key__raised_with_the_revision_of_its_head(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = _identity(head=head).key, _identity(head=_Double()).key
    monkeypatch.setattr(type(head), "revision", head.revision + 1)
    assert _identity(head=head).key != key
    assert isinstance(head, Linear) == (_identity(head=_Double()).key != other)  # of other heads it stays


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


def _pickled(path: Path) -> None:
    np.savez(path, test=np.array([{}], dtype=object), validation=np.zeros(1), record=np.array("{}"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: np.savez(path, test=np.zeros(1)),
        lambda path: np.savez(path, test=np.zeros(1), validation=np.zeros(1), record=np.array("{")),
        lambda path: np.savez(path, test=np.zeros(1), validation=np.zeros(1), record=np.array("[]")),
        lambda path: np.savez(path, test=np.zeros(1), validation=np.zeros(1), record=np.array("{}")),
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

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.write("k", _job())
    assert list(tmp_path.iterdir()) == []
    assert ledger.read("k") is None
