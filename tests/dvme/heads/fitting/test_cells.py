from __future__ import annotations

import numpy as np

from dvme.heads.fitting.cells import constant_labels, constants, frequencies, rarest

NAN = float("nan")
CELLS = np.array(
    [
        [1.0, 0.0, NAN, 0.5, NAN],
        [0.0, 0.0, NAN, 0.5, 1.0],
        [1.0, NAN, NAN, NAN, 0.25],
    ]
)


def test_constants__by_hand() -> None:
    np.testing.assert_array_equal(constants(CELLS), [NAN, 0.0, 0.5, 0.5, NAN])
    assert constant_labels(CELLS) == [1, 2, 3]


def test_frequencies__by_hand() -> None:
    np.testing.assert_allclose(frequencies(CELLS), [2 / 3, 0.0, 0.5, 0.5, 0.625])
    np.testing.assert_allclose(frequencies(CELLS, np.array([1.0, 2.0, 3.0])), [4 / 6, 0.0, 0.5, 0.5, 2.75 / 5])


def test_rarest__by_hand() -> None:
    cells = np.array([[1, 1, 0], [1, 0, NAN], [1, 0, 0.5], [0, NAN, 0.4], [NAN, 1, 0], [0, 1, 0]])
    # counts 3, 3, 1: of equally rare ones the first
    assert rarest(cells).tolist() == [0, 0, 2, 3, 1, 1]
    # weights: 3, 6, 1
    assert rarest(cells, np.array([1.0, 1.0, 1.0, 1.0, 2.0, 3.0])).tolist() == [0, 0, 2, 3, 1, 1]
    # weights: 7, 2.1, 3
    assert rarest(cells, np.array([0.1, 3.9, 3.0, 1.0, 1.0, 1.0])).tolist() == [1, 0, 2, 3, 1, 1]
