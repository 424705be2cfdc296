from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

import dvme
from dvme.errors import OptionError
from dvme.estimators import (
    ConcatProbe,
    DVMEClassifier,
    KNNProbe,
    LinearAdamProbe,
    LinearProbe,
    MeanLogitsEnsemble,
    MLPFusion,
)
from dvme.estimators.base import HeadClassifier, split_validation
from dvme.heads import Embedded, Head, Job, fit_jobs
from dvme.heads.exact.linear import STRENGTHS, FittedLinear, Linear
from dvme.heads.fusion import networks
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import FittedNetwork, NetworkHead
from dvme.heads.neighbours.knn import KNN
from dvme.heads.neighbours.votes import TEMPERATURE
from dvme.training.schedule import TrainingProtocol

QUICK: dict[str, Any] = {"learning_rate": 2e-2, "max_epochs": 4, "batch_size": 32}
TRAINED = [
    LinearAdamProbe(**QUICK),
    MLPFusion(**QUICK),
    DVMEClassifier(**QUICK),
    DVMEClassifier(attention="tokens", **QUICK),
    DVMEClassifier(attention="none", **QUICK),
]
EVERY = [LinearProbe(), KNNProbe(), ConcatProbe(), MeanLogitsEnsemble(), *TRAINED]
HEADS: list[Head] = [
    Linear(),
    KNN(),
    Concat(),
    MeanLogits(),
    *(
        NetworkHead(name, TrainingProtocol(**QUICK))
        for name in ("linear-adam", "mlp", "dvme", "dvme-tokens", "dvme-noattn")
    ),
]
FUSIONS = (ConcatProbe, MeanLogitsEnsemble, MLPFusion, DVMEClassifier)
WITHOUT_SPLIT = [
    LinearProbe(validation_fraction=0),
    ConcatProbe(validation_fraction=0),
    MeanLogitsEnsemble(validation_fraction=0),
]
"""Nothing of them is drawn at random, so that a weight is exactly a repeated row."""
DRAWN = "which rows are for validation, and in which minibatch, is drawn at random, otherwise where rows are repeated"
ROUNDING = "predicts in float32, whose rounding depends on the batch; the check allows 1e-7, see the test of 1e-5 here"


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The contract is that of any width, and tiny networks are fastest on one thread."""
    monkeypatch.setattr(networks, "WIDTH", 64)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def _task(n_rows: int = 90, n_columns: int = 10, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n_rows) % n_classes
    return rng.normal(size=(n_classes, n_columns))[labels] + rng.normal(size=(n_rows, n_columns)), labels


def _name(estimator: HeadClassifier) -> str:
    return f"{type(estimator).__name__}-{getattr(estimator, 'attention', '')}".rstrip("-")


def _known_failures(estimator: HeadClassifier) -> dict[str, str]:
    drawn = {} if estimator.validation_fraction == 0 else {"check_sample_weight_equivalence_on_dense_data": DRAWN}
    if not isinstance(estimator, LinearAdamProbe):  # the base of all that are trained by minibatches
        return drawn
    return drawn | {"check_methods_subset_invariance": ROUNDING, "check_methods_sample_order_invariance": ROUNDING}


@parametrize_with_checks([*EVERY, *WITHOUT_SPLIT], expected_failed_checks=_known_failures)
def test_estimators__keep_the_contract_of_scikit_learn(estimator: HeadClassifier, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", TRAINED, ids=_name)
def test_trained__a_row_does_not_depend_on_its_batch(estimator: HeadClassifier) -> None:
    X, y = _task()
    fitted = clone(estimator).fit(X, y)
    whole = fitted.predict_proba(X)
    alone = np.concatenate([fitted.predict_proba(X[row : row + 1]) for row in range(len(X))])
    np.testing.assert_allclose(alone, whole, atol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(X[::-1]), whole[::-1], atol=1e-5)


@pytest.mark.parametrize(("estimator", "head"), list(zip(EVERY, HEADS, strict=True)), ids=map(_name, EVERY))
def test_fit__is_that_of_fit_jobs(estimator: HeadClassifier, head: Head) -> None:
    X, labels = _task()
    sizes = (3, 2, 5) if isinstance(estimator, FUSIONS) else (10,)
    own = clone(estimator).set_params(random_state=7)
    if len(sizes) > 1:
        own.set_params(blocks=sizes)
    own.fit(X, np.array(["c", "a", "b"])[labels])
    train = np.setdiff1d(np.arange(90), own.validation_rows_)
    blocks = np.split(X, np.cumsum(sizes)[:-1], axis=1)
    embedded = Embedded(dict(zip("xyz", blocks, strict=False)), np.array([2, 0, 1])[labels], 3)
    job = Job(head, tuple(embedded.embeddings), train, own.validation_rows_, seed=7)
    direct = fit_jobs([job], embedded)[0]
    assert own.chosen_ == direct.chosen
    np.testing.assert_allclose(own.predict_proba(X), direct.predict_proba(blocks), atol=1e-6)
    assert own.classes_.tolist() == ["a", "b", "c"]
    assert own.predict(X).tolist() == own.classes_[direct.predict_proba(blocks).argmax(axis=1)].tolist()
    assert len(own.validation_rows_) == 18
    if isinstance(head, NetworkHead):
        assert isinstance(own.head_, FittedNetwork)
        assert (own.head_.name, own.head_.dims) == (head.name, sizes)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_linear_probe__is_logistic_regression_of_the_same_strength(n_classes: int) -> None:
    X, y = _task(n_classes=n_classes)
    ours = LinearProbe(strengths=[1e-2], validation_fraction=0).fit(X, y)
    scale = ((X - X.mean(axis=0)) ** 2).sum()  # strengths are relative to it
    peer = LogisticRegression(C=1 / (1e-2 * scale), tol=1e-10, max_iter=5000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), atol=1e-4)
    ours_decides, peer_decides = ours.decision_function(X), peer.decision_function(X)
    assert ours_decides.shape == peer_decides.shape
    if n_classes > 2:  # logits have a free offset
        ours_decides, peer_decides = (d - d.mean(axis=1, keepdims=True) for d in (ours_decides, peer_decides))
    np.testing.assert_allclose(ours_decides, peer_decides, atol=1e-3)


def test_knn_probe__is_k_neighbours_with_cosine_weights() -> None:
    X, y = _task()
    ours = KNNProbe(neighbours=[7], validation_fraction=None).fit(X[:60], y[:60])
    peer = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE))
    peer.fit(X[:60], y[:60])
    np.testing.assert_allclose(ours.predict_proba(X[60:]), peer.predict_proba(X[60:]), atol=1e-4)


def test_estimators__in_scikit_learns_tools(tmp_path: Path) -> None:
    X, y = _task()
    piped = make_pipeline(StandardScaler(), ConcatProbe(blocks=(4, 6)))
    assert cross_val_score(piped, X, y, cv=3).mean() > 0.7
    grid = GridSearchCV(KNNProbe(validation_fraction=0), {"neighbours": [(1,), (9,)]}, cv=3, scoring="roc_auc_ovr")
    assert grid.fit(X, y).best_params_["neighbours"] == (9,)
    piped.fit(X, y)
    joblib.dump(piped, tmp_path / "piped.joblib")
    loaded = joblib.load(tmp_path / "piped.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(X), piped.predict_proba(X))
    binary = cross_val_score(DVMEClassifier(blocks=(4, 6), **QUICK), X, y == 1, cv=2, scoring="roc_auc", n_jobs=1)
    assert binary.min() > 0.6


@pytest.mark.parametrize("estimator", EVERY, ids=_name)
def test_estimators__labels_and_inputs_of_every_kind(estimator: HeadClassifier) -> None:
    X, y = _task()
    names = [f"f{column}" for column in range(10)]
    frame = pd.DataFrame(X.astype(np.float32), columns=names)
    words = pd.Series(np.array(["low", "mid", "high"])[y])
    fitted = clone(estimator).fit(frame, words)
    assert fitted.classes_.tolist() == ["high", "low", "mid"]
    assert fitted.feature_names_in_.tolist() == names
    assert (fitted.predict(frame) == words).mean() > 0.6
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame.rename(columns={"f0": "other"}))
    numbers = clone(estimator).fit(X.astype(np.float32), np.array([30, 10, 20])[y])
    assert set(numbers.predict(X.astype(np.float32))) <= {10, 20, 30}
    assert numbers.classes_.dtype.kind == "i"


def test_random_state__decides_rows_and_parameters() -> None:
    X, y = _task()
    same = [LinearAdamProbe(random_state=3, **QUICK).fit(X, y) for _ in range(2)]
    np.testing.assert_array_equal(same[0].predict_proba(X), same[1].predict_proba(X))
    other = LinearAdamProbe(random_state=4, **QUICK).fit(X, y)
    assert other.validation_rows_.tolist() != same[0].validation_rows_.tolist()
    drawn = [KNNProbe(random_state=state).fit(X, y).validation_rows_.tolist() for state in (None, None)]
    assert drawn[0] != drawn[1]
    state = np.random.RandomState(0)
    drawn = [KNNProbe(random_state=state).fit(X, y).validation_rows_.tolist() for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_split_validation__by_hand() -> None:
    labels = np.array([0] * 10 + [1] * 4 + [2] * 1)
    train, validation = split_validation(labels, 0.2, seed=0)
    assert np.bincount(labels[validation], minlength=3).tolist() == [2, 1, 0]  # 2, 0.8 and 0.2, rounded
    assert sorted([*train, *validation]) == list(range(15))
    assert validation.tolist() == sorted(validation)
    greedy = split_validation(labels, 0.95, seed=0)[0]
    assert np.bincount(labels[greedy]).tolist() == [1, 1, 1]  # one row of each is left


@pytest.mark.parametrize(("counts", "fraction"), [((2, 2), 0.2), ((50, 1), 0.2), ((50, 50), 0.0), ((50, 50), None)])
def test_split_validation__none_is_taken(counts: tuple[int, int], fraction: float | None) -> None:
    train, validation = split_validation(np.repeat([0, 1], counts), fraction, seed=0)
    assert (len(train), len(validation)) == (sum(counts), 0)


def test_fit__without_validation_rows_takes_the_middle_of_the_path() -> None:
    X, y = _task(n_rows=6)
    assert LinearProbe().fit(X, y).chosen_["strength"] == STRENGTHS[len(STRENGTHS) // 2]
    assert KNNProbe().fit(X, y).chosen_["k"] == 5  # of 1, 5 and 6
    trained = LinearAdamProbe(**QUICK).fit(X, y)
    assert trained.chosen_["epoch"] == trained.chosen_["n_epochs"] == 4


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (ConcatProbe(blocks=(4, 5)), r"blocks \(4, 5\) sum to 9 columns but X has 10"),
        (ConcatProbe(blocks=(10, 0)), "blocks 0 is not possible"),
        (DVMEClassifier(blocks=()), r"blocks \(\) are not possible"),
        (DVMEClassifier(attention="all"), "attention 'all' is not known; choose from values, tokens, none"),  # type: ignore[arg-type]
        (LinearProbe(validation_fraction=1.0), "validation_fraction 1.0 is not possible"),
        (LinearProbe(strengths=(0.0,)), "strengths 0.0 is not possible"),
        (LinearProbe(strengths=()), r"strengths \(\) are not possible"),
        (ConcatProbe(strengths=("a",)), "strengths 'a' is not possible"),  # type: ignore[arg-type]
        (MeanLogitsEnsemble(strengths=(np.inf,)), "strengths inf is not possible"),
        (KNNProbe(neighbours=(0,)), "neighbours 0 is not possible"),
        (KNNProbe(neighbours=None), "neighbours None are not possible; name one or several"),  # type: ignore[arg-type]
        (KNNProbe(neighbours=(2.5,)), "neighbours 2.5 is not possible"),  # type: ignore[arg-type]
        (MLPFusion(batch_size="64"), "batch_size '64' is not possible"),  # type: ignore[arg-type]
        (MLPFusion(plateau_factor=1.0), "plateau_factor 1.0 is not possible"),
        (MLPFusion(blocks=5), r"blocks \(5,\) sum to 5 columns but X has 10"),  # type: ignore[arg-type]
        (LinearProbe(validation_fraction="a"), "validation_fraction 'a' is not possible"),  # type: ignore[arg-type]
        (MLPFusion(max_epochs=0), "max_epochs 0 is not possible"),
        (MLPFusion(sampling="all"), "sampling 'all' is not known"),  # type: ignore[arg-type]
    ],
)
def test_fit__impossible_settings_in_one_line(estimator: HeadClassifier, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        estimator.fit(*_task())
    assert "\n" not in str(caught.value)


def test_fit_and_predict__unusable_data_in_one_line() -> None:
    X, y = _task()
    broken = X.copy()
    broken[3, 1], broken[5, 2], broken[7, 4] = np.nan, np.inf, 1e200
    fitted = LinearProbe().fit(X, y)
    for call in (lambda: LinearProbe().fit(broken, y), lambda: fitted.predict(broken)):
        with pytest.raises(ValueError, match=r"^X has NaN, infinite values \(inf\) or .* in 3 of 90 rows; leave"):
            call()
    with pytest.raises(ValueError, match=r"^y has 1 class, 'cat'; a classifier needs 2 or more$"):
        LinearProbe().fit(X, np.full(90, "cat"))
    with pytest.raises(ValueError, match="X has 9 features, but LinearProbe is expecting 10"):
        fitted.predict(X[:, :9])


def test_import__does_not_import_torch() -> None:
    code = "import sys, dvme.estimators as e; e.DVMEClassifier().get_params(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fit_and_predict__rows_that_cannot_be_written_to_do_not_warn() -> None:
    X, y = _task()
    X = X.astype(np.float32)
    X.flags.writeable = False
    torch.set_warn_always(True)  # else only the first time in a process
    try:
        LinearAdamProbe(**QUICK).fit(X, y).predict(X)
    finally:
        torch.set_warn_always(False)


def _patients(n_patients: int = 24, n_each: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings that show the patient more than the class."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), n_each)
    labels = (np.arange(n_patients) % 2)[groups]
    X = rng.normal(size=(n_patients, 8))[groups] * 1.5 + 0.3 * rng.normal(size=(len(groups), 8))
    X[:, 0] += 1.6 * (2 * labels - 1)
    return X, labels, groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["equal", "lognormal", "mixed classes", "one huge"])
def test_split_validation__no_unit_is_on_both_sides_and_no_class_is_lost(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"lognormal": rng.lognormal(1.5, 1.0, 30).astype(int) + 1, "one huge": np.array([200] + [4] * 29)}
    units = np.repeat(np.arange(30), sizes.get(kind, np.full(30, 6)))
    labels = rng.integers(0, 3, len(units)) if kind == "mixed classes" else (np.arange(30) % 3)[units]
    train, validation = split_validation(labels, 0.2, seed, units)
    assert sorted([*train, *validation]) == list(range(len(units)))
    assert not np.intersect1d(units[train], units[validation]).size
    assert set(labels[train]) == set(labels[validation]) == {0, 1, 2}
    assert kind == "one huge" or 0.1 < len(validation) / len(units) < 0.35


def test_split_validation__a_class_of_one_group_stays_with_the_learner() -> None:
    units = np.repeat(np.arange(11), 4)
    labels = np.r_[np.repeat(np.arange(10) % 2, 4), [2] * 4]
    for seed in range(10):
        train, validation = split_validation(labels, 0.2, seed, units)
        assert set(labels[train]) == {0, 1, 2}
        assert set(labels[validation]) == {0, 1}
        assert not np.intersect1d(units[train], units[validation]).size
    train, validation = split_validation(np.repeat([0, 1], 10), 0.2, 0, np.repeat([0, 1], 10))
    assert (len(train), len(validation)) == (20, 0)  # a group for each class: nothing is chosen


@pytest.mark.parametrize("kind", ["numbers", "strings", "series", "floats"])
def test_fit__groups_of_every_kind(kind: str) -> None:
    X, y, numbers = _patients()
    groups: Any = {
        "numbers": numbers,
        "strings": np.array([f"p{number}" for number in numbers]),
        "series": pd.Series(numbers, index=numbers[::-1], dtype="category"),
        "floats": numbers.astype(float),
    }[kind]
    fitted = LinearProbe().fit(X, y, groups=groups)
    chosen_on = np.unique(numbers[fitted.validation_rows_])
    assert 2 <= len(chosen_on) < 24
    assert len(fitted.validation_rows_) == 5 * len(chosen_on)  # patients as a whole


def test_fit__missing_groups_are_groups_of_their_own() -> None:
    X, y, _ = _patients()
    expected = LinearProbe().fit(X, y)
    for missing in (None, np.nan, ""):
        groups = np.array([missing] * len(y), dtype=object)
        np.testing.assert_array_equal(LinearProbe().fit(X, y, groups).validation_rows_, expected.validation_rows_)


def test_groups_and_weights__are_routed_by_scikit_learns_tools() -> None:
    X, y, groups = _patients()
    weights = np.where(np.arange(len(y)) % 7 == 0, 0.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        probe = LinearProbe(strengths=(1e-4, 1e-1)).set_fit_request(groups=True, sample_weight=True)
        probe.set_score_request(sample_weight=True)
        params = {"groups": groups, "sample_weight": weights}
        folds = cross_validate(probe, X, y, cv=GroupKFold(3), params=params, return_estimator=True, return_indices=True)
        for fitted, rows in zip(folds["estimator"], folds["indices"]["train"], strict=True):
            validation = rows[fitted.validation_rows_]
            learned = np.setdiff1d(rows[weights[rows] > 0], validation)
            assert len(validation)
            assert not np.intersect1d(groups[validation], groups[learned]).size
            assert (weights[validation] > 0).all()
        piped = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), probe)
        grid = GridSearchCV(piped, {"linearprobe__validation_fraction": [0.2, 0.4]}, cv=GroupKFold(3))
        best = grid.fit(X, y, **params).best_estimator_[-1]
        assert 0 < len(best.validation_rows_) < len(y)
        for patient in np.unique(groups[best.validation_rows_]):
            assert set(np.flatnonzero((groups == patient) & (weights > 0))) <= set(best.validation_rows_)
        given = {"params": {"groups": groups}, "cv": GroupKFold(3)}
        asked = cross_val_score(KNNProbe().set_fit_request(groups=True), X, y, **given)
        assert np.isfinite(asked).all()


@pytest.mark.parametrize("estimator", EVERY, ids=_name)
def test_fit__a_row_of_weight_0_is_as_if_it_were_not_there(estimator: HeadClassifier) -> None:
    X, y = _task()
    weights = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    spoiled, wrong = X.copy(), y.copy()
    spoiled[weights == 0] = 1e6
    wrong[weights == 0] = 2
    with_zeros = clone(estimator).fit(spoiled, wrong, sample_weight=weights)
    without = clone(estimator).fit(X[weights > 0], y[weights > 0], sample_weight=weights[weights > 0])
    np.testing.assert_array_equal(with_zeros.predict_proba(X), without.predict_proba(X))
    np.testing.assert_array_equal(with_zeros.validation_rows_, np.flatnonzero(weights)[without.validation_rows_])


@pytest.mark.parametrize("estimator", EVERY, ids=_name)
def test_fit__weights_decide_whom_the_head_believes(estimator: HeadClassifier) -> None:
    X, _ = _task(n_rows=120)
    y = np.arange(120) % 2
    told = np.where(X[:, 0] > np.median(X[:, 0]), 1, 0)
    X, y = np.r_[X, X], np.r_[told, 1 - told]  # every row once with each label
    weights = np.r_[np.full(120, 1.9), np.full(120, 0.1)]
    if isinstance(estimator, LinearAdamProbe):
        estimator = clone(estimator).set_params(max_epochs=30)
    for own, expected in ((weights, told), (weights[::-1].copy(), 1 - told)):
        fitted = clone(estimator).fit(X, y, sample_weight=own)
        assert (fitted.predict(X[:120]) == expected).mean() > 0.8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sample_weight": np.full(90, -1.0)}, "Negative values in data passed to `sample_weight`"),
        ({"sample_weight": np.zeros(90)}, "at least one non-zero number|sample_weight is 0 for all 90 rows"),
        ({"sample_weight": np.full(90, np.nan)}, "sample_weight contains NaN"),
        ({"sample_weight": np.ones(80)}, r"sample_weight.shape == \(80,\), expected \(90,\)"),
        ({"groups": np.arange(80)}, r"groups have shape \(80,\) but X has 90 rows; pass one group for each row"),
    ],
)
def test_fit__impossible_groups_and_weights(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearProbe().fit(*_task(), **given)


def test_knn_probe__weights_are_repeated_rows() -> None:
    X, y = _task()
    weights = np.random.default_rng(2).integers(0, 4, len(y))
    own = {"neighbours": (7,), "validation_fraction": 0}
    weighted = KNNProbe(**own).fit(X, y, sample_weight=weights)
    repeated = KNNProbe(**own).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)  # float32 similarities


@pytest.mark.parametrize("name", ["LinearProbe", "KNNProbe", "LinearAdamProbe"])
@pytest.mark.parametrize("seed", [-1, 2**32, True, "3", 1.5])
def test_fit__a_random_state_that_is_no_seed(name: str, seed: Any) -> None:
    unit, labels = np.tile(np.eye(12, dtype=np.float32), (2, 1)), np.arange(24) % 2
    with pytest.raises(OptionError, match=f"random_state {re.escape(repr(seed))} is not possible; pass a whole"):
        getattr(dvme, name)(random_state=seed).fit(unit, labels)


def _several(n_rows: int = 80, unknown: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 6))
    y = (X @ rng.normal(size=(6, 3)) + rng.normal(size=(n_rows, 3)) > [0.0, 1.0, -1.0]).astype(float)
    y[rng.random(y.shape) < unknown] = np.nan
    return X, y


STRENGTH = 1e-2


def _peer(X: np.ndarray, y: np.ndarray, weights: np.ndarray, class_weight: Any = None) -> LogisticRegression:
    """scikit-learn with the penalty of a relative strength: of the spread of rows by their weights."""
    mean = weights @ X / weights.sum()
    scale = float(weights @ np.square(X - mean).sum(axis=1))
    return LogisticRegression(C=1 / (STRENGTH * scale), solver="newton-cholesky", tol=1e-12, class_weight=class_weight)


def _objectives(
    probe: LinearProbe, label: int, X: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """Of the probe's label and of scikit-learn's own, at the same penalty and weights."""
    peer = _peer(X, y, weights).fit(X, y, sample_weight=weights)

    def value(w: np.ndarray, b: float) -> float:
        z = X @ w + b
        return float(weights @ np.logaddexp(0.0, np.where(y == 1.0, -z, z)) + w @ w / (2.0 * peer.C))

    assert isinstance(probe.head_, FittedLinear)
    own = value(probe.head_.weights[:, label], float(probe.head_.intercepts[label]))
    return own, value(peer.coef_[0], float(peer.intercept_[0]))


@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize("class_weight", [None, "balanced", [{0: 1, 1: 5}, {0: 2}, {1: 0.5}]])
def test_linear_probe__of_several_labels_is_a_logistic_regression_for_each(unknown: float, class_weight: Any) -> None:
    X, y = _several(unknown=unknown)
    sample_weight = np.random.default_rng(1).integers(1, 4, len(X)).astype(float)
    probe = LinearProbe(strengths=[STRENGTH], validation_fraction=0, class_weight=class_weight)
    probe.fit(X, y, sample_weight=sample_weight)
    for label in range(3):
        known = ~np.isnan(y[:, label])
        own = class_weight[label] if isinstance(class_weight, list) else class_weight
        truth, weights = y[known, label], sample_weight[known]
        if own is not None:
            given = compute_class_weight(own, classes=np.array([0.0, 1.0]), y=truth, sample_weight=weights)
            weights = weights * given[truth.astype(int)]
        found, expected = _objectives(probe, label, X[known], truth, weights)
        assert found == pytest.approx(expected, abs=1e-6)
    assert probe.classes_.tolist() == [0, 1, 2]
    p = probe.predict_proba(X)
    np.testing.assert_allclose(p, 1.0 / (1.0 + np.exp(-probe.decision_function(X))))
    np.testing.assert_array_equal(probe.predict(X), p > 0.5)


@pytest.mark.parametrize("kind", [LinearProbe, ConcatProbe, MeanLogitsEnsemble])
@pytest.mark.parametrize("class_weight", ["balanced", {"a": 3.0, "c": 0.5}])
def test_class_weight__is_a_sample_weight_of_the_class(kind: Any, class_weight: Any) -> None:
    X, labels = _task()
    y = np.array(["a", "b", "c"])[np.where(labels == 2, 2, labels // 2)]
    weighted = kind(class_weight=class_weight, validation_fraction=0).fit(X, y)
    own = compute_sample_weight(class_weight, y)
    plain = kind(validation_fraction=0).fit(X, y, sample_weight=own)
    np.testing.assert_allclose(weighted.predict_proba(X), plain.predict_proba(X), atol=1e-9)
    assert not np.allclose(weighted.predict_proba(X), kind(validation_fraction=0).fit(X, y).predict_proba(X), atol=1e-3)


def test_class_weight__balanced_as_scikit_learn_does() -> None:
    X, labels = _task(n_classes=2)
    y = np.where(np.arange(90) < 60, 0, labels)
    weights = compute_sample_weight("balanced", y)
    probe = LinearProbe(strengths=[STRENGTH], validation_fraction=0, class_weight="balanced").fit(X, y)
    peer = _peer(X, y, weights, "balanced").fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(X), peer.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("estimator", EVERY, ids=_name)
def test_fit__several_labels_by_every_head(estimator: HeadClassifier) -> None:
    """Of known cells; a label that nobody has is there and is 0."""
    X, y = _several(unknown=0.2)
    y = np.column_stack([y, np.where(np.isnan(y[:, 0]), np.nan, 0.0)])
    fitted = clone(estimator).fit(X, y)
    p = fitted.predict_proba(X)
    assert p.shape == y.shape
    np.testing.assert_array_equal(fitted.predict(X), (p > 0.5).astype(y.dtype))
    if not isinstance(estimator, LinearAdamProbe):  # four epochs are too few to tell
        assert (fitted.predict(X)[:, 3] == 0.0).all()
    rows = fitted.validation_rows_
    assert 8 <= len(rows) <= 24
    groups = np.arange(len(X)) // 4
    own = clone(estimator).fit(X, y, groups=groups).validation_rows_
    assert not set(groups[own]) & set(groups[np.setdiff1d(np.arange(len(X)), own)])


def test_fit__several_labels_in_scikit_learns_tools() -> None:
    X, y = _several()
    dense = LinearProbe(strengths=[STRENGTH]).fit(X, y.astype(int))
    sparse = LinearProbe(strengths=[STRENGTH]).fit(X, csr_matrix(y.astype(int)))
    np.testing.assert_array_equal(dense.predict_proba(X), sparse.predict_proba(X))
    assert dense.predict(X).dtype == int
    scores = cross_val_score(LinearProbe(), X, y.astype(int), scoring="roc_auc", cv=3)
    assert (scores > 0.7).all()
    assert dense.score(X, y) == np.mean((dense.predict(X) == y).all(axis=1))


def test_linear_probe__grades_by_cumulative_link_and_cuts() -> None:
    X, labels = _task(n_classes=4)
    probe = LinearProbe(strengths=[STRENGTH], link="cumulative", tune="kappa").fit(X, labels * 10)
    assert probe.decision_function(X).shape == (90, 3)
    cuts = probe.chosen_["cuts"]
    taken = (probe.predict_proba(X) @ np.arange(4) > np.array(cuts)[:, None]).sum(axis=0)
    np.testing.assert_array_equal(probe.predict(X), taken * 10)
    with pytest.raises(ValueError, match="this head needs classes in order, and y has names"):
        LinearProbe(link="cumulative").fit(X, np.array(list("abcd"))[labels])


@pytest.mark.parametrize(
    ("y", "class_weight", "message"),
    [
        (np.full((80, 2), 2.0), None, "160 of 160 cells are not from 0 to 1"),
        (np.zeros((80, 2)), None, "no label of y has both 0 and 1"),
        (np.array([["a", "b"]] * 80), None, "y has several columns of <U1"),
        (np.zeros((7, 2)), None, "y has 7 rows and X has 80"),
        (_several()[1], {0: 1.0}, "a list with a dict for each label"),
        (_several()[1], [{0: 1.0}] * 2, "y has 3 labels"),
        (_several()[1] * 0.5, "balanced", "labels of 0 and 1"),
        (np.arange(80) % 2, "even", "pass 'balanced', or a weight for each class"),
        (np.arange(80) % 2, {0: -1.0}, "below 0"),
        (np.arange(80) % 2, {7: 1.0}, r"does not fit the classes \[0, 1\]"),
    ],
)
def test_fit__impossible_several_labels_and_class_weights(y: Any, class_weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearProbe(class_weight=class_weight).fit(_several()[0], y)
