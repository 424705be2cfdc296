"""Heads that learn from several views of each image: what a view counts, and that an image stays one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from dvme.heads import FUSIONS, HEADS, Embedded, Job, fit_jobs, fitted_class, get_head
from dvme.heads.exact.linear import FittedLinear
from dvme.heads.fusion import batched_training
from dvme.heads.neighbours.knn import KNN, FittedKNN
from dvme.runtime import Runtime
from dvme.vectors import unit_rows

N, K, DIMS = 60, 3, {"a": 6, "b": 5}
TRAIN, VALIDATION = np.arange(30), np.arange(30, 45)
TEST = np.arange(45, 60)
SHORT = "@max-epochs=3@min-epochs=1@batch-size=8"


def _data(n_classes: int = 3, seed: int = 0, n_views: int = K) -> Embedded:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, N)
    embeddings = {}
    for name, dim in DIMS.items():
        plain = rng.normal(size=(N, dim)) + 0.8 * np.eye(n_classes, dim)[labels]
        views = [plain + 0.7 * rng.normal(size=plain.shape) * (view > 0) for view in range(n_views)]
        embeddings[name] = np.concatenate(views).astype(np.float32)
    return Embedded(embeddings, np.concatenate([labels] * n_views), n_classes, n_views=n_views)


def _fit(head: str, data: Embedded, **job: Any) -> Any:
    backbones = tuple(DIMS) if head.partition("@")[0] in FUSIONS else ("a",)
    made = Job(get_head(head), backbones, **{"train": TRAIN, "validation": VALIDATION, **job})
    return fit_jobs([made], data, runtime=Runtime(device="cpu"))[0], backbones


def _objective(head: FittedLinear, rows: NDArray[Any], labels: NDArray[Any], c: float) -> float:
    """scikit-learn's, of weights with one vector for two classes."""
    logs = head.log_proba([rows])
    own = head.weights[:, 1] - head.weights[:, 0] if head.weights.shape[1] == 2 else head.weights
    return float(-c * logs[np.arange(len(rows)), labels].sum() + 0.5 * np.square(own).sum())


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n_train", [30, 2])  # more rows than values, and fewer
def test_linear__is_scikit_learns_on_the_stacked_rows(n_classes: int, n_train: int) -> None:
    data = _data(n_classes, seed=3)
    train = np.concatenate([np.flatnonzero(data.labels[:30] == c)[: n_train // 2] for c in range(n_classes)])
    strength = 1e-2
    head, _ = _fit(f"linear@strengths={strength}", data, train=train)
    stacked = np.concatenate([train + view * N for view in range(K)])
    rows, labels = data.embeddings["a"][stacked].astype(np.float64), data.labels[stacked]
    # One strength for any number of rows: the penalty of the mean loss, relative to the rows' mean squared distance.
    l2 = strength * np.square(rows - rows.mean(axis=0)).sum(axis=1).mean() * len(rows)
    peer = LogisticRegression(C=1 / l2, tol=1e-12, max_iter=10_000).fit(rows, labels)
    weights = peer.coef_.T if n_classes > 2 else np.stack([-peer.coef_[0] / 2, peer.coef_[0] / 2], axis=1)
    intercepts = peer.intercept_ if n_classes > 2 else np.array([-peer.intercept_[0] / 2, peer.intercept_[0] / 2])
    theirs = FittedLinear(weights, intercepts, {})
    ours, best = (_objective(each, rows, labels, 1 / l2) for each in (head, theirs))
    assert ours == pytest.approx(best, rel=1e-6)
    query = data.embeddings["a"][TEST]
    np.testing.assert_allclose(head.predict_proba([query]), peer.predict_proba(query.astype(float)), atol=1e-4)


@pytest.mark.parametrize("head", ["linear", "concat", "mean-logits", "knn"])
def test_views_that_are_all_the_plain_one_change_nothing(head: str) -> None:
    """So an image with K views counts as much as it does with one, and strengths and k mean what they meant."""
    one = _data(n_views=1)
    same = Embedded(
        {name: np.concatenate([rows] * K) for name, rows in one.embeddings.items()},
        np.concatenate([one.labels] * K),
        one.n_classes,
        n_views=K,
    )
    (alone, backbones), (several, _) = (_fit(head, data) for data in (one, same))
    assert alone.chosen == several.chosen
    query = one.blocks(backbones, TEST)
    np.testing.assert_allclose(alone.predict_proba(query), several.predict_proba(query), atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_learns_from_the_views_of_its_training_images_and_of_no_other(name: str) -> None:
    head = name if name in {"linear", "knn", "concat", "mean-logits"} else name + SHORT
    data = _data()
    spoiled = {key: rows.copy() for key, rows in data.embeddings.items()}
    for rows in spoiled.values():
        others = np.setdiff1d(np.arange(N), TRAIN)
        for view in range(1, K):
            rows[others + view * N] = np.nan
    same = Embedded(spoiled, data.labels, data.n_classes, n_views=K)
    (fitted, backbones), (again, _) = (_fit(head, each) for each in (data, same))
    query = data.blocks(backbones, TEST)
    np.testing.assert_array_equal(fitted.predict_proba(query), again.predict_proba(query))
    plain = Embedded({key: rows[:N] for key, rows in data.embeddings.items()}, data.labels[:N], data.n_classes)
    without, _ = _fit(head, plain)
    assert np.abs(without.predict_proba(query) - fitted.predict_proba(query)).max() > 1e-3
    restored = fitted_class(name).restored(fitted.settings(), fitted.arrays())
    np.testing.assert_allclose(restored.predict_proba(query), fitted.predict_proba(query), atol=1e-7)


def test_knn__k_counts_images() -> None:
    data = _data()
    fitted, _ = _fit("knn@neighbours=5", data)
    assert isinstance(fitted, FittedKNN)
    query, bank = unit_rows(data.embeddings["a"][TEST]), unit_rows(data.embeddings["a"])
    for row, found in zip(query.astype(float), fitted.predict_proba([data.embeddings["a"][TEST]]), strict=True):
        nearest = np.max([bank[TRAIN + view * N] @ row for view in range(K)], axis=0)
        order = np.argsort(-nearest)[:5]
        votes = np.exp(nearest[order] / 0.07)
        expected = [votes[data.labels[TRAIN[order]] == c].sum() / votes.sum() for c in range(3)]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_knn__no_k_above_the_number_of_images() -> None:
    data = _data()
    fitted, _ = _fit("knn@neighbours=200", data)
    assert fitted.chosen["k"] == len(TRAIN)
    assert KNN().neighbours[-1] > len(TRAIN)


def test_networks__an_epoch_sees_one_view_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[NDArray[Any]] = []
    original = batched_training._Clock._draw_epoch

    def watched(clock: Any) -> None:
        original(clock)
        weights = clock.weights.numpy() > 0
        epochs.append(clock.rows.numpy()[weights])

    monkeypatch.setattr(batched_training._Clock, "_draw_epoch", watched)
    _fit("linear-adam@max-epochs=40@min-epochs=40@batch-size=8@sampling=shuffled", _data())
    assert len(epochs) == 40
    for rows in epochs:
        assert sorted((rows % N).tolist()) == TRAIN.tolist()
    shares = np.bincount(np.concatenate(epochs) // N, minlength=K) / (40 * len(TRAIN))
    assert np.abs(shares - 1 / K).max() < 0.05  # 3.7 standard errors


def test_networks__views_are_drawn_by_the_job_alone() -> None:
    data = _data()
    jobs = [Job(get_head("linear-adam" + SHORT), ("a",), TRAIN[:n], VALIDATION, seed=1) for n in (30, 11)]
    together = fit_jobs(jobs, data, runtime=Runtime(device="cpu"))
    alone = [fit_jobs([job], data, runtime=Runtime(device="cpu"))[0] for job in jobs]
    for one, other in zip(together, alone, strict=True):
        query = [data.embeddings["a"][TEST]]
        np.testing.assert_allclose(one.predict_proba(query), other.predict_proba(query), atol=1e-5)
