"""The ignored pixels of tiles: kept in the tile table, and asked for on the grid of a map or of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from robis.io.ignored import covered, decode, encode, left_out_at
from robis.tiles.places import Place
from robis.tiles.windows import Window

if TYPE_CHECKING:
    import pandas as pd

# Of a tile table; only where a pixel of some image is ignored.
COLUMN = "ignored"


# Nearly all images of a category have the same region and the same windows.
@lru_cache(maxsize=1024)
def tile_ignored(png: bytes | None, window: Window) -> bytes | None:
    """The ignored pixels of a window of an image, encoded; None without any.

    Args:
        png: those of the image, encoded.
        window: what is beyond the image is not ignored.
    """
    if png is None:
        return None
    inside = decode(png)[window.y : window.y + window.height, window.x : window.x + window.width]
    if not inside.any():
        return None
    pixels = np.zeros((window.height, window.width), bool)
    pixels[: inside.shape[0], : inside.shape[1]] = inside
    return encode(pixels)


# As above.
@lru_cache(maxsize=64)
def contributing(places: tuple[Place, ...], pngs: tuple[bytes | None, ...]) -> tuple[bool, ...]:
    """Which tiles of an image make its map and score: all but those that are mostly ignored where others show the rest.

    What counts of such a tile is a narrow rest that its tokens hardly see, and that other tiles see better.

    Args:
        places: x, y, width and height of each tile in image pixels.
        pngs: the ignored pixels of each, encoded; None without any.
    """
    counting = [None if png is None else ~decode(png) for png in pngs]
    used = [True] * len(places)
    # The emptiest first; of equal ones the last.
    for tile in sorted(range(len(places)), key=lambda tile: (_area(counting[tile]), -tile)):
        rest = counting[tile]
        if rest is None or not covered(~rest, 1, 1).all():
            continue
        x, y, width, height = places[tile]
        alone = np.array(rest)
        for other, (left, top, across, down) in enumerate(places):
            if other != tile and used[other]:
                alone[max(0, top - y) : max(0, top + down - y), max(0, left - x) : max(0, left + across - x)] = False
        used[tile] = bool(alone[:height, :width].any())
    return tuple(used) if any(used) else (True,) * len(places)


def _area(counting: np.ndarray | None) -> float:
    return np.inf if counting is None else float(counting.sum())


def contributing_rows(rows: pd.DataFrame) -> np.ndarray:
    """`contributing` of all rows of a tile table, bool (N,)."""
    if not has_ignored(rows):
        return np.ones(len(rows), bool)
    used = np.zeros(len(rows), bool)
    columns = [rows[name].tolist() for name in ("x", "y", "width", "height")]
    places, pngs = list(zip(*columns, strict=True)), [ignored_of(rows, number) for number in range(len(rows))]
    for numbers in rows.groupby("sample_id", sort=False).indices.values():
        used[numbers] = contributing(tuple(places[n] for n in numbers), tuple(pngs[n] for n in numbers))
    return used


def has_ignored(rows: pd.DataFrame) -> bool:
    """Whether a pixel of some tile of a table is ignored."""
    return COLUMN in rows and bool(rows[COLUMN].notna().any())


def ignored_of(rows: pd.DataFrame, number: int) -> bytes | None:
    """The ignored pixels of a tile, encoded; None without any."""
    png = rows[COLUMN].iloc[number] if COLUMN in rows else None
    return png if isinstance(png, bytes) else None


def ignored_cells(rows: pd.DataFrame, shape: tuple[int, int], numbers: Sequence[int] | None = None) -> np.ndarray:
    """The ignored cells of a grid over each of some tiles, see `robis.io.ignored.left_out`.

    Args:
        rows: the tile table.
        shape: height and width of the grid.
        numbers: of the tiles; None: all.

    Returns:
        bool (n, *shape).
    """
    chosen = range(len(rows)) if numbers is None else numbers
    return cells_of(rows[COLUMN].iloc[list(chosen)] if has_ignored(rows) else [None] * len(chosen), shape)


def kept_tokens(rows: pd.DataFrame, grid: int) -> np.ndarray | None:
    """Which tokens of tiles are not ignored, bool (N, grid * grid); None where none is."""
    return ~ignored_cells(rows, (grid, grid)).reshape(-1, grid * grid) if has_ignored(rows) else None


def cells_of(pngs: Iterable[bytes | None], shape: tuple[int, int]) -> np.ndarray:
    """The same for encoded regions."""
    parts = [left_out_at(png, *shape) if isinstance(png, bytes) else None for png in pngs]
    nothing = np.zeros(shape, bool)
    return np.array([nothing if part is None else part for part in parts], bool).reshape(-1, *shape)
