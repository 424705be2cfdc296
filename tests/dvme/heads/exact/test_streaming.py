from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from dvme.errors import DataError, OptionError
from dvme.heads.exact.footprint import Footprint
from dvme.heads.exact.linear import KAPPA, Linear
from dvme.heads.exact.streamed_rows import StreamedRows, even_shares
from dvme.heads.exact.streaming import StreamPlan
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job, fit_jobs
from dvme.heads.fitting.row_blocks import RowsOf
from dvme.runtime import Progress, Runtime, silent

N, D = 3000, 12


def _task(n_classes: int, seed: int = 0) -> tuple[NDArray[np.float16], NDArray[np.int64], Job]:
    """Overlapping classes far from the origin, one of them rare; most rows train."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, N, p=[0.05, *[0.95 / (n_classes - 1)] * (n_classes - 1)])
    features = rng.normal(size=(N, D)) / np.sqrt(1 + np.arange(D)) + 0.4 * rng.normal(size=(n_classes, D))[labels] + 5
    order = rng.permutation(N)
    return features.astype(np.float16), labels, Job(Linear(), ("a",), order[:2400], order[2400:])


def _fit(job: Job, data: Embedded, *, is_streamed: bool, progress: Progress = silent) -> FittedHead:
    rows = len(job.train) * data.n_views
    runtime = Runtime(memory=Footprint(D, data.n_classes)(rows, 1) - 1 if is_streamed else None)
    (head,) = fit_jobs([job], data, runtime=runtime, progress=progress)
    assert ("streamed" in head.chosen) == is_streamed
    return head


def _both(job: Job, data: Embedded) -> tuple[FittedHead, FittedHead]:
    """In memory, and streamed; what they chose is the same."""
    held, streamed = _fit(job, data, is_streamed=False), _fit(job, data, is_streamed=True)
    chosen = {name: value for name, value in streamed.chosen.items() if name != "streamed"}
    assert chosen == dict(held.chosen)
    assert chosen["is_converged"]
    return held, streamed


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("strength", [1e-6, 1e-3, 1e-1])
def test_streamed__is_the_optimum_of_scikit_learn_and_of_memory(n_classes: int, strength: float) -> None:
    features, labels, job = _task(n_classes)
    job = replace(job, head=Linear((strength,)))
    held, streamed = _both(job, Embedded({"a": features}, labels, n_classes))
    rows = features[job.train].astype(np.float64)
    scale = np.square(rows - rows.mean(0)).sum()
    peer = LogisticRegression(C=1 / (strength * scale), max_iter=10000, tol=1e-10, solver="newton-cg")
    peer.fit(rows, labels[job.train])
    ours = streamed.predict_proba([features])
    np.testing.assert_allclose(ours, peer.predict_proba(features.astype(np.float64)), atol=2e-6)
    np.testing.assert_allclose(ours, held.predict_proba([features]), atol=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_streamed__validation_chooses_the_same_strength(n_classes: int) -> None:
    features, labels, job = _task(n_classes, 1)
    held, streamed = _both(job, Embedded({"a": features}, labels, n_classes))
    np.testing.assert_allclose(streamed.predict_proba([features]), held.predict_proba([features]), atol=1e-7)
    held, streamed = _both(replace(job, validation=job.validation[:0]), Embedded({"a": features}, labels, n_classes))
    np.testing.assert_allclose(streamed.arrays()["weights"], held.arrays()["weights"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rare", [0, 1])
def test_streamed__a_class_without_a_row_and_one_of_a_single_row(rare: int) -> None:
    features, labels, job = _task(3, 2)
    train, of_two = job.train, np.flatnonzero(labels[job.train] == 2)
    job = replace(job, train=np.delete(train, of_two[rare:]))
    held, streamed = _both(job, Embedded({"a": features}, labels, 3))
    np.testing.assert_allclose(streamed.predict_proba([features]), held.predict_proba([features]), atol=1e-7)
    assert (streamed.predict_proba([features])[:, 2] == 0.0).all() == (rare == 0)


def test_streamed__one_class_only() -> None:
    features, labels, job = _task(3, 3)
    job = replace(job, train=job.train[labels[job.train] == 1])
    head = _fit(job, Embedded({"a": features}, labels, 3), is_streamed=True)
    assert (head.predict_proba([features]) == [0.0, 1.0, 0.0]).all()


def test_streamed__weights_count_rows() -> None:
    features, labels, job = _task(2, 4)
    weights = np.random.default_rng(0).integers(1, 4, N).astype(np.float64)
    held, streamed = _both(job, Embedded({"a": features}, labels, 2, weights=weights))
    np.testing.assert_allclose(streamed.predict_proba([features]), held.predict_proba([features]), atol=1e-7)


def test_streamed__views_are_rows() -> None:
    features, labels, job = _task(2, 5)
    data = Embedded({"a": np.concatenate([features, features[::-1]])}, np.concatenate([labels] * 2), 2, n_views=2)
    held, streamed = _both(job, data)
    np.testing.assert_allclose(streamed.predict_proba([features]), held.predict_proba([features]), atol=1e-7)


def test_streamed__cuts_of_grades_are_the_same() -> None:
    features, labels, job = _task(3, 6)
    job, data = replace(job, head=Linear((1e-3,), tune=KAPPA)), Embedded({"a": features}, labels, 3)
    held, streamed = (_fit(job, data, is_streamed=is_streamed) for is_streamed in (False, True))
    np.testing.assert_allclose(streamed.chosen["cuts"], held.chosen["cuts"], rtol=1e-6)


def test_streamed__of_a_file_and_of_rows_that_are_read_when_asked(tmp_path: Path) -> None:
    features, labels, job = _task(2, 7)
    np.save(tmp_path / "rows.npy", features)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    order = np.random.default_rng(0).permutation(N)
    held = _fit(job, Embedded({"a": features}, labels, 2), is_streamed=False)
    for own in (mapped, RowsOf(mapped[order], np.argsort(order))):
        streamed = _fit(job, Embedded({"a": own}, labels, 2), is_streamed=True)
        blocks: list[Any] = [own]
        np.testing.assert_allclose(streamed.predict_proba(blocks), held.predict_proba([features]), atol=1e-7)


def test_streamed__progress_tells_passes_and_what_each_reads() -> None:
    features, labels, job = _task(2, 8)
    told: list[tuple[str, int, int]] = []
    head = _fit(job, Embedded({"a": features}, labels, 2), is_streamed=True, progress=lambda *own: told.append(own))
    passes = [own for own in told if own[0] != "fit"]
    took = head.chosen["streamed"]
    assert {stage for stage, _, _ in passes} == {"stream 2,400 rows, 5.8e-05 GB a pass"}
    assert took["n_bytes"] == 2400 * D * 2
    assert [done for _, done, _ in passes] == [*range(took["n_passes"] + 1), took["n_passes"]]
    assert all(done < total for _, done, total in passes[:-1])
    assert passes[-1][1] == passes[-1][2]


def test_streamed__rows_that_are_not_finite_are_refused() -> None:
    features, labels, job = _task(2, 9)
    features[job.train[7], 3] = np.inf
    with pytest.raises(DataError, match=r"^1 of 3000 rows of a are not finite"):
        _fit(job, Embedded({"a": features}, labels, 2), is_streamed=True)


def test_streamed__too_little_memory_names_what_would_fit() -> None:
    features, labels, job = _task(2, 10)
    data, footprint = Embedded({"a": features}, labels, 2), Footprint(D, 2)
    with pytest.raises(OptionError) as caught:
        fit_jobs([job], data, runtime=Runtime(memory=50_000))
    said = str(caught.value)
    assert said.startswith(
        f"a linear fit of 2,400 rows of 12 values in 2 classes needs {footprint(2400, 1):,} bytes, or "
    )
    assert "\n" not in said
    needed = int(said.split(" bytes, or ")[1].split(maxsplit=1)[0].replace(",", ""))
    assert f"{needed:,} where its rows are streamed, and may hold 50,000; pass memory, 0.01 GiB more" in said
    assert fit_jobs([job], data, runtime=Runtime(memory=2 * needed))[0].chosen["is_converged"]


def test_plan__fits_the_memory_and_grows_with_rows_by_what_is_kept_of_each() -> None:
    footprint, budget = Footprint(256, 2), 2 << 30
    for n_rows in (200_000, 1_000_000, 10_000_000):
        plan = StreamPlan.of(footprint, n_rows, 11, budget)
        assert plan is not None
        assert plan.n_bytes(footprint, n_rows, 11) <= budget
        assert plan.n_sample >= 20 * 256
    assert StreamPlan.of(footprint, 20_000, 11, budget) is None
    small, large = (StreamPlan(5120, 2048).n_bytes(footprint, n_rows, 11) for n_rows in (10**6, 10**7))
    assert large - small < 0.1 * 9 * 10**6 * 256 * 8


def test_even_shares__of_hand() -> None:
    assert even_shares([5, 100, 100], 65) == [5, 30, 30]
    assert even_shares([1, 2, 3], 100) == [1, 2, 3]
    assert even_shares([1000, 1000], 1) == [1, 1]


def test_sample__stands_for_all_rows() -> None:
    features, labels, job = _task(3, 11)
    streamed = StreamedRows(Embedded({"a": features}, labels, 3), job, 1000)
    sample, drawn = streamed.sample(600), streamed.surprising(600, np.linspace(0.0, 1.0, 2400))
    counts = np.bincount(labels[job.train], minlength=3)
    np.testing.assert_allclose((sample.targets * sample.weights)[0].sum(1), counts)
    np.testing.assert_array_equal(sample.targets[0].sum(1), even_shares(counts.tolist(), 600))
    np.testing.assert_allclose((drawn.targets * drawn.weights)[0].sum(1), counts, rtol=0.25)
    mean, spread = streamed.moments
    rows = features[job.train].astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(0))
    assert float(spread) == pytest.approx(np.square(rows - rows.mean(0)).sum())
    known = {row.tobytes() for row in np.round(rows - rows.mean(0), 6)}
    assert {row.tobytes() for row in np.round(sample.matrix.numpy(), 6)} <= known
