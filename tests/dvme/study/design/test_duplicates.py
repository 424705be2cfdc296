from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics.pairwise import cosine_similarity

from dvme.data.targets import Targets
from dvme.study.design import duplicates
from dvme.study.design.duplicates import (
    COSINE,
    Similar,
    across_splits,
    describe,
    listed,
    similar_pairs,
    without_duplicates,
)
from dvme.study.design.manifest import Draw, SubsetManifest
from dvme.study.design.splits import Fold

N = 60


def _embeddings(seed: int = 0, n: int = N, dim: int = 16) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def _near(values: NDArray[Any], one: int, other: int, noise: float = 1e-3) -> None:
    values[other] = 2.5 * values[one] + noise * np.random.default_rng(one).normal(size=values.shape[1])


def _manifest(draws: tuple[Draw, ...], test: list[int], n: int = N) -> SubsetManifest:
    ids = np.arange(16 * n, dtype=np.uint64).astype(np.uint8).reshape(n, 16)
    targets = Targets(("a", "b"), np.arange(n) % 2)
    return SubsetManifest(ids, targets, ("4", "full"), np.array(test), draws, {"balance": "balanced"})


def _draw(train: list[int], validation: list[int], fold: int = 1) -> Draw:
    sizes = (min(4, len(train)), len(train)), (1, len(validation))
    return Draw(1, fold, np.array(train), np.array(validation), *sizes)


def _similar(*pairs: tuple[int, int]) -> Similar:
    found = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Similar(found, np.full(len(pairs), 0.9995, dtype=np.float32), ("swav",) * len(pairs), ())


def test_similar_pairs__is_every_pair_above_the_cosine_in_any_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 17)  # pairs within a block, and across blocks
    one, two = _embeddings(0), _embeddings(1)
    for pair in ((0, 1), (3, 50), (20, 40)):
        _near(one, *pair)
    _near(two, 3, 50, noise=1e-5)
    _near(two, 58, 59)
    found = similar_pairs([("swav", one), ("dino", two)])
    cosines = {name: cosine_similarity(values.astype(np.float64)) for name, values in (("swav", one), ("dino", two))}
    expected = [p for p in combinations(range(N), 2) if max(own[p] for own in cosines.values()) > COSINE]
    assert [tuple(pair) for pair in found.pairs.tolist()] == expected == [(0, 1), (3, 50), (20, 40), (58, 59)]
    assert found.backbones == ("swav", "dino", "swav", "dino")
    np.testing.assert_allclose(found.cosines, [max(own[p] for own in cosines.values()) for p in expected], atol=1e-6)
    assert found.blind == ()


def test_similar_pairs__a_blind_backbone_is_passed_over() -> None:
    """Untrained, say: every image is all but the same to it."""
    blind = 100.0 + 1e-3 * _embeddings(2)
    seeing = _embeddings(0)
    _near(seeing, 5, 6)
    found = similar_pairs([("random", blind), ("swav", seeing)])
    assert (found.blind, found.pairs.tolist()) == (("random",), [[5, 6]])
    line = describe([], [str(i) for i in range(N)], found.blind)
    assert line == [
        "near-duplicates were not looked for in random: "
        "too many pairs of images have a cosine above 0.999 for them to be copies"
    ]


def test_similar_pairs__none_and_a_row_of_zeros() -> None:
    values = _embeddings()
    values[:2] = 0.0
    found = similar_pairs([("swav", values.astype(np.float16))])
    assert (found.pairs.shape, found.cosines.shape, found.backbones) == ((0, 2), (0,), ())
    assert similar_pairs([("swav", values[:1])]).pairs.shape == (0, 2)


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

    def again(repeat: int, fold: int, rows: Fold) -> Draw:
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
