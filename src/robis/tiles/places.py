"""Where the tiles of an image lie in its map, for a band of the map's rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

BLENDS = ("mean", "feather", "central")

# x, y, width and height of a window in image pixels.
Place = tuple[int, int, int, int]


def merged_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Size of an image's map: round(height * scale), round(width * scale), at least one pixel."""
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True, eq=False)
class Part:
    """Where a tile lies in a band of the image's map.

    Attributes:
        tile: its number.
        size: height and width of the tile's map.
        place: its part of the band.
        seen: the part of the tile's map that lies there.
        owned: bool, as large as that part: pixels that are taken from this tile only; None: all are summed.
    """

    tile: int
    size: tuple[int, int]
    place: tuple[slice, slice]
    seen: tuple[slice, slice]
    owned: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Band:
    """Where the tiles of an image lie in some rows of its map.

    Attributes:
        parts: one per window that has a pixel there, in the order of the windows.
        weight: float32 (h, W), positive: divisor of the sum over the tiles.
    """

    parts: tuple[Part, ...]
    weight: np.ndarray


# Most images of a category have the same size.
@lru_cache(maxsize=4)
def band_of(
    windows: tuple[Place, ...], height: int, width: int, scale: float, blend: str, band: tuple[int, int]
) -> Band:
    """Where tiles lie in the rows from `band[0]` up to `band[1]` of a map; see `robis.tiles.merge.merge_tiles`."""
    columns = merged_size(height, width, scale)[1]
    weight = np.zeros((band[1] - band[0], columns), np.float32)
    parts = []
    for tile, window in enumerate(windows):
        size, top, left = _in_map(window, scale)
        first, stop = max(top, band[0]), min(top + size[0], band[1])
        if first >= stop or left >= columns:
            continue
        place = np.s_[first - band[0] : stop - band[0], left : left + size[1]]
        seen = np.s_[first - top : stop - top, : columns - left]
        weight[place] += feather(size)[seen] if blend == "feather" else 1
        parts.append(Part(tile, size, place, seen))
    if blend == "central":
        parts = _with_owners(parts, weight.shape)
        np.minimum(weight, 1, out=weight)
    return Band(tuple(parts), np.maximum(weight, np.finfo(np.float32).tiny, out=weight))


def _in_map(window: Place, scale: float) -> tuple[tuple[int, int], int, int]:
    """Height and width of a window's map, and the row and the column of the image's map where it begins."""
    x, y, width, height = window
    return (max(1, round(height * scale)), max(1, round(width * scale))), round(y * scale), round(x * scale)


def _with_owners(parts: list[Part], shape: tuple[int, ...]) -> list[Part]:
    """The parts with the pixels that each tile owns: those nearest to its center, on ties of the first tile."""
    nearest, owner = np.full(shape, np.inf), np.zeros(shape, np.int32)
    for number, part in enumerate(parts):
        # In half pixels: whole numbers, so that ties are exact.
        down, right = (2.0 * np.arange(n) + 1 - n for n in part.size)
        distance = (down[:, None] ** 2 + right[None, :] ** 2)[part.seen]
        nearer = distance < nearest[part.place]
        nearest[part.place][nearer] = distance[nearer]
        owner[part.place][nearer] = number
    return [replace(part, owned=owner[part.place] == number) for number, part in enumerate(parts)]


def fill_gaps(merged: np.ndarray, windows: tuple[Place, ...], scale: float) -> np.ndarray:
    """Fill pixels that rounding left without a tile with their nearest neighbor, in place.

    In a grid of windows such a pixel lies in a row or a column without any tile. Where windows are missing in the grid,
    their places are filled as well.
    """
    _fill_lines(merged, windows, scale)
    if len(windows) < len({window[0] for window in windows}) * len({window[1] for window in windows}):
        covered = np.zeros(merged.shape, bool)
        for window in windows:
            (height, width), top, left = _in_map(window, scale)
            covered[top : top + height, left : left + width] = True
        _fill_lines(covered, windows, scale)
        # Every covered pixel has a label, which the pixels around it share.
        labels = cv2.distanceTransformWithLabels(
            (~covered).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )[1]
        values = np.zeros(int(labels.max()) + 1, merged.dtype)
        values[labels[covered]] = merged[covered]
        merged[~covered] = values[labels[~covered]]
    return merged


def _fill_lines(values: np.ndarray, windows: tuple[Place, ...], scale: float) -> None:
    """Fill rows and columns without a tile with the nearest that has one, in place."""
    for axis, nearest in enumerate(_nearest(windows, *values.shape, scale)):
        if nearest is not None:
            lines = values.swapaxes(0, axis)
            gaps = np.flatnonzero(nearest != np.arange(len(nearest)))
            lines[gaps] = lines[nearest[gaps]]


@lru_cache(maxsize=4)
def _nearest(windows: tuple[Place, ...], rows: int, columns: int, scale: float) -> tuple[np.ndarray | None, ...]:
    """For each row and each column of a map the nearest one that has a tile; None where all have one."""
    covered = np.zeros(rows, bool), np.zeros(columns, bool)
    for window in windows:
        size, *begin = _in_map(window, scale)
        for axis in (0, 1):
            covered[axis][begin[axis] : begin[axis] + size[axis]] = True
    return tuple(map(_nearest_covered, covered))


def _nearest_covered(covered: np.ndarray) -> np.ndarray | None:
    if covered.all():
        return None
    with_tile = np.flatnonzero(covered)
    nearest: np.ndarray = with_tile[np.abs(np.arange(len(covered))[:, None] - with_tile).argmin(axis=1)]
    return nearest


@lru_cache(maxsize=4)
def feather(size: tuple[int, int]) -> np.ndarray:
    """Weights that fall linearly from a tile's center to its border, where they are still positive."""
    rows, cols = (np.minimum(np.arange(n) + 1, n - np.arange(n)).astype(np.float32) for n in size)
    return rows[:, None] * cols[None, :]
