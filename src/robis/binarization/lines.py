"""Masks as SuperADD makes them (arXiv 2605.14808): gaps closed by lines of many angles, regions filled, eroded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from robis.arrays.morphology import fill_holes

# A line is drawn so thick, and for the dilation thickened by a block of as many pixels.
THICKNESS = 2


@dataclass(frozen=True)
class LineClosing:
    """How the gaps of a mask are closed.

    Attributes:
        reach: half the length of a line in map pixels.
        angles: number of directions, evenly spread over 180 degrees.
        threshold_factor: share of the threshold that a pixel must exceed to stay in the mask.
        erosion_size: sides of the ellipse that erodes the mask, map pixels; 1 erodes nothing.
    """

    reach: int
    angles: int
    threshold_factor: float
    erosion_size: int


def mask_closed_by_lines(anomaly_map: np.ndarray, threshold: float, closing: LineClosing) -> np.ndarray:
    """The mask of a map: threshold, closing by lines, filling, erosion.

    The closing's dilation is a pixel wider than its erosion, so that masks grow by up to a pixel on two sides.

    Args:
        anomaly_map: float16 or float32 (H, W).
        threshold: map units, compared in float32.
        closing: how.

    Returns:
        uint8 {0, 1} (H, W).
    """
    mask = _closed(anomaly_map > np.float32(threshold), closing)
    mask &= anomaly_map > np.float32(threshold * closing.threshold_factor)
    filled = fill_holes(mask).astype(np.uint8)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (closing.erosion_size, closing.erosion_size))
    return cv2.erode(filled, ellipse)


def _closed(mask: np.ndarray, closing: LineClosing) -> np.ndarray:
    """The union of a bool mask and its closings; what lies beyond the border counts as normal."""
    margin = closing.reach + 1
    padded = np.pad(mask.view(np.uint8), margin)
    union = padded.copy()
    for thin, thick in line_kernels(closing.reach, closing.angles):
        np.maximum(union, cv2.erode(cv2.dilate(padded, thick), thin), out=union)
    return union[margin:-margin, margin:-margin] > 0


@lru_cache(maxsize=4)
def line_kernels(reach: int, angles: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The lines that erode and those that dilate, uint8 {0, 1} (2 * reach + 1, 2 * reach + 1), for each angle."""
    block = np.ones((THICKNESS, THICKNESS), np.uint8)
    return tuple((line, cv2.dilate(line, block)) for line in _lines(reach, angles))


def _lines(reach: int, angles: int) -> Iterator[np.ndarray]:
    side = 2 * reach + 1
    for radians in np.deg2rad(180.0 * np.arange(angles) / angles).tolist():
        offset = reach * np.array([np.cos(radians), np.sin(radians)])
        begin, end = (np.rint(reach + sign * offset).astype(int).tolist() for sign in (-1, 1))
        line = np.zeros((side, side), np.uint8)
        cv2.line(line, begin, end, color=1, thickness=THICKNESS)
        yield line
