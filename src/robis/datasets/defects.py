"""How wide the defects in a mask are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from robis.io.images import read_mask


def defect_widths(mask: np.ndarray) -> list[int]:
    """The width of each defect: the side in pixels of the largest square that fits into it.

    A block of this side survives in the defect, a larger one does not: an erosion with a larger block erases it.

    Args:
        mask: bool (H, W); its 8-connected regions are the defects.

    Returns:
        One width per defect, ascending.
    """
    pixels = mask.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(pixels)
    if not width:
        return []
    # Most of a mask is empty.
    marked = pixels[y : y + height, x : x + width]
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    return sorted(_largest_square(_region(regions, number, boxes[number])) for number in range(1, count))


def mask_widths(path: Path) -> list[int]:
    """`defect_widths` of a mask file. Raises DataError when it cannot be read."""
    return defect_widths(read_mask(path))


def _region(regions: np.ndarray, number: int, box: np.ndarray) -> np.ndarray:
    x, y, width, height = box[:4]
    return (regions[y : y + height, x : x + width] == number).astype(np.uint8)


def _largest_square(region: np.ndarray) -> int:
    """The side of the largest square of ones in a region, uint8 (H, W)."""
    # Twice as large: the chessboard distance from the middle of a square to its outside is then a whole number, its
    # side. The border counts as outside.
    doubled = np.pad(region.repeat(2, axis=0).repeat(2, axis=1), 1)
    return int(cv2.distanceTransform(doubled, cv2.DIST_C, 3).max())
