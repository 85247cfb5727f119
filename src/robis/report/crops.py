"""Small pictures of single regions: the place of the image around a region, with its outline."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from robis.evaluation.counts import resize_mask
from robis.evaluation.regions import Box, labeled_regions
from robis.io.damage import damaged
from robis.io.maps import read_written_mask
from robis.report.overlays import overlay
from robis.report.pictures import max_pool

# Longest side of a picture, and the least that it shows of an image, both in pixels.
SIDE, LEAST = 192, 64
# What a picture shows, in longest sides of the region's box.
AROUND = 1.6
LINE = 2


def read_region(path: Path, number: int, height: int, width: int) -> np.ndarray:
    """A region of a final mask, bool (height, width).

    Args:
        path: the mask.
        number: of the region, from 1, in the order of `labeled_regions`.
        height, width: size of the image.

    Raises:
        DataError: the mask is missing or damaged, or has no such region.
    """
    labels, regions = labeled_regions(read_written_mask(path, stage="refine"), height, width)
    if number > len(regions):
        raise damaged(path, f"{len(regions)} regions; expected at least {number}, as in the clusters", "refine")
    return resize_mask(labels == regions[number - 1].label, height, width)


def draw_region(image: np.ndarray, region: np.ndarray, box: Box) -> np.ndarray:
    """A picture of a region, uint8 (h, w, 3) RGB, `SIDE` pixels on the longer side.

    Args:
        image: uint8 (H, W, 3) RGB.
        region: bool (H, W).
        box: of the region.
    """
    rows, columns = _around(box, *image.shape[:2])
    cut = image[rows, columns]
    factor = SIDE / max(cut.shape[:2])
    height, width = (max(1, round(side * factor)) for side in cut.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(cut, (width, height), interpolation=how)
    return overlay(picture, max_pool(region[rows, columns], height, width), line=LINE)


def _around(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a square around a box, as far as it fits into the image."""
    x, y, box_width, box_height = box
    side = max(LEAST, round(AROUND * max(box_width, box_height)))
    return _centered(y + box_height / 2, side, height), _centered(x + box_width / 2, side, width)


def _centered(center: float, side: int, whole: int) -> slice:
    start = max(0, min(round(center - side / 2), whole - side))
    return slice(start, min(start + side, whole))
