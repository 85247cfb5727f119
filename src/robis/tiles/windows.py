"""Which windows cover an image (RoBiS, arXiv 2505.21152, Swin-Cropping)."""

from __future__ import annotations

import math
from dataclasses import dataclass

EDGES = ("pad", "shift")
# Values of `window` that take an image as a whole.
WHOLE = ("image", "joined")


@dataclass(frozen=True)
class Window:
    """A rectangle in image pixels, which may reach beyond the image, and its row and column in the grid."""

    row: int
    col: int
    x: int
    y: int
    width: int
    height: int


def origins(length: int, window: int, overlap: float, edge: str) -> list[int]:
    """First pixels of the windows along one axis.

    Published: step = int(window * (1 - overlap)), at 0, step, 2 step, ... until the axis is covered.
    With `edge="shift"` the last window ends at the border instead of beyond it.
    """
    step = max(1, int(window * (1 - overlap)))
    count = max(1, math.ceil((length - window) / step) + 1)
    starts = [n * step for n in range(count)]
    if edge == "shift":
        starts[-1] = max(0, length - window)
    return starts


def windows(height: int, width: int, window: int | str, overlap: float, edge: str) -> list[Window]:
    """The windows of one image, row by row; "image" and "joined" give a single one, the whole image."""
    if window in WHOLE:
        return [Window(0, 0, 0, 0, width, height)]
    side = int(window)
    return [
        Window(row, col, x, y, side, side)
        for row, y in enumerate(origins(height, side, overlap, edge))
        for col, x in enumerate(origins(width, side, overlap, edge))
    ]
