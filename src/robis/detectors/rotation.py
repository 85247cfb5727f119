"""Reference images and rotated copies of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from robis.detectors.few_shot import choose_references
from robis.detectors.jobs import TrainJob
from robis.io.arrays import release
from robis.io.ignored import left_out
from robis.tiles.ignored import has_ignored, ignored_cells
from robis.tiles.store import open_tiles

if TYPE_CHECKING:
    import pandas as pd

# Of a turned mask: pixels above are ignored.
HALF = 127

# Makes a copy (1, 2, ...) of a tile, uint8 (s, s, 3) RGB, given its number in the store.
Rotate = Callable[[np.ndarray, int, int], np.ndarray]


class RotatedTiles:
    """Tiles, each followed by rotated copies of it."""

    def __init__(
        self,
        store: np.ndarray,
        numbers: np.ndarray,
        copies: int,
        rotate: Rotate,
        rows: pd.DataFrame | None = None,
    ) -> None:
        """Take the tiles of these numbers of a store, uint8 (N, s, s, 3) RGB, with so many copies each.

        rows: the table of the store; None: no pixel is ignored.
        """
        self.store, self.numbers, self.copies, self.rotate, self.rows = store, numbers, copies, rotate, rows

    def __len__(self) -> int:
        return len(self.numbers) * (1 + self.copies)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        tiles = np.stack([self._tile(*divmod(place, 1 + self.copies)) for place in range(*chosen.indices(len(self)))])
        release(self.store)
        return tiles

    def kept_tokens(self, grid: int) -> np.ndarray | None:
        """Which tokens of the tiles and copies are not ignored, bool (n, grid * grid); None where none is."""
        if self.rows is None or not has_ignored(self.rows):
            return None
        places = [divmod(place, 1 + self.copies) for place in range(len(self))]
        pixels = ignored_cells(self.rows, self.store.shape[1:3], self.numbers.tolist())
        tokens = ignored_cells(self.rows, (grid, grid), self.numbers.tolist())
        ignored = [self._turned(pixels, place, copy, grid) if copy else tokens[place] for place, copy in places]
        return ~np.array(ignored).reshape(-1, grid * grid)

    def _turned(self, pixels: np.ndarray, place: int, copy: int, grid: int) -> np.ndarray:
        """The ignored tokens of a copy, whose ignored pixels are turned as its others are."""
        mask = np.dstack([pixels[place].astype(np.uint8) * 255] * 3)
        return left_out(self.rotate(mask, int(self.numbers[place]), copy)[..., 0] > HALF, grid, grid)

    def _tile(self, place: int, copy: int) -> np.ndarray:
        number = int(self.numbers[place])
        tile = np.asarray(self.store[number])
        return self.rotate(tile, number, copy) if copy else tile


def reference_tiles(section: str, job: TrainJob, rotate: Rotate) -> RotatedTiles:
    """The tiles to learn from: of the reference images with their copies, or of all images without copies.

    Args:
        section: of the detector, for messages.
        job: its options are
            shots: number of reference images; 0: all training images;
            reference_seed: of the draw of references;
            references: reference sample ids; the first `shots` are used. Drawn at random if empty;
            rotations: rotated copies of each tile of a reference image.
        rotate: makes the copies.

    Raises:
        ConfigError, DataError: see `choose_references`.
    """
    store, rows = open_tiles(job.store.tiles, job.store.table)
    options = job.options
    if not options["shots"]:
        return RotatedTiles(store, np.arange(len(store)), 0, rotate, rows)
    names = sorted(rows["sample_id"].unique())
    chosen = choose_references(section, options, names, source=job.store.table)
    return RotatedTiles(store, np.flatnonzero(rows["sample_id"].isin(chosen)), options["rotations"], rotate, rows)
