"""The connected regions of a final mask, in the order in which people look at them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# x, y, width and height in image pixels.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Region:
    """An 8-connected region of a mask.

    Attributes:
        label: its number among the labels of the mask.
        box: the smallest box of whole image pixels that holds it.
        pixels: how many pixels of the mask it has.
        place: its rows and columns in the mask.
    """

    label: int
    box: Box
    pixels: int
    place: tuple[slice, slice]


def labeled_regions(mask: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Sequence[Region]]:
    """The regions of a bool mask (H, W) of an image of `height` and `width`.

    Returns:
        Labels, int32 (H, W), 0 for the background; and the regions, the largest first, of the same size the uppermost.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=8
    )
    by_area = 1 + np.argsort(-stats[1:count, cv2.CC_STAT_AREA], kind="stable")
    scale = (height / mask.shape[0], width / mask.shape[1])
    return labels, [_region(int(label), stats[label], scale) for label in by_area]


def _region(label: int, stats: np.ndarray, scale: tuple[float, float]) -> Region:
    left, top, width, height, pixels = (int(value) for value in stats)
    place = (slice(top, top + height), slice(left, left + width))
    return Region(label, _in_image((left, top, width, height), scale), pixels, place)


def _in_image(box: Box, scale: tuple[float, float]) -> Box:
    """The smallest box of whole image pixels that holds a box of mask pixels; scale: (vertical, horizontal)."""
    left, top, width, height = box
    x, y = math.floor(left * scale[1]), math.floor(top * scale[0])
    return x, y, math.ceil((left + width) * scale[1]) - x, math.ceil((top + height) * scale[0]) - y
