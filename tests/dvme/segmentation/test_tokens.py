from __future__ import annotations

import numpy as np
import pytest

from dvme.segmentation.tokens import draw_tokens, even_quotas, uniform_tokens


def an_id(number: int) -> np.ndarray:
    return np.frombuffer(number.to_bytes(16, "big"), dtype=np.uint8)


def some_shares(n_tokens: int = 60, n_classes: int = 2, seed: int = 0) -> np.ndarray:
    """Mostly background, a rare class among them, some tokens of several classes and some void."""
    rng = np.random.default_rng(seed)
    found = np.zeros((n_tokens, n_classes), dtype=np.float32)
    found[:18, 0] = rng.uniform(0.3, 1.0, 18)
    found[15:19, 1] = rng.uniform(0.1, 0.3, 4)
    found[-5:] = np.nan
    return found


def test_even_quotas__as_even_as_sizes_allow() -> None:
    assert even_quotas([100, 3, 50], 30) == [14, 3, 13]
    assert even_quotas([5, 5], 30) == [5, 5]
    assert even_quotas([9, 1, 2], 8) == [5, 1, 2]
    assert even_quotas([], 8) == []


def test_draw_tokens__all_where_there_are_fewer_and_never_a_void_one() -> None:
    drawn = draw_tokens(some_shares(), 256, an_id(1), is_exclusive=True)
    assert drawn.tokens.tolist() == list(range(55))
    assert (drawn.chances == 1.0).all()
    for seed in range(20):
        assert draw_tokens(some_shares(), 12, an_id(seed), is_exclusive=True).tokens.max() < 55


def test_draw_tokens__every_class_gets_its_part() -> None:
    drawn = draw_tokens(some_shares(), 12, an_id(3), is_exclusive=True)
    assert len(drawn.tokens) == 12
    assert (drawn.tokens >= 19).sum() == 4
    assert ((drawn.tokens >= 15) & (drawn.tokens < 19)).sum() == 4, "those of the rare class, whatever else they have"


@pytest.mark.parametrize(("n_tokens", "is_exclusive"), [(2, True), (9, True), (30, False)])
def test_draw_tokens__weighted_sums_are_unbiased(n_tokens: int, *, is_exclusive: bool) -> None:
    """Over 1,000 images of the same mask: within four standard errors of the sum over all known tokens."""
    found = some_shares()
    values = np.random.default_rng(5).normal(size=(60, 3)) + 2.0
    sums = np.array(
        [
            (values[drawn.tokens] / drawn.chances[:, None]).sum(axis=0)
            for number in range(1000)
            for drawn in [draw_tokens(found, n_tokens, an_id(number), is_exclusive=is_exclusive)]
        ]
    )
    errors = sums.std(axis=0) / np.sqrt(len(sums))
    assert (np.abs(sums.mean(axis=0) - values[:55].sum(axis=0)) < 4 * errors).all()


def test_draw_tokens__follow_from_content_and_seed_alone() -> None:
    def tokens(number: int, seed: int = 0, n_tokens: int = 12) -> set[int]:
        drawn = draw_tokens(some_shares(), n_tokens, an_id(number), is_exclusive=True, seed=seed)
        return set(drawn.tokens.tolist())

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)
    assert tokens(1) != tokens(1, seed=1)
    assert tokens(1) < tokens(1, n_tokens=20) < tokens(1, n_tokens=40)


def test_draw_tokens__structures_may_be_void_one_by_one() -> None:
    found = some_shares()
    found[30:40, 0] = np.nan
    drawn = draw_tokens(found, 256, an_id(1), is_exclusive=False)
    assert drawn.tokens.tolist() == list(range(55))
    nothing = draw_tokens(np.full((9, 2), np.nan, dtype=np.float32), 5, an_id(1), is_exclusive=False)
    assert (len(nothing.tokens), len(nothing.chances)) == (0, 0)


def test_uniform_tokens__are_equally_likely() -> None:
    drawn = np.bincount(np.concatenate([uniform_tokens(20, 5, an_id(number)) for number in range(1000)]))
    assert len(drawn) == 20
    assert (np.abs(drawn - 250) < 4 * np.sqrt(187.5)).all()
