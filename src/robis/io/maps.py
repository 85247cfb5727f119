"""Anomaly maps as float16 TIFF and masks as 8-bit PNG."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from robis.errors import DataError

# Imported where they are used: both are slow to import, and models run without them.
if TYPE_CHECKING:
    pass

# Masks: rows as they are compress better than differences, and in a fifth of the time. OpenCV 4.11 and newer.
UNFILTERED = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []


def write_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write a bool or {0, 255} mask (H, W) as an 8-bit single-channel PNG of 0 and 255."""
    pixels = (mask != 0).view(np.uint8) * np.uint8(255)
    _write_png(Path(path), pixels)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3, *UNFILTERED])
    if not done:
        raise DataError(f"{path}: the PNG encoder failed on an array of shape {pixels.shape}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def write_map(path: str | Path, anomaly_map: np.ndarray) -> None:
    """Write an anomaly map, float16 (H, W), as a single-channel TIFF, uncompressed."""
    import tifffile

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # The settings that vary between machines or runs (date, software) stay out: same map, same bytes.
    tifffile.imwrite(path, anomaly_map.astype(np.float16, copy=False), software="robis", metadata=None)


def read_map(path: str | Path) -> np.ndarray:
    """Read an anomaly map written by `write_map`: float16 (H, W). Raises DataError."""
    import tifffile

    try:
        anomaly_map = tifffile.imread(path)
    except (OSError, ValueError, struct.error, tifffile.TiffFileError) as error:
        raise DataError(f"{path}: not a readable TIFF ({error}).") from error
    if anomaly_map.ndim != 2 or anomaly_map.dtype != np.float16:
        raise DataError(f"{path}: {anomaly_map.dtype} of shape {anomaly_map.shape}; expected float16 with one channel.")
    return anomaly_map
