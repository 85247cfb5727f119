"""The ignored pixels of tiles: kept in the tile table, and asked for on the grid of a map or of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from robis.io.ignored import covered_at, encode
from robis.tiles.windows import Window

if TYPE_CHECKING:
    import pandas as pd

# Of a tile table; only where a pixel of some image is ignored.
COLUMN = "ignored"


def tile_ignored(ignored: np.ndarray | None, window: Window) -> bytes | None:
    """The ignored pixels of a window of an image, encoded; None without any.

    Args:
        ignored: of the image, bool (H, W).
        window: what is beyond the image is not ignored.
    """
    if ignored is None:
        return None
    inside = ignored[window.y : window.y + window.height, window.x : window.x + window.width]
    if not inside.any():
        return None
    pixels = np.zeros((window.height, window.width), bool)
    pixels[: inside.shape[0], : inside.shape[1]] = inside
    return encode(pixels)


def has_ignored(rows: pd.DataFrame) -> bool:
    """Whether a pixel of some tile of a table is ignored."""
    return COLUMN in rows and bool(rows[COLUMN].notna().any())


def ignored_cells(rows: pd.DataFrame, shape: tuple[int, int], numbers: Sequence[int] | None = None) -> np.ndarray:
    """The ignored cells of a grid over each of some tiles, see `robis.io.ignored.covered`.

    Args:
        rows: the tile table.
        shape: height and width of the grid.
        numbers: of the tiles; None: all.

    Returns:
        bool (n, *shape).
    """
    chosen = range(len(rows)) if numbers is None else numbers
    cells = np.zeros((len(chosen), *shape), bool)
    if has_ignored(rows):
        for place, png in enumerate(rows[COLUMN].iloc[list(chosen)]):
            of_tile = covered_at(png, *shape) if isinstance(png, bytes) else None
            if of_tile is not None:
                cells[place] = of_tile
    return cells


def kept_tokens(rows: pd.DataFrame, grid: int, numbers: Sequence[int] | None = None) -> np.ndarray | None:
    """Which tokens of tiles are not ignored: bool (n, grid * grid); None where all are kept."""
    if not has_ignored(rows):
        return None
    return ~ignored_cells(rows, (grid, grid), numbers).reshape(-1, grid * grid)
