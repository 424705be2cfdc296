from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dvme.data.images import decode
from dvme.data.stretch import N_OF_16_BITS, Outliers, find_outliers, percentiles, scaled, stretched
from dvme.errors import ImageError

SPREAD = 1000 + np.arange(4096).reshape(64, 64) % 1000  # 1000..1999, each about four times


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_stretched__is_linear_in_every_type(dtype: str) -> None:
    # (v - 10) * 255 / 40 = 0, 63.75, 127.5 (to even), 255
    assert stretched(np.array([[10, 20], [30, 50]], dtype=dtype)).tolist() == [[0, 64], [128, 255]]


def test_stretched__in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stretched(SPREAD)
    monkeypatch.setattr("dvme.data.stretch.PIXELS_AT_ONCE", 300)  # 4 rows at a time
    np.testing.assert_array_equal(stretched(SPREAD), whole)


SOME = [(0, 1), (0, 254), (0, 255), (0, 256), (0, 4095), (1, 510), (32_767, 32_768), (65_279, 65_535), (0, 65_535)]


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_stretched__by_a_table_as_by_each_value(dtype: str) -> None:
    """To the bit, by the formula, for every value of many ranges; images above 65,536 pixels are looked up."""
    generator = np.random.default_rng(1)
    grid = np.unique(np.linspace(0, 65_535, 9).astype(int)).tolist()
    pairs = [(low, high) for low in grid for high in grid if low < high]
    drawn = [tuple(sorted(generator.choice(N_OF_16_BITS, 2, replace=False).tolist())) for _ in range(30)]
    shift = int(np.iinfo(dtype).min)
    every = generator.permutation(N_OF_16_BITS)
    for low, high in [*SOME, *pairs, *drawn]:
        wide = np.clip(every, low, high)
        plain = np.round((wide - float(low)) * 255.0 / (high - low)).astype(np.uint8)
        values = (wide + shift).astype(dtype)
        np.testing.assert_array_equal(stretched(np.stack([values, values[::-1]])), np.stack([plain, plain[::-1]]))
        np.testing.assert_array_equal(stretched(values[None, :900]), stretched(values[None, :900].astype(np.int32)))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32"])
@pytest.mark.parametrize("size", [40, 300])
def test_scaled__beyond_the_ends(dtype: str, size: int) -> None:
    values = (np.arange(size * size).reshape(size, size) % 1000).astype(dtype)
    plain = np.round((np.clip(values.astype(np.float64), 100.5, 900.25) - 100.5) * 255 / 799.75)
    np.testing.assert_array_equal(scaled(values, 100.5, 900.25), plain)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_percentiles__are_numpys(dtype: str) -> None:
    generator = np.random.default_rng(0)
    asked = [0, 0.1, 1, 33.3, 50, 99.5, 99.99, 100]
    for n in (1, 2, 7, 1000, 70_000):
        values = generator.normal(9000, 900, size=n).astype(dtype)
        expected = np.percentile(values.astype(np.float64), asked)
        np.testing.assert_allclose(percentiles(values, *asked), expected, rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_stretched__not_finite(value: float) -> None:
    with pytest.raises(ImageError, match="not finite"):
        stretched(np.array([[0.0, value]]))


@pytest.mark.parametrize("n_far", [1, 2, 4])  # 4 of 4,096 pixels are a thousandth
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_find_outliers__a_few_bright_pixels(n_far: int, dtype: str) -> None:
    values = SPREAD.astype(dtype)
    values[10, 20 : 20 + n_far] = 9999
    found = find_outliers(values)
    assert found is not None
    assert (found.n_pixels, found.n_of) == (n_far, 4096)
    assert found.share == pytest.approx((9999 - 1999) / (9999 - 1000))


def test_find_outliers__at_both_ends() -> None:
    values = SPREAD.astype(np.uint16)
    values[0, 0], values[1, 1], values[2, 2] = 0, 4000, 3999
    found = find_outliers(values)
    assert found is not None
    assert (found.n_pixels, found.share) == (3, pytest.approx((1000 + 2001) / 4000))


def test_find_outliers__thinning_out_without_a_gap() -> None:
    values = SPREAD.astype(np.float64)
    values.flat[[5, 9, 13, 17]] = [2400, 2800, 3200, 3600]
    found = find_outliers(values)
    assert found is not None
    assert (found.n_pixels, found.share) == (4, pytest.approx((3600 - 1999) / (3600 - 1000)))


@pytest.mark.parametrize(
    "values",
    [
        SPREAD,
        np.full((64, 64), 7),
        np.where(np.arange(4096).reshape(64, 64) < 5, 9999, SPREAD),  # one more than a thousandth
        np.where(np.arange(4096).reshape(64, 64) < 1, 2998, SPREAD),  # half of the range, and not more
        np.array([[0, 1], [2, 60_000]]),  # of four pixels none is one of a handful
        np.random.default_rng(0).normal(size=(300, 300)),
    ],
)
def test_find_outliers__spread_over_the_range(values: np.ndarray) -> None:  # type: ignore[type-arg]
    assert find_outliers(values) is None


@pytest.mark.parametrize("size", [200, 700])
def test_find_outliers__against_the_slow_definition(size: int) -> None:
    """All windows of the sorted values that hold 99.9 % of them, one after the other."""
    generator = np.random.default_rng(size)
    n_found = 0
    for spike in (1.0, 3.0, 30.0):
        values = generator.gamma(2.0, size=(size, size))
        values.flat[generator.integers(0, size**2, size=size**2 // 2000)] *= spike
        ordered = np.sort(values, axis=None)
        n_kept = size**2 - int(size**2 / 1000)
        shortest = min(ordered[i + n_kept - 1] - ordered[i] for i in range(size**2 - n_kept + 1))
        is_narrow = shortest < (ordered[-1] - ordered[0]) / 2
        assert (find_outliers(values) is not None) == is_narrow
        n_found += is_narrow
    assert 0 < n_found < 3


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_find_outliers__counted_as_ordered(dtype: str) -> None:
    """Large images of 16 bits are counted, those of 32 are ordered: the same is found."""
    generator = np.random.default_rng(2)
    n_found = 0
    for n_far in (0, 3, 50, 89, 90, 91, 200):  # a thousandth are 90
        values = (2000 + generator.gamma(2.0, 40.0, size=(300, 300))).astype(dtype)
        values.flat[generator.integers(0, values.size, size=n_far)] = generator.integers(0, 30_000, size=n_far)
        found = find_outliers(values)
        assert found == find_outliers(values.astype(np.int32))
        n_found += found is not None
    assert 0 < n_found < 7


def test_decode__tells_outliers_of_deep_grey_only() -> None:
    deep, flat = SPREAD.astype(np.uint16), (SPREAD % 20).astype(np.uint8)
    deep[0, 0], flat[0, 0] = 65_535, 255
    found = []
    for array in (deep, flat):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        found.append(decode(buffer.getvalue()).outliers)
    # 65,535 - 1,999 of 65,535 - 1,000
    assert found == [Outliers(1, 4096, pytest.approx(63_536 / 64_535)), None]
