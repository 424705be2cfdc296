from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from own_head import Centroids

from dvme.study.division import bundles, cost, of_part
from dvme.study.fitting import Assignment
from dvme.study.methods import make_methods
from dvme_cache.parts import Part

DIMS = {"a": 2048, "b": 2048, "c": 1536}
HEADS = ["linear", "knn", "dvme", "dvme-noattn", "mlp", "concat", "mean-logits", "linear@strengths=0.1", Centroids()]


def _assignments(n_draws: int = 5, sizes: tuple[int, ...] = (50, 100, 200, 500, 3000)) -> list[Assignment]:
    methods = make_methods(HEADS, list(DIMS), with_controls=False)
    rows = np.arange(4000)
    return [
        Assignment(method, rows[:size], rows[-size // 4 :], draw)
        for method in methods
        for size in sizes
        for draw in range(n_draws)
    ]


def test_bundles__what_shares_work_stays_together() -> None:
    assignments = _assignments()
    found = bundles(assignments, DIMS, 5)
    assert sorted(position for own in found for position in own) == list(range(len(assignments)))
    for own in found:
        names = {assignments[position].method.name for position in own}
        assert len({assignments[position].seed for position in own}) == 1
        if names & {"dvme", "dvme-noattn", "mlp"}:
            assert len(own) == 1
        elif "linear" in names:  # with the ensemble of it
            assert (names, len(own)) == ({"linear", "mean-logits"}, 4 * 5)
        else:
            assert (len(names), len(own)) == (1, 5)
    assert len(found) == 3 * 25 + 5 + (3 + 3 + 3 + 1) * 5
    costs = [cost([assignments[position] for position in own], DIMS, 5) for own in found]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("n_parts", [1, 2, 4, 16])
def test_of_part__every_job_is_of_one_part_and_parts_are_alike(n_parts: int) -> None:
    assignments = _assignments()
    parts = [of_part(assignments, DIMS, 5, Part(k, n_parts)) for k in range(1, n_parts + 1)]
    assert set.union(*parts) == set(range(len(assignments)))
    assert not any(one & other for one, other in combinations(parts, 2))
    found = bundles(assignments, DIMS, 5)
    costs = [cost([assignments[position] for position in own], DIMS, 5) for own in found]
    loads = [sum(each for each, own in zip(costs, found, strict=True) if own[0] in part) for part in parts]
    assert sum(loads) == pytest.approx(sum(costs))
    assert max(loads) <= 1.2 * sum(costs) / n_parts


def test_of_part__more_parts_than_jobs_leaves_some_without() -> None:
    assignments = _assignments(1, (50,))[:2]
    parts = [of_part(assignments, DIMS, 5, Part(k, 9)) for k in range(1, 10)]
    assert sorted(len(own) for own in parts) == [0] * 7 + [1, 1]


def test_cost__is_larger_for_more_rows_values_and_parameters() -> None:
    assignments = _assignments(1)
    for each in assignments:
        fewer = replace(each, train=each.train[: len(each.train) // 2])
        assert cost([fewer], DIMS, 5) < cost([each], DIMS, 5)
        assert cost([each], dict.fromkeys(DIMS, 16), 5) < cost([each], DIMS, 5)
    full = {each.method.title: cost([each], DIMS, 5) for each in assignments if len(each.train) == 3000}
    assert max(full, key=lambda title: full[title]) == "dvme of 3 backbones"


def test_cost__of_an_ensemble_beside_its_members_is_theirs() -> None:
    own = [each for each in _assignments(1, (100,)) if each.method.name in {"linear", "mean-logits"}]
    singles = [each for each in own if each.method.name == "linear"]
    assert cost(own, DIMS, 5) == pytest.approx(sum(cost([each], DIMS, 5) for each in singles))
