"""Half-precision arrays: NumPy's results to the bit, many times as fast.

The bits of non-negative float16 values, read as uint16, sort as the values do. Ranges, comparisons and counts therefore
need no arithmetic.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

# NumPy converts and compares float16 one value at a time; OpenCV has the type since version 5.
_BY_OPENCV = int(cv2.__version__.split(".")[0]) >= 5
FINITE_VALUES = 0x7C00  # the bits of infinity: every finite non-negative float16 lies below
# OpenCV counts in float32, which holds every integer up to here.
_MOST_COUNTED = 1 << 24


def to_float32(values: np.ndarray) -> np.ndarray:
    """Convert float16 (H, W) to float32."""
    if _BY_OPENCV and values.size:
        return _convert(values, cv2.CV_32F)
    return values.astype(np.float32)


def to_float16(values: np.ndarray) -> np.ndarray:
    """Round float32 (H, W) to the nearest float16, ties to even."""
    if _BY_OPENCV and values.size:
        return _convert(values, cv2.CV_16F)
    return values.astype(np.float16)


def add_to(total: np.ndarray, values: np.ndarray) -> None:
    """Add float16 or float32 (H, W) in place to float32 `total`, which may be a view of a larger array."""
    if _BY_OPENCV and values.size:
        cv2.add(total, values, dst=total, dtype=cv2.CV_32F)
    else:
        total += values


def value_range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value of an array of any shape, both NaN where a value is NaN. Fast for float16."""
    if values.dtype == np.float16:
        bits = values.view(np.int16)
        low, high = bits.min(), bits.max()
        if low >= 0 and high <= FINITE_VALUES:  # neither a sign nor a NaN
            return float(low.view(np.float16)), float(high.view(np.float16))
    return float(values.min()), float(values.max())


def not_finite(values: np.ndarray) -> tuple[int, ...] | None:
    """Index of the first value that is NaN or infinite; None where there is none."""
    if not values.size or np.isfinite(value_range(values)).all():
        return None
    place = np.argwhere(~np.isfinite(values))[0]
    return tuple(int(index) for index in place)


def histogram(bits: np.ndarray, ignored: np.ndarray | None = None) -> np.ndarray:
    """Count the values of uint16 (H, W), bits of finite non-negative float16, but for ignored ones: int64 (31744,)."""
    counts = np.zeros(FINITE_VALUES, np.int64)
    step = max(1, _MOST_COUNTED // max(1, bits.shape[1]))
    for top in range(0, bits.shape[0] if bits.size else 0, step):
        block = np.ascontiguousarray(bits[top : top + step])
        counts += cv2.calcHist([block], [0], None, [FINITE_VALUES], [0, FINITE_VALUES]).ravel().astype(np.int64)
    if ignored is not None:
        counts -= np.bincount(bits[ignored], minlength=FINITE_VALUES)
    return counts


def looked_up(table: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """`table[bits]` for a table uint8 (65536,) and bits uint16 (H, W)."""
    if _BY_OPENCV and bits.size:
        return cv2.LUT(bits, table)
    return table.take(bits)


def above(values: np.ndarray, threshold: np.float32) -> np.ndarray:
    """Where float16 (H, W), finite and not below 0, is above `threshold`, compared in float32: bool (H, W)."""
    first = np.searchsorted(finite_values(), threshold, side="right")
    is_above: np.ndarray = values.view(np.uint16) >= np.uint16(first)
    return is_above


@cache
def finite_values() -> np.ndarray:
    """The finite non-negative values in ascending order, which is that of their bits: float32 (31744,)."""
    return np.arange(FINITE_VALUES, dtype=np.uint16).view(np.float16).astype(np.float32)


def _convert(values: np.ndarray, dtype: int) -> np.ndarray:
    # Unlike a sum with 0, a product with 1 keeps the sign of zero.
    return cv2.multiply(values, 1.0, dtype=dtype)  # type: ignore[call-overload]
