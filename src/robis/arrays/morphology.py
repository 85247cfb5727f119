"""Components of a mask as boxes, and filling of holes."""

from __future__ import annotations

import cv2
import numpy as np


def largest_components(mask: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the largest 8-connected components of a mask.

    Args:
        mask: bool (H, W).
        limit: most components; an empty mask has none.

    Returns:
        Boxes, int64 (k, 4), of the largest component first, each (x, y, x + w, y + h) in pixels: the lower right corner
        lies just outside, as RoBiS (arXiv 2505.21152) prompts SAM. Equal areas are ordered by the box's top, then its
        left. And ranks, int32 (H, W): i + 1 inside the component of box i, 0 elsewhere.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=8
    )
    x, y, width, height, area = stats[1:].T
    order = np.lexsort((width, height, x, y, -area))[:limit]
    boxes = np.stack([x, y, x + width, y + height], axis=1)[order].astype(np.int64)
    rank_of_label = np.zeros(count, dtype=np.int32)
    rank_of_label[order + 1] = np.arange(1, len(order) + 1)
    # In place, row by row: of a large mask, labels are most of the memory.
    for row in labels:
        row[:] = rank_of_label[row]
    return boxes, labels


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill the holes of a bool mask (H, W).

    A hole is background that no path of 4-connected background pixels connects with the outside of the image, so that
    8-connected outlines, as components have them, enclose holes.
    """
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(padded, None, (0, 0), 2, flags=4)
    filled: np.ndarray = padded[1:-1, 1:-1] != 2
    return filled
