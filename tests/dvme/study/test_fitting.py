from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from own_head import Centroids
from sklearn.neighbors import NearestCentroid

import dvme
from dvme.data.targets import Targets
from dvme.errors import OptionError
from dvme.heads.exact.linear import Linear
from dvme.heads.neighbours.knn import KNN
from dvme.runtime import Progress, Runtime, silent
from dvme.study.design.options import SubsetOptions
from dvme.study.design.snapshot import Snapshot
from dvme.study.fitting import Assignment, fit_assignments, portions
from dvme.study.methods import Method
from dvme_cache import EmbeddingCache

THREE = Targets(("a", "b", "c"), np.zeros(0, dtype=np.int64))
TRAIN, VALIDATION, TEST = np.arange(60), np.arange(60, 90), np.arange(90, 150)


@pytest.fixture
def shown() -> list[tuple[Any, Any, int]]:
    """(jobs, data, bytes) of every fit from now on."""
    Centroids.shown.clear()
    return Centroids.shown


@pytest.fixture
def snapshot(cache: Path) -> Snapshot:
    return Snapshot.take(EmbeddingCache.open(cache), ["a", "b"])


def _assignments(n_draws: int = 2, **settings: Any) -> list[Assignment]:
    alone, fused = Centroids(**settings), Centroids(is_fusion=True, **settings)
    methods = [Method("own", alone, ("a",)), Method("own", alone, ("b",)), Method("own", fused, ("a", "b"))]
    return [Assignment(method, np.roll(TRAIN, n), VALIDATION, n) for method in methods for n in range(n_draws)]


def _fitted(assignments: list[Assignment], snapshot: Snapshot, memory: int) -> list[Any]:
    runtime = Runtime(device="cpu", memory=memory)
    given = assignments, snapshot, snapshot.targets(), TEST
    return list(fit_assignments(*given, runtime=runtime, budget=memory, progress=silent))


def test_fit_assignments__no_head_is_shown_a_test_label(snapshot: Snapshot, shown: list[Any], labels: Any) -> None:
    _fitted(_assignments(), snapshot, 2**30)
    for _, data, _ in shown:
        assert data.labels[TEST].tolist() == [-1] * len(TEST)
        np.testing.assert_array_equal(data.labels[:90], labels[:90])
    assert snapshot.targets().values.tolist() == labels.tolist()


def test_fit_assignments__predictions_are_of_the_assignment_and_its_images(
    snapshot: Snapshot, features: dict[str, NDArray[Any]], labels: Any
) -> None:
    """As scikit-learn has the nearest mean, for each method on its own rows."""
    assignments = [
        Assignment(each.method, TRAIN[n : n + 30], VALIDATION[n : n + 5], n) for n, each in enumerate(_assignments())
    ]
    fitted = _fitted(assignments, snapshot, 2**30)
    assert sorted(one.position for one in fitted) == list(range(6))
    for one in fitted:
        given = assignments[one.position]
        rows = np.concatenate([features[name] for name in given.method.backbones], axis=1)
        peer = NearestCentroid().fit(rows[given.train], labels[given.train])
        for logs, images in ((one.log_test, TEST), (one.log_validation, given.validation)):
            assert logs.dtype == np.float32
            assert logs.argmax(axis=1).tolist() == peer.predict(rows[images]).tolist()


def test_fit_assignments__embeddings_are_read_together_or_set_by_set(snapshot: Snapshot, shown: list[Any]) -> None:
    """With the same results; what is left of the memory beside them and their copy is for the heads."""
    sizes = {"a": 150 * 8 * 4, "b": 150 * 10 * 4}
    n_bytes = sum(sizes.values())

    def fitted_within(memory: int) -> tuple[list[tuple[list[str], int, int]], dict[int, Any]]:
        shown.clear()
        found = {one.position: one.log_test for one in _fitted(_assignments(), snapshot, memory)}
        return [(sorted(data.embeddings), len(jobs), budget) for jobs, data, budget in shown], found

    ample, expected = fitted_within(3 * n_bytes)
    assert ample == [(["a", "b"], 6, n_bytes)]
    short, found = fitted_within(3 * n_bytes - 1)
    left = [3 * n_bytes - 1 - 2 * own for own in (sizes["a"], sizes["b"], n_bytes)]
    assert short == [(["a"], 2, left[0]), (["b"], 2, left[1]), (["a", "b"], 2, left[2])]
    for position, logs in expected.items():
        np.testing.assert_array_equal(found[position], logs)


def test_fit_assignments__tells_how_many_of_all_are_done(snapshot: Snapshot) -> None:
    told: list[tuple[str, int, int]] = []
    short = Runtime(device="cpu", memory=20_000)
    given = _assignments(), snapshot, snapshot.targets(), TEST
    list(fit_assignments(*given, runtime=short, budget=20_000, progress=lambda *each: told.append(each)))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert (told[-1][1:], {total for _, _, total in told}) == ((6, 6), {6})


def test_fit_assignments__nothing_to_do_reads_nothing(snapshot: Snapshot) -> None:
    keeping = snapshot.holding(2**30)
    assert _fitted([], keeping, 2**30) == []
    assert keeping._held == {}
    _fitted(_assignments(), keeping, 2**30)
    assert set(keeping._held) == {"a", "b"}


@dataclass(frozen=True)
class _Sized:
    """What a portion knows of a backbone."""

    dim: int
    dtype: str


COPIES = {"float16": 3, "float32": 2}
"""Of the embeddings, in units of their bytes: one in float32 beside them."""


def _sized(n: int, tables: Sequence[tuple[int, str]]) -> Snapshot:
    nothing = np.zeros(n)
    names = {f"m{number}": _Sized(*table) for number, table in enumerate(tables)}
    return Snapshot("c.zarr", *[nothing] * 7, (), names, {})  # type: ignore[arg-type]


def _fits(found: Any, assignments: Sequence[Assignment], snapshot: Snapshot, budget: int) -> bool:
    """Whether every portion holds its largest fit beside its embeddings."""
    for names, positions in found:
        held = sum(
            len(snapshot) * table.dim * np.dtype(table.dtype).itemsize * COPIES[table.dtype]
            for table in (snapshot.backbones[name] for name in names)
        )
        if held + max(assignments[p].method.head.needs for p in positions) > budget:
            return False
    return True


@given(
    n=st.integers(1, 50),
    tables=st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["float16", "float32"])), min_size=1, max_size=4),
    needs=st.lists(st.integers(0, 60_000), min_size=1, max_size=5),
    budget=st.integers(1, 100_000),
    more=st.integers(0, 100_000),
    seed=st.integers(0, 100),
)
def test_portions__more_memory_never_makes_a_study_impossible(
    n: int, tables: list[tuple[int, str]], needs: list[int], budget: int, more: int, seed: int
) -> None:
    snapshot, rng = _sized(n, tables), np.random.default_rng(seed)
    names = list(snapshot.backbones)
    assignments = [
        Assignment(
            Method("own", Centroids(need), tuple(rng.permutation(names)[: rng.integers(1, len(names) + 1)].tolist())),
            *(TRAIN, VALIDATION, 0),
        )
        for need in needs
    ]
    less, ample = (portions(assignments, snapshot, THREE, each) for each in (budget, budget + more))
    for found in (less, ample):
        assert sorted(p for _, positions in found for p in positions) == list(range(len(needs)))
        assert all(set(assignments[p].method.backbones) <= set(own) for own, positions in found for p in positions)
    apart = [(each.method.backbones, [p]) for p, each in enumerate(assignments)]
    if _fits(
        apart, assignments, snapshot, budget
    ):  # one after the other is possible: so is what is done, and with more
        assert _fits(less, assignments, snapshot, budget)
        assert _fits(ample, assignments, snapshot, budget + more)


def test_portions__all_together_where_a_third_of_the_memory_holds_them_and_the_rest_the_largest_fit() -> None:
    snapshot = _sized(100, [(10, "float32"), (20, "float16")])  # 4,000 bytes each, 8,000 and 12,000 with copies
    methods = [Method("own", Centroids(need), (name,)) for name, need in (("m0", 5_000), ("m1", 9_000))]
    given = [Assignment(method, TRAIN, VALIDATION, 0) for method in methods]
    apart = [(("m0",), [0]), (("m1",), [1])]
    assert portions(given, snapshot, THREE, 28_999) == apart
    assert portions(given, snapshot, THREE, 29_000) == [(("m0", "m1"), [0, 1])]
    small = [Assignment(Method("own", Centroids(0), each.method.backbones), TRAIN, VALIDATION, 0) for each in given]
    assert portions(small, snapshot, THREE, 23_999) == apart
    assert portions(small, snapshot, THREE, 24_000) == [(("m0", "m1"), [0, 1])]
    assert portions([], snapshot, THREE, 1) == []


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, write_embeddings: Callable[..., Path]) -> Path:
    """Few images of three backbones of many values each, as in pathology."""
    rng, labels = np.random.default_rng(0), np.arange(100) % 2
    features = {name: rng.normal(size=(100, 500)).astype(np.float32) for name in "abd"}
    for values in features.values():
        values[:, 0] += labels
    names = [f"c{label}" for label in labels]
    return write_embeddings(tmp_path_factory.mktemp("wide") / "c.zarr", features, label=names)


@pytest.mark.parametrize("share", [2.9, 3.0, 3.1, 3.2, 4.0, 6.0])
def test_sweep__every_memory_from_that_which_does(tmp_path: Path, wide: Path, share: float) -> None:
    """From 3 to 3.2 times the embeddings, all were held together, and nothing was left for a fit."""
    memory = int(share * 3 * 100 * 500 * 4)
    options = SubsetOptions(sizes=("20", "full"), n_folds=2)
    report = dvme.sweep(
        wide, tmp_path / "run", heads=[Linear((0.1,))], options=options, runtime=Runtime(device="cpu", memory=memory)
    )
    assert report.n_jobs == 12


def test_sweep__too_little_memory_is_told_with_what_it_takes(tmp_path: Path, wide: Path) -> None:
    with pytest.raises(OptionError, match=r"a linear fit of .+ pass memory"):
        dvme.probe(wide, heads=[Linear((0.1,))], runtime=Runtime(device="cpu", memory=500_000))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, write_embeddings: Callable[..., Path]) -> Path:
    """Many images of a few values each."""
    rng, labels = np.random.default_rng(1), np.arange(2000) % 2
    features = (rng.normal(size=(2000, 10)) + 0.5 * labels[:, None]).astype(np.float16)
    return write_embeddings(tmp_path_factory.mktemp("long") / "c.zarr", {"a": features}, label=labels.astype(str))


def test_sweep__rows_beyond_memory_are_streamed_from_the_cache_with_the_same_results(
    tmp_path: Path, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept(memory: int, folder: str, progress: Progress = silent) -> Any:
        options, runtime = SubsetOptions(n_folds=2), Runtime(device="cpu", memory=memory)
        given: dict[str, Any] = {
            "heads": [Linear(), KNN()],
            "options": options,
            "runtime": runtime,
            "progress": progress,
        }
        return dvme.sweep(long, tmp_path / folder, **given)

    told: list[tuple[str, int, int]] = []
    held = swept(1 << 30, "held")
    monkeypatch.setattr(Snapshot, "read_views", None)
    streamed = swept(400_000, "streamed", lambda *own: told.append(own))
    (line,) = [str(each) for each in streamed.notices if "memory" in each]
    assert re.fullmatch(
        r"fits that memory does not hold: \d+ of linear; their rows were read up to \d+ times, [\d.e-]+ GB in all, "
        r"to the same optimum; more memory is faster",
        line,
    )
    assert not any("memory does not hold" in each for each in held.notices)
    assert any(stage.startswith("stream ") and total < 100 for stage, _, total in told)
    for one, other in zip(held.cells, streamed.cells, strict=True):
        assert {name: score.mean for name, score in one.test.items()} == pytest.approx(
            {name: score.mean for name, score in other.test.items()}, abs=1e-5
        )
