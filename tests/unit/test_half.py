"""Half-precision arrays against NumPy, bit by bit, with OpenCV's conversions and without."""

from __future__ import annotations

import numpy as np
import pytest

from robis.arrays import float16 as half

EVERY_PATTERN = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
FINITE = np.arange(half.FINITE_VALUES, dtype=np.uint16).reshape(128, 248)


@pytest.fixture(params=[True, False], ids=["opencv", "numpy"], autouse=True)
def by_opencv(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "_BY_OPENCV", request.param and half._BY_OPENCV)


def test_every_value_becomes_the_float32_that_numpy_makes_of_it() -> None:
    values = EVERY_PATTERN.view(np.float16)
    expected = values.astype(np.float32)
    found = half.to_float32(values)
    number = ~np.isnan(expected)
    assert found.dtype == np.float32
    assert np.array_equal(found.view(np.uint32)[number], expected.view(np.uint32)[number])
    assert np.isnan(found[~number]).all()


def test_numbers_round_as_numpy_rounds_them() -> None:
    rng = np.random.default_rng(0)
    exact = np.sort(FINITE.view(np.float16).astype(np.float32).ravel())
    ties = (exact[1:] + exact[:-1]) / 2
    patterns = rng.integers(0, 2**32, 40_000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([ties, -ties, patterns, np.array([0.0, -0.0, 65519.0, 65520.0, -1e9, np.inf], np.float32)])
    values = values[~np.isnan(values)][None]
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
        found = half.to_float16(values)
    assert found.shape == values.shape and found.dtype == np.float16
    assert np.array_equal(found.view(np.uint16), expected.view(np.uint16))
    assert np.isnan(half.to_float16(np.full((2, 2), np.nan, np.float32))).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_part_of_an_array_is_added_to_in_place(dtype: type) -> None:
    rng = np.random.default_rng(0)
    total, values = rng.random((9, 11)).astype(np.float32), rng.random((4, 5)).astype(dtype)
    expected = total.copy()
    expected[2:6, 3:8] += values.astype(np.float32)
    half.add_to(total[2:6, 3:8], values)
    assert np.array_equal(total, expected)
    half.add_to(total[:0, :5], values[:0])


def test_empty_arrays_stay_empty() -> None:
    assert half.to_float32(np.zeros((0, 3), np.float16)).shape == (0, 3)
    assert half.to_float16(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert half.histogram(np.zeros((0, 3), np.uint16)).sum() == 0


@pytest.mark.parametrize("values", [[3.5, 0.0, 100.0], [-0.0, 2.0], [-5.0, 1.0], [0.0, np.inf], [7.0]])
def test_the_range_is_that_of_the_values(values: list[float]) -> None:
    array = np.array([values], np.float16)
    for one in (array, array.astype(np.float32)):
        assert half.value_range(one) == (min(values), max(values))


@pytest.mark.parametrize("wrong", [np.uint16(0x7E00), np.uint16(0xFE00)])
def test_a_nan_of_either_sign_makes_the_range_nan(wrong: np.uint16) -> None:
    array = np.array([1, 2, 3], np.float16)
    array.view(np.uint16)[1] = wrong
    assert np.isnan(half.value_range(array)).all()


@pytest.mark.parametrize("most", [1, 500, 1 << 24])
def test_counts_are_those_of_every_value(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(half, "_MOST_COUNTED", most)
    assert (half.histogram(FINITE) == 1).all()
    bits = np.random.default_rng(0).integers(0, half.FINITE_VALUES, (64, 90), dtype=np.uint16) // 700 * 700
    expected = np.bincount(bits.ravel(), minlength=half.FINITE_VALUES)
    assert np.array_equal(half.histogram(bits), expected)
    assert np.array_equal(half.histogram(bits[:, 5:40]), np.bincount(bits[:, 5:40].ravel(), minlength=31744))


def test_a_table_is_looked_up_at_every_pattern() -> None:
    table = np.random.default_rng(0).integers(0, 256, 1 << 16, dtype=np.uint8)
    assert np.array_equal(half.looked_up(table, EVERY_PATTERN), table.reshape(256, 256))


@pytest.mark.parametrize(
    "threshold", [-1.0, 0.0, 1e-9, 5.96e-8, 80.0, 80.03, 254.9999, 255.0, 65504.0, 1e6, np.inf, -np.inf, np.nan]
)
def test_above_compares_as_float32_does(threshold: float) -> None:
    values = FINITE.view(np.float16)
    expected = values.astype(np.float32) > np.float32(threshold)
    assert np.array_equal(half.above(values, np.float32(threshold)), expected)
