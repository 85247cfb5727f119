"""Masks as outlines in SVG's path language: sharp at any zoom, and small beside a picture of each mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from robis.report.pictures import max_pool

UNITS = 8  # per pixel of the picture
TOLERANCE = 0.3  # largest distance of an outline from its mask, in pixels of the picture
BUDGET = 12_000  # characters of one mask's path
LARGEST_SIDE = 1600
SMALL = 9  # regions below this size on the picture get a ring
MOST_RINGS = 20


@dataclass(frozen=True)
class Outline:
    """A mask over a picture.

    Attributes:
        path: closed outlines of regions and holes, in 1 / UNITS of the picture's pixels.
        rings: x, y of regions that are too small to be noticed, in the same units.
        left_out: regions, the smallest ones, that are not drawn because there are too many.
    """

    path: str
    rings: list[tuple[int, int]]
    left_out: int = 0

    def compact(self) -> Any:
        """For the page's data: the path alone where there is nothing else."""
        return self.path if not self.rings and not self.left_out else [self.path, self.rings, self.left_out]


def outline(mask: np.ndarray, height: int, width: int) -> Outline:
    """The outline of a bool mask (H, W) over a picture (height, width)."""
    if not mask.any():
        return Outline("", [])
    factor = min(1.0, LARGEST_SIDE / max(mask.shape))
    if factor < 1:
        mask = max_pool(mask, max(1, round(mask.shape[0] * factor)), max(1, round(mask.shape[1] * factor)))
    pixels = mask.astype(np.uint8)
    scale = np.array([width / mask.shape[1], height / mask.shape[0]])
    contours = _contours(pixels)
    tolerance = TOLERANCE / float(scale.mean()) * 2
    pieces = _pieces(contours, tolerance, scale)
    for _ in range(4):
        if sum(map(len, pieces)) <= BUDGET:
            break
        tolerance *= 2
        pieces = _pieces(contours, tolerance, scale)
    kept, left_out = _within(pieces, contours)
    return Outline("".join(kept), _rings(pixels, scale), left_out)


def _contours(pixels: np.ndarray) -> list[np.ndarray]:
    """Outlines of regions and holes, (N, 2) x and y, in halves of a mask's pixel."""
    x, y, width, height = cv2.boundingRect(pixels)
    # At twice the size, the outline of a region encloses its pixels and does not run through their middles.
    doubled = pixels[y : y + height, x : x + width].repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [contour[:, 0].astype(np.int32) + np.array([2 * x, 2 * y], np.int32) for contour in contours]


def _pieces(contours: list[np.ndarray], tolerance: float, scale: np.ndarray) -> list[str]:
    return [_path(_simplified(contour, tolerance), scale) for contour in contours]


def _simplified(contour: np.ndarray, tolerance: float) -> np.ndarray:
    points = cv2.approxPolyDP(contour, tolerance, True)[:, 0]
    if len(points) > 2:
        return points
    # A region smaller than the tolerance stays as its bounding box.
    (left, top), (right, bottom) = contour.min(axis=0), contour.max(axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _path(points: np.ndarray, scale: np.ndarray) -> str:
    units = np.rint((points + 0.5) / 2 * scale * UNITS).astype(int)
    # Relative steps; a minus sign parts two numbers as well as a space does.
    steps = " ".join(str(number) for step in np.diff(units, axis=0).tolist() for number in step).replace(" -", "-")
    return f"M{units[0][0]} {units[0][1]}l{steps}z"


def _within(pieces: list[str], contours: list[np.ndarray]) -> tuple[list[str], int]:
    """The pieces of the largest contours that keep within the budget, in their order, and the number of the others."""
    if sum(map(len, pieces)) <= BUDGET:
        return pieces, 0
    room, kept = BUDGET, set()
    for number in sorted(range(len(pieces)), key=lambda n: (-len(contours[n]), n)):
        if len(pieces[number]) <= room:
            kept.add(number)
            room -= len(pieces[number])
    return [piece for number, piece in enumerate(pieces) if number in kept], len(pieces) - len(kept)


def _rings(pixels: np.ndarray, scale: np.ndarray) -> list[tuple[int, int]]:
    _, _, boxes, centers = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    small = [
        tuple(np.rint((center + 0.5) * scale * UNITS).astype(int).tolist())
        for box, center in zip(boxes[1:], centers[1:], strict=True)
        if max(box[cv2.CC_STAT_WIDTH] * scale[0], box[cv2.CC_STAT_HEIGHT] * scale[1]) < SMALL
    ]
    # A mask of specks is noise; circles around each would hide the image.
    return small if len(small) <= MOST_RINGS else []
