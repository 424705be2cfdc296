from __future__ import annotations

import numpy as np
import pytest

from dvme.data.targets import Targets
from dvme.study.design.duplicates import across_splits, describe, listed, without_duplicates
from dvme.study.design.inspection import Similar
from dvme.study.design.manifest import FoldDraw, SubsetManifest
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
