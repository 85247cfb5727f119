"""Why tokens have the scores that they have: what a detector can say about a region that it marked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.batches import Picked, in_passes, tile_batches
from robis.detectors.jobs import Compute, ScorerJob
from robis.encoders.build import build_encoder
from robis.encoders.devices import autocast, pick_device
from robis.encoders.encoder import Encoder
from robis.tiles.files import TileStore
from robis.tiles.ignored import ignored_cells
from robis.tiles.store import open_tiles
from robis.tiles.windows import Window

if TYPE_CHECKING:
    import pandas as pd


class Explainer:
    """Tokens of tiles as the detector compares them, and the evidence for regions of them.

    This one gives the tokens of the run's encoder and no evidence.

    Attributes:
        columns: column -> dtype of a row of evidence.
        encoder: on the computing device.
        widths: channels of a token, for each block.
    """

    columns: ClassVar[Mapping[str, str]] = {}

    def __init__(self, encoder: Encoder, compute: Compute) -> None:
        self.encoder, self.widths = encoder, list(encoder.widths)
        self.device = encoder.mean.device
        # A CPU computes a tile per thread, and keeps no more of their tokens; a GPU computes whole batches.
        at_once = max(1, compute.threads) if self.device.type == "cpu" else compute.batch_size
        self.compute = replace(compute, batch_size=at_once)

    def grid(self, window: Window) -> tuple[int, int]:
        """Rows and columns of the tokens of a tile."""
        return self.encoder.grid, self.encoder.grid

    def encoded(self, store: TileStore, numbers: Sequence[int]) -> Iterator[list[Tensor]]:
        """For each of some tiles its tokens (T, C) of each block, and behind them what `evidence` needs."""
        tiles, _ = open_tiles(store.tiles, store.table)
        for _, batch in tile_batches(Picked(tiles, numbers), self.compute, self.device):
            with autocast(self.device, self.compute.precision):
                passes = in_passes(self.values, batch, self.compute)
            for of_pass in passes:
                yield from (list(values) for values in zip(*of_pass, strict=True))

    def values(self, tiles: Tensor) -> list[Tensor]:
        """(B, T, C) of each block, and (B, ...) of what `evidence` needs, given uint8 tiles (B, s, s, 3) RGB."""
        return self.encoder(tiles)

    def ignored(self, rows: pd.DataFrame, tile: int) -> np.ndarray:
        """Numbers of the ignored tokens of a tile, given the tile table."""
        return np.flatnonzero(ignored_cells(rows, (self.encoder.grid, self.encoder.grid), [tile]))

    def evidence(self, values: Sequence[Tensor], cells: np.ndarray) -> list[dict[str, Any]]:
        """Rows with `columns` about a region of a tile, and the number of the `token` that they are about.

        Args:
            values: of the tile, see `encoded`.
            cells: numbers of the region's tokens.
        """
        return []

    def embedding(self, values: Sequence[Tensor], cells: np.ndarray) -> np.ndarray:
        """Mean of a region's tokens, each divided by its length, block after block: float32 (sum of `widths`,)."""
        chosen = torch.from_numpy(cells).to(self.device)
        blocks = [F.normalize(block[chosen].float(), dim=-1).mean(0) for block in values[: len(self.widths)]]
        embedding: np.ndarray = torch.cat(blocks).cpu().numpy()
        return embedding


def plain_explainer(job: ScorerJob) -> Explainer:
    """The tokens of a run's encoder, without evidence."""
    encoder = build_encoder(**job.encoder, seed=job.options.get("seed", 0))
    return Explainer(encoder.to(pick_device(job.compute.device)), job.compute)


def token_box(window: Window, grid: tuple[int, int], token: int, sides: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image that a token of a tile stands for: x, y, width and height in whole pixels.

    Args:
        window: the tile's.
        grid: its rows and columns of tokens.
        token: number of the token, row by row.
        sides: height and width of the image, which the box does not leave.
    """
    row, column = divmod(token, grid[1])
    left, right = _edges(window.x, window.width, grid[1], column, sides[1])
    top, bottom = _edges(window.y, window.height, grid[0], row, sides[0])
    return left, top, right - left, bottom - top


def _edges(start: int, length: int, cells: int, cell: int, end: int) -> tuple[int, int]:
    """First and last whole pixel, 1 beyond, of a cell of a window's axis, inside the image."""
    first = min(math.floor(start + length * cell / cells), end - 1)
    return first, max(first + 1, min(end, math.ceil(start + length * (cell + 1) / cells)))


def window_of(row: Mapping[Any, Any] | pd.Series) -> Window:
    """The window of a row of a tile table."""
    return Window(*(int(row[name]) for name in ("row", "col", "x", "y", "width", "height")))
