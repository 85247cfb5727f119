"""Which tile, and which tokens of it, show a region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robis.evaluation.regions import Region
from robis.tiles.windows import Window

# Shares of a pixel that are rounding and no overlap.
NOTHING = 1e-6
# Image pixels per pixel of a mask: vertical, horizontal.
Scale = tuple[float, float]


def best_tiles(labels: np.ndarray, regions: Sequence[Region], windows: Sequence[Window], scale: Scale) -> list[int]:
    """For each region of a mask the window that holds most of it, of several the one whose center is nearest.

    Args:
        labels: int32 (H, W), see `labeled_regions`.
        regions: those of the mask.
        windows: of the image's tiles, at least one.
        scale: image pixels per pixel of the mask.

    Returns:
        Places in `windows`.
    """
    held = np.stack([_pixels_inside(labels, window, scale, len(regions) + 1) for window in windows])
    return [_nearest(region, windows, np.flatnonzero(of == of.max())) for region, of in _with(held, regions)]


def _with(held: np.ndarray, regions: Sequence[Region]) -> list[tuple[Region, np.ndarray]]:
    return [(region, held[:, region.label]) for region in regions]


def _pixels_inside(labels: np.ndarray, window: Window, scale: Scale, count: int) -> np.ndarray:
    rows, columns = (
        slice(int(start // step), int(-(-(start + length) // step)))
        for start, length, step in ((window.y, window.height, scale[0]), (window.x, window.width, scale[1]))
    )
    return np.bincount(labels[rows, columns].ravel(), minlength=count)


def _nearest(region: Region, windows: Sequence[Window], places: np.ndarray) -> int:
    x, y, width, height = region.box

    def distance(place: int) -> float:
        window = windows[place]
        across = (window.x + window.width / 2) - (x + width / 2)
        return float(across**2 + ((window.y + window.height / 2) - (y + height / 2)) ** 2)

    return min(map(int, places), key=distance)


def covered_cells(
    labels: np.ndarray, region: Region, scale: Scale, window: Window, grid: tuple[int, int]
) -> np.ndarray:
    """The cells of a grid over a window that a region overlaps, at least one.

    Args:
        labels: int32 (H, W), see `labeled_regions`.
        region: one of them.
        scale: image pixels per pixel of the mask.
        window: of a tile.
        grid: rows and columns of tokens in it.

    Returns:
        Numbers of the cells, int64, ascending, row by row.
    """
    rows, columns = region.place
    inside = (labels[region.place] == region.label).astype(np.float32)
    below = _overlaps((rows.start, rows.stop), scale[0], (window.y, window.height), grid[0])
    beside = _overlaps((columns.start, columns.stop), scale[1], (window.x, window.width), grid[1])
    cells = np.flatnonzero(below.astype(np.float32) @ inside @ beside.astype(np.float32).T > 0)
    return cells if len(cells) else np.array([_cell_of_center(region, window, grid)])


def _overlaps(pixels: tuple[int, int], step: float, side: tuple[int, int], cells: int) -> np.ndarray:
    """Which pixels of a mask each cell of an axis overlaps, bool (cells, n).

    Args:
        pixels: the first, and the one after the last.
        step: image pixels per pixel of the mask.
        side: start and length of the window in image pixels.
        cells: into which it is divided.
    """
    starts = np.arange(*pixels) * step - side[0]
    size = side[1] / cells
    edges = np.arange(cells)[:, None] * size
    shared = np.minimum(starts + step, edges + size) - np.maximum(starts, edges)
    overlapping: np.ndarray = shared > NOTHING
    return overlapping


def _cell_of_center(region: Region, window: Window, grid: tuple[int, int]) -> int:
    x, y, width, height = region.box
    row = int((y + height / 2 - window.y) / window.height * grid[0])
    column = int((x + width / 2 - window.x) / window.width * grid[1])
    return min(max(row, 0), grid[0] - 1) * grid[1] + min(max(column, 0), grid[1] - 1)
