"""What every label format holds: images of a known size, and named regions in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of an image under one name.

    Attributes:
        name: the class, such as the defect's.
        x, y: column and row in the image of the upper left pixel of `mask`.
        mask: bool (h, w), with at least one pixel.
        score: how anomalous the region is; None for ground truth.
    """

    name: str
    x: int
    y: int
    mask: np.ndarray
    score: float | None = None


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """An image and all of its regions; without a region it is a good one.

    Attributes:
        file: posix path relative to the data set's root, or the name that a label file gives it.
        height, width: size in pixels, as the image is shown (EXIF rotation applied).
        regions: none, one or several; they may overlap.
        score: of the whole image; None where it is not known.
    """

    file: str
    height: int
    width: int
    regions: tuple[Region, ...] = ()
    score: float | None = None

    def mask(self) -> np.ndarray:
        """All regions, bool (height, width)."""
        joined = np.zeros((self.height, self.width), bool)
        for region in self.regions:
            height, width = region.mask.shape
            joined[region.y : region.y + height, region.x : region.x + width] |= region.mask
        return joined


def cut_out(name: str, mask: np.ndarray, score: float | None = None) -> Region | None:
    """The pixels of a whole image's mask, bool (H, W), as one region; None for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if not width:
        return None
    return Region(name, x, y, mask[y : y + height, x : x + width].copy(), score)


def connected(name: str, mask: np.ndarray) -> Iterator[Region]:
    """The 8-connected regions of a whole image's mask, bool (H, W), from top to bottom."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    for label in range(1, count):
        x, y, width, height, _ = (int(value) for value in boxes[label])
        yield Region(name, x, y, labels[y : y + height, x : x + width] == label)
