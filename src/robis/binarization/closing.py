"""Gaps closed and holes filled in the mask of an anomaly map, SuperADD's last step (arXiv 2605.14808)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from robis.arrays.morphology import fill_holes


def close_and_fill(anomaly_map: np.ndarray, threshold: np.float32, sides: Sequence[int], growth: float) -> np.ndarray:
    """Close the mask at several thresholds, each with a block of its own, and fill the holes of the union.

    The masks are nested, and so are their closings with one block: the lowest threshold's would be all of the union.
    Blocks therefore grow with the threshold: what is clearly defective is joined over wider gaps than what barely is.
    What lies beyond the border is normal, so that no closing reaches it by itself.

    Args:
        anomaly_map: float16 (H, W).
        threshold: the lowest; the following are `growth` times the one before.
        sides: of the blocks, map pixels, odd, one per threshold; 1 closes nothing.
        growth: at least 1.

    Returns:
        bool (H, W), which holds all pixels above `threshold`.
    """
    values = anomaly_map.astype(np.float32)
    union = values > threshold
    for level, side in enumerate(sides):
        mask = values > np.float32(threshold * growth**level)
        union |= _closed(mask, side)
    return fill_holes(union)


def _closed(mask: np.ndarray, side: int) -> np.ndarray:
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), side, side, side, side, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    inner: np.ndarray = closed[side:-side, side:-side] > 0
    return inner
