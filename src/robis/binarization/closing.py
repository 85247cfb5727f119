"""Closing gaps and filling holes of an anomaly map's mask: SuperADD's last step (arXiv 2605.14808)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from robis.arrays.float16 import above
from robis.arrays.morphology import fill_holes


def close_and_fill(anomaly_map: np.ndarray, threshold: np.float32, sides: Sequence[int], growth: float) -> np.ndarray:
    """Close the masks of several thresholds, each with a larger block than the one below, and fill the union's holes.

    Masks of rising thresholds are nested, and so are their closings with the same block: the lowest would be the whole
    union. Larger blocks at higher thresholds join clear defects over wider gaps than faint ones. Everything beyond the
    border counts as normal, so that closing does not spread to the border.

    Args:
        anomaly_map: float16 (H, W), finite and not below 0.
        threshold: the lowest threshold; each of the others is `growth` times the one before.
        sides: sides of the blocks in map pixels, odd, one per threshold; 1 closes nothing.
        growth: at least 1.

    Returns:
        bool (H, W), with all pixels above `threshold` set.
    """
    union = above(anomaly_map, threshold)
    for level, side in enumerate(sides):
        union |= _closed(above(anomaly_map, np.float32(threshold * growth**level)), side)
    return fill_holes(union)


def _closed(mask: np.ndarray, side: int) -> np.ndarray:
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), side, side, side, side, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    inner: np.ndarray = closed[side:-side, side:-side] > 0
    return inner
