"""Anomaly maps as float16 TIFF and masks as 8-bit PNG."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from robis.errors import DataError
from robis.io.damage import damaged, why_unreadable

# Rows of a mask as they are compress better than their differences, and in a fifth of the time. OpenCV 4.11 and newer.
UNFILTERED = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []

INFINITE = 0x7C00  # the bits of float16's infinity; those of finite values, without their sign, are below
MAX_VALUE = 65504  # of float16
PIXELS_AT_ONCE = 2**20


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write a bool or {0, 255} mask (H, W) as an 8-bit single-channel PNG of 0 and 255.

    Raises:
        DataError: another shape, or no pixels.
    """
    path, mask = Path(path), _checked(path, mask, "mask")
    pixels = (mask != 0).view(np.uint8) * np.uint8(255)
    encoded, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3, *UNFILTERED])
    if not encoded:
        raise DataError(f"{path}: the PNG encoder failed on an array of shape {pixels.shape}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def read_written_mask(path: str | Path, *, stage: str) -> np.ndarray:
    """Read a mask that `write_mask` wrote: bool (H, W).

    Args:
        path: the file.
        stage: rule that writes it, for the message.

    Raises:
        DataError: the file is missing, empty, cut short, or another kind of image.
    """
    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except (OSError, cv2.error) as error:
        raise damaged(path, f"not a readable mask ({why_unreadable(path, error)})", stage) from error
    if pixels is None:
        why = "the PNG is cut short or damaged" if data.size else "the file is empty"
        raise damaged(path, f"not a readable mask ({why})", stage)
    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise damaged(path, f"{pixels.dtype} of shape {pixels.shape}; expected 8 bits and one channel", stage)
    mask: np.ndarray = pixels == 255
    if np.count_nonzero(pixels) != np.count_nonzero(mask):
        raise damaged(path, "gray levels other than 0 and 255; expected a mask", stage)
    return mask


def write_map(path: str | Path, anomaly_map: np.ndarray) -> None:
    """Write an anomaly map (H, W) as a single-channel float16 TIFF, uncompressed.

    Raises:
        DataError: another shape, no pixels, or a value is not finite, or not in float16, whose largest value is 65504.
    """
    import tifffile

    path, anomaly_map = Path(path), _checked(path, anomaly_map, "map")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(anomaly_map, np.float16)
    # Checked as stored: a large number becomes infinite in float16.
    if (place := _infinite(values)) is not None:
        row, column = place
        value = anomaly_map[row, column]
        raise DataError(f"{path}: {value} at row {row}, column {column}; expected finite numbers up to {MAX_VALUE}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # What varies between machines or runs (date, software) stays out: same map, same bytes.
    tifffile.imwrite(path, values, software="robis", metadata=None)


def _checked(path: str | Path, values: np.ndarray, what: str) -> np.ndarray:
    """The array (H, W). Raises DataError for another shape, which would become a file that is no map or mask."""
    values = np.asarray(values)
    if values.ndim != 2 or not values.size:
        raise DataError(f"{path}: found shape {values.shape}; expected a {what} (H, W) of at least one pixel.")
    return values


def _infinite(values: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the first value of float16 (H, W) that is not finite; a few rows at a time."""
    step = max(1, PIXELS_AT_ONCE // max(1, values.shape[1]))
    for top in range(0, len(values), step):
        wrong = values[top : top + step].view(np.uint16) & 0x7FFF >= INFINITE
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            return top + row, column
    return None


def read_map(path: str | Path, *, stage: str | None = "merge") -> np.ndarray:
    """Read an anomaly map that `write_map` wrote: float16 (H, W).

    Args:
        path: the file.
        stage: rule that writes it, for the message; None for a map that robis did not make.

    Raises:
        DataError: the file is missing, empty, cut short, or another kind of image.
    """
    import tifffile

    try:
        anomaly_map = tifffile.imread(path)
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise damaged(path, f"not a readable TIFF ({why_unreadable(path, error)})", stage) from error
    if anomaly_map.ndim != 2 or anomaly_map.dtype != np.float16:
        problem = f"{anomaly_map.dtype} of shape {anomaly_map.shape}; expected float16 with one channel"
        raise damaged(path, problem, stage)
    return anomaly_map
