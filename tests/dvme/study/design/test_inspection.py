from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.study.design import inspection, near
from dvme.study.design.crowds import Crowd
from dvme.study.design.inspection import Inspection, Seen, Similar, constant_notice, seen_key, together
from dvme.study.design.recall import Recall
from dvme.study.design.similarity import COSINE, Close
from dvme_cache import Fingerprint

N = 60


def _embeddings(seed: int = 0) -> NDArray[Any]:
    values: NDArray[Any] = np.random.default_rng(seed).normal(size=(N, 16)).astype(np.float32)
    return values


def _near(values: NDArray[Any], one: int, other: int, noise: float = 1e-3) -> None:
    values[other] = 2.5 * values[one] + noise * np.random.default_rng(one).normal(size=values.shape[1])


def _seen(**backbones: NDArray[Any]) -> Seen:
    inspected = Inspection()
    for name, values in backbones.items():
        inspected.add(name, values)
    return inspected.found()


def test_inspection__every_pair_above_the_cosine_in_any_backbone() -> None:
    one, two = _embeddings(0), _embeddings(1)
    for pair in ((0, 1), (3, 50), (20, 40)):
        _near(one, *pair)
    _near(two, 3, 50, noise=1e-5)
    _near(two, 58, 59)
    similar = _seen(swav=one, dino=two).similar
    assert similar.pairs.tolist() == [[0, 1], [3, 50], [20, 40], [58, 59]]
    assert similar.backbones == ("swav", "dino", "swav", "dino")
    assert similar.blind == ()


def test_inspection__a_blind_backbone_is_passed_over_and_named_once() -> None:
    """Untrained, say: every image is all but the same to it. Of one that is constant a line tells more."""
    blind, seeing = 100.0 + 1e-3 * _embeddings(2), _embeddings(0)
    _near(seeing, 5, 6)
    seen = _seen(random=blind, dead=np.ones((N, 3), dtype=np.float16), swav=seeing)
    assert (seen.similar.blind, seen.blind, seen.similar.pairs.tolist()) == (("random", "dead"), ["random"], [[5, 6]])
    assert list(seen.constant) == ["dead"]


def test_inspection__twins_are_bit_identical_in_every_backbone() -> None:
    one, two = _embeddings(0), _embeddings(1)
    one[[7, 30, 31]] = one[2]
    two[[7, 30, 40]] = two[2]
    twins = _seen(swav=one, dino=two, dead=np.zeros((N, 2), dtype=np.float16)).twins
    expected = {tuple(row.tobytes() for row in rows) for rows in zip(one, two, strict=True)}
    assert len(np.unique(twins)) == len(expected) == N - 2
    assert twins[2] == twins[7] == twins[30] not in (twins[31], twins[40])


def test_inspection__what_cannot_be_studied_is_refused() -> None:
    odd = _embeddings()
    odd[[3, 9], [0, 5]] = np.nan, -np.inf
    with pytest.raises(DataError, match="2 of 60 rows of swav are not finite; dvme cache verify says which"):
        Inspection().add("swav", odd)
    dead = np.ones((4, 3), dtype=np.float32)
    with pytest.raises(DataError, match="all 4 embeddings of a, b are identical: nothing to learn; dvme cache verify"):
        _seen(a=dead, b=2 * dead)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_inspection__of_hardly_any_rows(n: int) -> None:
    seen = _seen(swav=np.array([[1.0], [-2.0]], dtype=np.float32)[:n], dino=np.zeros((n, 2), dtype=np.float16))
    assert len(np.unique(seen.twins)) == len(seen.twins) == n
    assert (seen.similar.pairs.shape, seen.similar.cosines.shape, seen.similar.backbones) == ((0, 2), (0,), ())


@settings(max_examples=settings.default.max_examples // 4)
@given(
    found=st.lists(
        st.none() | st.dictionaries(st.tuples(st.integers(0, 3), st.integers(4, 6)), st.integers(0, 2)), max_size=4
    )
)
def test_together__the_largest_cosine_and_at_the_same_one_the_first(
    found: list[dict[tuple[int, int], int] | None],
) -> None:
    """As a plain loop over all has it."""
    best: dict[tuple[int, int], tuple[float, str]] = {}
    close: dict[str, Close | None] = {}
    for name, pairs in zip("abcd", found, strict=False):
        close[name] = None
        if pairs is not None:
            cosines = {pair: float(np.float32(COSINE + 1e-4 * step)) for pair, step in sorted(pairs.items())}
            rows = np.array(list(cosines), dtype=np.int64).reshape(-1, 2)
            close[name] = Close(rows, np.array(list(cosines.values()), dtype=np.float32))
            for pair, cosine in cosines.items():
                if cosine > best.get(pair, (0.0, ""))[0]:
                    best[pair] = cosine, name
    similar = together(close)
    assert [tuple(pair) for pair in similar.pairs.tolist()] == sorted(best)
    assert list(zip(similar.cosines.tolist(), similar.backbones, strict=True)) == [best[pair] for pair in sorted(best)]
    assert similar.blind == tuple(name for name, each in close.items() if each is None)


def test_together__crowds_and_recall_say_of_which_backbone() -> None:
    nothing = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.float32)
    crowded = Close(*nothing, crowds=(Crowd(np.arange(3), 0.9995),))
    similar = together({"a": Close(*nothing, recall=Recall(500, 9, 9, 0.7, 60.0)), "b": crowded, "c": None})
    assert [(crowd.backbone, crowd.rows.tolist()) for crowd in similar.crowds] == [("b", [0, 1, 2])]
    assert similar.approximate == {"a": Recall(500, 9, 9, 0.7, 60.0)}
    assert "in a: found 9 of 9 pairs of a sample of 500 images" in similar.notices[0]


IDS = np.arange(16 * N, dtype=np.uint64).astype(np.uint8).reshape(N, 16)
MADE = {"swav": Fingerprint({"weights": "a"}), "dino": Fingerprint({"weights": "b"})}
SEEN = Seen(
    np.arange(N) // 2,
    {"dead": "all 60 embeddings of dead are identical"},
    Similar(
        np.array([[0, 3], [1, 2]]),
        np.array([0.9995, 1.0], dtype=np.float32),
        ("swav", "dino"),
        ("random", "dead"),
        (Crowd(np.array([4, 7, 9]), 0.9992, "swav"), Crowd(np.array([8, 11]), 1.0, "dino")),
        {"dino": Recall(500, 9, 8, 0.6, 1.5)},
    ),
)


def _is_seen(found: Seen | None) -> bool:
    assert found is not None
    one, other = found.similar, SEEN.similar
    same = (found.constant, one.backbones, one.blind) == (SEEN.constant, other.backbones, other.blind)
    same &= one.approximate == other.approximate
    crowds = [[(crowd.rows.tolist(), crowd.cosine, crowd.backbone) for crowd in each.crowds] for each in (one, other)]
    same &= crowds[0] == crowds[1]
    arrays = ((found.twins, SEEN.twins), (one.pairs, other.pairs), (one.cosines, other.cosines))
    return same and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in arrays)


def test_seen__is_kept_whole_under_its_key(tmp_path: Path) -> None:
    path = tmp_path / "seen.npz"
    assert Seen.load(path, "key") is None
    SEEN.save(path, "key")
    assert _is_seen(Seen.load(path, "key"))
    assert Seen.load(path, "another") is None
    assert [file.name for file in tmp_path.iterdir()] == ["seen.npz"]
    nothing = replace(SEEN, similar=Similar(np.empty((0, 2), np.int64), np.empty(0, np.float32), (), ()))
    nothing.save(path, "key")
    again = Seen.load(path, "key")
    assert again is not None
    assert (again.similar.pairs.shape, again.similar.backbones) == ((0, 2), ())


def test_seen__a_torn_or_foreign_file_is_not_taken(tmp_path: Path) -> None:
    """Cut anywhere, or with any byte changed: the same is read from it, or nothing."""
    path = tmp_path / "seen.npz"
    SEEN.save(path, "key")
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(0, len(whole), 61)]
    for position in range(0, len(whole), 9):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        damaged.append(bytes(changed))
    n_refused = 0
    for content in damaged:
        path.write_bytes(content)
        found = Seen.load(path, "key")
        n_refused += found is None
        assert found is None or _is_seen(found)
    assert 0.5 * len(damaged) < n_refused < len(damaged)  # some bytes are dates
    np.save(path.with_suffix(".npy"), SEEN.twins)
    path.with_suffix(".npy").rename(path)
    assert Seen.load(path, "key") is None
    with path.open("wb") as file:
        np.savez(file, twins=SEEN.twins)
    assert Seen.load(path, "key") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_seen__a_file_that_may_not_be_read_is_not_a_miss(tmp_path: Path) -> None:
    path = tmp_path / "seen.npz"
    SEEN.save(path, "key")
    path.chmod(0)
    with pytest.raises(PermissionError):
        Seen.load(path, "key")


def test_seen__a_folder_in_its_place_is_not_a_miss(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Seen.load(tmp_path, "key")


def test_seen_key__everything_that_determines_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    other = MADE | {"dino": Fingerprint({"weights": "c"})}
    turned = dict(reversed(MADE.items()))
    renamed = {"swav": MADE["swav"], "dino2": MADE["dino"]}
    keys = [seen_key(MADE, IDS), seen_key(MADE, IDS[::-1]), seen_key(MADE, IDS[1:])]
    keys += [seen_key(each, IDS) for each in (other, turned, renamed, {"swav": MADE["swav"]})]
    for name, value in (("REVISION", 0), ("ALIKE", 0.5)):
        with monkeypatch.context() as patch:
            patch.setattr(inspection, name, value)
            keys.append(seen_key(MADE, IDS))
    with monkeypatch.context() as patch:
        patch.setattr(near, "MANY", N - 1)
        keys.append(seen_key(MADE, IDS))
    assert len(set(keys)) == len(keys)
    assert seen_key(dict(MADE), IDS.copy()) == keys[0]


CONSTANT = np.tile(np.array([3.0, 1e-3, 500.0, 0.0, -7.0], dtype=np.float32), (100, 1))


def _noted(features: NDArray[Any]) -> str:
    return constant_notice("bb", features, np.array(list(Counter(row.tobytes() for row in features).values())))


def test_constant_notice__identical_to_the_bit() -> None:
    assert _noted(CONSTANT).startswith(
        "all 100 embeddings of bb are identical: it tells nothing apart; dvme cache verify"
    )
    mostly = CONSTANT.copy()
    mostly[:10] = np.random.default_rng(0).normal(size=(10, 5))
    assert _noted(mostly).startswith("90 of 100 embeddings of bb are identical (11 distinct ones in all), so it tells")
    mostly[10] = 0.5
    assert _noted(mostly) == ""  # 89 of 100


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_constant_notice__equal_up_to_rounding(dtype: str) -> None:
    constant = CONSTANT.astype(dtype)
    up = np.random.default_rng(0).random(constant.shape) < 0.5
    noisy = np.where(up, np.nextafter(constant, np.array(np.inf, dtype)), constant)  # the last bit is left to chance
    assert len({row.tobytes() for row in noisy}) > 20
    assert "embeddings of bb are equal up to rounding" in _noted(noisy)
    for column in range(5):
        told = noisy.copy()
        told[:50, column] += np.array(0.02 * max(abs(float(constant[0, column])), 0.1), dtype)
        assert _noted(told) == ""


def test_constant_notice__a_single_row_and_what_is_not_finite() -> None:
    assert _noted(CONSTANT[:1]) == ""
    for odd in (np.nan, np.inf):
        values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
        values[3, 1] = odd
        assert _noted(values) == ""
