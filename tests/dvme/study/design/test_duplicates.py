from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from dvme.data.targets import Targets
from dvme.study.design.crowds import Crowd
from dvme.study.design.duplicates import across_splits, describe, listed, without_duplicates
from dvme.study.design.inspection import Similar
from dvme.study.design.manifest import FoldDraw, SubsetManifest
from dvme.study.design.recall import Recall
from dvme.study.design.similarity import COSINE
from dvme.study.design.splits import Fold

N = 60


def _manifest(draws: tuple[FoldDraw, ...], test: list[int], n: int = N) -> SubsetManifest:
    ids = np.arange(16 * n, dtype=np.uint64).astype(np.uint8).reshape(n, 16)
    targets = Targets(("a", "b"), np.arange(n) % 2)
    return SubsetManifest(ids, targets, ("4", "full"), np.array(test), draws, {"balance": "balanced"})


def _draw(train: list[int], validation: list[int], fold: int = 1) -> FoldDraw:
    sizes = (min(4, len(train)), len(train)), (1, len(validation))
    return FoldDraw(1, fold, np.array(train), np.array(validation), *sizes)


def _similar(*pairs: tuple[int, int]) -> Similar:
    found = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Similar(found, np.full(len(pairs), 0.9995, dtype=np.float32), ("swav",) * len(pairs), ())


def test_across_splits__only_pairs_on_two_sides() -> None:
    """Test against the pool, and validation against training of the same draw."""
    draws = (_draw(list(range(20)), list(range(20, 30))), _draw(list(range(10, 30)), list(range(10)), fold=2))
    manifest = _manifest(draws, test=list(range(40, 50)))
    similar = _similar(
        (2, 41),  # trained on in fold 1, chosen on in fold 2, and tested
        (3, 45),
        (22, 44),
        (1, 12),  # trained on together in fold 1; on two sides in fold 2
        (14, 16),  # always together
        (41, 42),  # both tested
        (50, 43),  # 50 takes no part
    )
    found = [(each.one, each.other, each.side) for each in across_splits(manifest, similar)]
    assert found == [(41, 2, "test"), (45, 3, "test"), (44, 22, "test"), (1, 12, "validation")]


def test_without_duplicates__test_stays_and_training_gives_way() -> None:
    draws = (_draw(list(range(20)), list(range(20, 30))), _draw(list(range(10, 30)), list(range(10)), fold=2))
    manifest = _manifest(draws, test=list(range(40, 50)))
    similar = _similar((2, 41), (22, 44), (1, 12), (5, 6))
    asked: list[tuple[int, int]] = []

    def again(repeat: int, fold: int, rows: Fold) -> FoldDraw:
        asked.append((repeat, fold))
        return _draw(rows.train.tolist(), rows.validation.tolist(), fold)

    left = without_duplicates(manifest, similar, again)
    assert asked == [(1, 1), (1, 2)]
    assert left.test.tolist() == manifest.test.tolist()
    assert left.draws[0].train.tolist() == [i for i in range(20) if i != 2]
    assert left.draws[0].validation.tolist() == [i for i in range(20, 30) if i != 22]
    # Fold 2 chooses on 1, so it may not train on 12.
    assert left.draws[1].train.tolist() == [i for i in range(10, 30) if i not in (12, 22)]
    assert left.draws[1].validation.tolist() == [i for i in range(10) if i != 2]
    assert across_splits(left, similar) == []
    assert left.policy["drop_duplicates"] == COSINE
    assert left.hash != manifest.hash


def test_duplicates__of_a_crowd_are_left_out_as_if_all_its_pairs_were_listed() -> None:
    """Of few links it shows who has a copy on another side, once for each; across all pairs the same images do."""
    draws = (_draw(list(range(20)), list(range(20, 30))), _draw(list(range(10, 30)), list(range(10)), fold=2))
    manifest = _manifest(draws, test=list(range(40, 50)))
    rows = ([3, 5, 41, 44, 49], [12, 14, 25], [7], [42, 43], [1, 2, 52])
    crowds = tuple(Crowd(np.array(each), 0.9995, "swav") for each in rows)
    compact = replace(_similar((16, 45), (3, 41)), crowds=crowds)  # one pair in another backbone as well
    whole = _similar((16, 45), *(pair for each in rows for pair in combinations(each, 2)))

    def again(_repeat: int, fold: int, left: Fold) -> FoldDraw:
        return _draw(left.train.tolist(), left.validation.tolist(), fold)

    ours, theirs = (without_duplicates(manifest, each, again) for each in (compact, whole))
    for own, other in zip(ours.draws, theirs.draws, strict=True):
        assert own.train.tolist() == other.train.tolist() != []
        assert own.validation.tolist() == other.validation.tolist() != []
    found, every = across_splits(manifest, compact), across_splits(manifest, whole)
    pairs = {(each.one, each.other) for each in found}
    assert pairs < {(each.one, each.other) for each in every}
    assert len(pairs) == len(found)
    for side in ("test", "validation"):
        sides = [[each for each in some if each.side == side] for some in (found, every)]
        ends = [({each.one for each in some}, {each.other for each in some}) for some in sides]
        assert ends[0][0] | ends[0][1] == ends[1][0] | ends[1][1]
    assert across_splits(ours, compact) == []


def test_without_duplicates__says_where_some_may_be_missed() -> None:
    manifest = _manifest((_draw(list(range(20)), list(range(20, 30))),), test=list(range(40, 50)))
    similar = replace(_similar((2, 41)), approximate={"swav": Recall(500, 9, 9, 0.7, 60.0)})
    left = without_duplicates(manifest, similar, lambda *_: manifest.draws[0])
    assert left.policy["approximate_duplicates"] == ["swav"]
    lines = describe(across_splits(manifest, similar), np.arange(N).astype(str), [], approximate=["in part"])
    assert lines[0] == "in part"
    assert len(lines) == 2


def test_describe__names_the_nearest_and_what_to_do() -> None:
    draws = (_draw(list(range(20)), list(range(20, 30))),)
    manifest = _manifest(draws, test=list(range(40, 50)))
    pairs = np.array([[1, 41], [2, 42], [3, 43], [4, 44], [5, 25]])
    similar = Similar(pairs, np.array([0.9991, 0.9999, 0.9992, 0.9993, 1.0], np.float32), ("swav",) * 5, ())
    names = [f"{i}.png" for i in range(N)]
    found = across_splits(manifest, similar)
    assert describe(found, names, []) == [
        "4 pairs of near-duplicates between test and training images: 42.png and 2.png (0.9999 in swav), "
        "44.png and 4.png (0.9993 in swav), 43.png and 3.png (0.9992 in swav), ...; "
        "dvme subsets --drop-duplicates leaves them out",
        "1 pair of near-duplicates between validation and training images: 25.png and 5.png (1.0000 in swav); "
        "dvme subsets --drop-duplicates leaves them out",
    ]
    assert listed(found[:1], names) == [
        {"one": "41.png", "other": "1.png", "side": "test", "backbone": "swav", "cosine": pytest.approx(0.9991)}
    ]
    assert describe([], names, []) == []
    assert describe([], names, ["random", "dino"]) == [
        "near-duplicates were not looked for in random, dino: "
        "too many pairs of images have a cosine above 0.999 for them to be copies"
    ]
