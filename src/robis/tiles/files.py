"""Where the tiles of a split lie, and the maps of them. Quick to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TileStore:
    """A split's tiles.

    Attributes:
        tiles: .npy, uint8 (N, s, s, 3) RGB; with images as they are (N, H, W, 3) of the largest, black beyond each.
        table: Parquet with the columns `robis.tiles.store.TILE_COLUMNS`, one row per tile, in the same order, and
            `robis.tiles.ignored.COLUMN` where pixels are ignored.
    """

    tiles: Path
    table: Path


@dataclass(frozen=True)
class TileMaps:
    """What inference writes.

    Attributes:
        maps: .npy, (N, m, m): float16, or float32 where a detector's scores lie in a band too narrow for float16. Maps
            of whole images fill the top left of their rows, (N, m, n).
        table: the tile table, with what else the detector says of each tile.
    """

    maps: Path
    table: Path
