from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.study.design.alike import alike_rows, constant_notice

CONSTANT = np.tile(np.array([3.0, 1e-3, 500.0, 0.0, -7.0], dtype=np.float32), (100, 1))


def _noted(features: NDArray[Any]) -> str:
    return constant_notice("bb", features, Counter(row.tobytes() for row in features))


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


def test_alike_rows__one_picture_is_what_no_backbone_tells_apart() -> None:
    """Rows 0, 3 and 5 are one in `a`, rows 0, 3 and 4 in `b`; `dead` tells nothing apart, and decides nothing."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float16)
    a[[3, 5]], b[[3, 4]] = a[0], b[0]
    embeddings = {"dead": np.ones((6, 2), np.float32), "a": a, "b": b}
    for names in (["dead", "a", "b"], ["b", "a", "dead"]):
        twins, lines = alike_rows(embeddings.__getitem__, names)
        assert [[int(one == other) for other in twins] for one in twins] == [
            [int(one == other or {one, other} == {0, 3}) for other in range(6)] for one in range(6)
        ]
        assert list(lines) == ["dead"]
    assert len(set(alike_rows(embeddings.__getitem__, ["a"])[0].tolist())) == 4


def test_alike_rows__reads_one_backbone_at_a_time_and_each_once() -> None:
    read: list[str] = []

    def noted(name: str) -> NDArray[Any]:
        read.append(name)
        return np.eye(3, dtype=np.float32)

    alike_rows(noted, ["a", "b"])
    assert read == ["a", "b"]


def test_alike_rows__nothing_to_learn() -> None:
    with pytest.raises(DataError, match="all 4 embeddings of a, b are identical: nothing to learn; dvme cache verify"):
        alike_rows(lambda _: np.ones((4, 2), np.float32), ["a", "b"])
    assert alike_rows(lambda _: np.ones((1, 2), np.float32), ["a"])[0].tolist() == [0]
