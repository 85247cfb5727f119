"""Ignored pixels of an image: how they are stored, which cells of a coarser grid they cover, and painting them over.

The one rule: a cell of any grid, be it a pixel of a map or a token, is ignored where at least half of its area is.
Where this would leave none of a grid although some pixel counts, the cells with such a pixel stay.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from robis.errors import DataError

# Of a cell's area; a little less than half, since areas are summed in float32.
COVERED = 0.5 - 1e-4


def encode(ignored: np.ndarray) -> bytes:
    """Ignored pixels, bool (H, W), as a PNG of 0 and 255."""
    _, data = cv2.imencode(".png", ignored.view(np.uint8) * np.uint8(255), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    return data.tobytes()


# Nearly all images of a category share their region, and few stages look at more than two grids of it.
@lru_cache(maxsize=4)
def decode(png: bytes) -> np.ndarray:
    """What `encode` was given, bool (H, W), not to be written to."""
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    ignored = np.asarray(pixels).astype(bool)
    ignored.setflags(write=False)
    return ignored


@lru_cache(maxsize=64)
def covered_at(png: bytes | None, height: int, width: int) -> np.ndarray | None:
    """`covered` of an encoded region, not to be written to; None where nothing is ignored."""
    return None if png is None else _frozen(covered(decode(png), height, width))


@lru_cache(maxsize=64)
def left_out_at(png: bytes | None, height: int, width: int) -> np.ndarray | None:
    """`left_out` of an encoded region, as `covered_at`."""
    return None if png is None else _frozen(left_out(decode(png), height, width))


def _frozen(cells: np.ndarray) -> np.ndarray | None:
    cells.setflags(write=False)
    return cells if cells.any() else None


def left_out(ignored: np.ndarray, height: int, width: int) -> np.ndarray:
    """The ignored cells of a grid: those that are `covered`, unless these are all cells although some pixel counts.

    Then only those without such a pixel: the narrow rest of a tile is scored, rather than taken for normal.
    """
    cells = covered(ignored, height, width)
    return ~touched(~ignored, height, width) if cells.all() else cells


def covered(ignored: np.ndarray, height: int, width: int) -> np.ndarray:
    """The cells of a grid over the same area of which at least half is ignored.

    Args:
        ignored: bool (H, W).
        height, width: of the grid. Along an axis with more cells than pixels a cell is as the pixel at its center.

    Returns:
        bool (height, width).
    """
    return _cells(ignored, height, width, lambda shares: shares >= COVERED)


def touched(marked: np.ndarray, height: int, width: int) -> np.ndarray:
    """The cells of a grid over the same area that hold any part of a marked pixel; arguments as of `covered`."""
    return _cells(marked, height, width, lambda shares: shares > 0)


def _cells(pixels: np.ndarray, height: int, width: int, rule: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The cells of a grid that a rule chooses by the share of their area that is marked."""
    rows, columns = min(height, pixels.shape[0]), min(width, pixels.shape[1])
    cells = pixels
    if (rows, columns) != pixels.shape:
        cells = rule(cv2.resize(pixels.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA))
    if (rows, columns) == (height, width):
        return np.array(cells)
    below, beside = (
        (2 * np.arange(cells_of) + 1) * pixels_of // (2 * cells_of)
        for cells_of, pixels_of in ((height, rows), (width, columns))
    )
    return np.array(cells[below[:, None], beside])


def filled(image: np.ndarray, ignored: np.ndarray | None) -> np.ndarray:
    """An image whose ignored pixels have the mean color of the others, so that what they showed reaches no network.

    Args:
        image: uint8 (H, W, 3) RGB.
        ignored: bool (H, W), not True everywhere; None: nothing is ignored, and the image is returned as it is.
    """
    if ignored is None:
        return image
    kept = (~ignored).view(np.uint8)
    painted = np.empty_like(image)
    painted[:] = np.rint(cv2.mean(image, kept)[:3]).astype(np.uint8)
    # Many times as fast as NumPy's indexing by a mask.
    return cv2.copyTo(image, kept, painted)


def require_kept(ignored: np.ndarray | None, source: str, grid: str) -> None:
    """Raise DataError where all cells of a grid are ignored."""
    if ignored is not None and ignored.all():
        raise DataError(
            f"{source}: dataset.ignore leaves none of its {grid}. At least half of each is ignored; ignore less of it."
        )
