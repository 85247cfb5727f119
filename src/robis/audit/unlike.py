"""Which images are unlike the others, and where: their tokens score each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from robis.detectors.jobs import Compute
from robis.detectors.mutual import mutual_token_scores
from robis.io.arrays import release
from robis.tiles.files import TileStore
from robis.tiles.store import cut, open_tiles
from robis.tiles.windows import Window

# A place with fewer tiles has no usual score.
FEWEST = 5


@dataclass(frozen=True)
class Unlikeness:
    """How unlike the others an image is.

    Attributes:
        score: highest score of a token beyond the usual one of its place; from -2 to 2, larger is less alike.
        box: x, y, width and height of that place in image pixels.
    """

    score: float
    box: tuple[int, int, int, int]


class Squares:
    """Tiles of several stores one after another, uint8 (N, size, size, 3); whole images of any size are resized."""

    def __init__(self, stores: Sequence[TileStore], size: int) -> None:
        opened = [open_tiles(store.tiles, store.table) for store in stores]
        self._arrays, self._size = [tiles for tiles, _ in opened], size
        # An image may have the same id in two splits.
        tables = [rows.assign(store=number) for number, (_, rows) in enumerate(opened)]
        self.rows = pd.concat(tables, ignore_index=True)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        rows = self.rows.iloc[chosen].to_dict("records")
        return np.stack([self._tile(row) for row in rows])

    def _tile(self, row: Mapping[Any, Any]) -> np.ndarray:
        array = self._arrays[row["store"]]
        tile = np.array(array[row["tile"]])
        release(array)
        return cut(tile, self._inside(row), self._size) if tile.shape[0] != self._size else tile

    def _inside(self, row: Mapping[Any, Any]) -> Window:
        return Window(row=0, col=0, x=0, y=0, width=row["width"], height=row["height"])


def find_unlike(
    stores: Sequence[TileStore],
    size: int,
    *,
    encoder: Mapping[str, Any],
    compute: Compute,
    scratch: Path,
) -> dict[tuple[int, str], Unlikeness]:
    """Score the images of several stores against each other.

    Args:
        stores: tiles of the images.
        size: side of a tile as the encoder takes it, in pixels.
        encoder: arguments of `build_encoder`.
        compute: how to compute.
        scratch: a path on the disk where temporary files may lie.

    Returns:
        By the number of the store and the sample's id.

    Raises:
        DataError: a damaged store, or tokens that are not finite.
    """
    tiles = Squares(stores, size)
    images, names = pd.factorize(pd.MultiIndex.from_frame(tiles.rows[["store", "sample_id"]]))
    scores = mutual_token_scores(tiles, images, encoder=encoder, compute=compute, scratch=scratch, rows=tiles.rows)
    scores = beyond_usual(scores, tiles.rows)
    # Ignored tokens have no score.
    highest = np.nan_to_num(scores, nan=-np.inf).reshape(len(scores), -1).max(1)
    best = pd.Series(highest).groupby(images).idxmax()
    return {
        (int(store), str(sample_id)): _of_tile(scores[tile], tiles.rows.iloc[tile])
        for (store, sample_id), tile in zip(names, best, strict=True)
    }


def beyond_usual(scores: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Scores (N, g, g) less the median at the same place of the same tile in all images, where there are enough.

    NaN stands for no score, and is no part of a median.
    """
    beyond = scores - np.nanmedian(scores)
    for tiles in rows.groupby(["row", "col"], sort=False).indices.values():
        of_place = scores[tiles]
        enough = np.isfinite(of_place).sum(0) >= FEWEST
        beyond[tiles] = np.where(enough, of_place - np.nanmedian(np.where(enough, of_place, 0), axis=0), beyond[tiles])
    return beyond


def _of_tile(scores: np.ndarray, row: Mapping[Any, Any] | pd.Series) -> Unlikeness:
    """The highest score of a tile's tokens (g, g), and the box of the tokens around it that reach half of it.

    NaN stands for no score.
    """
    highest = float(np.nanmax(scores))
    raised = (scores >= highest - abs(highest) / 2).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(raised, connectivity=8)
    top, left = np.unravel_index(int(np.nanargmax(scores)), scores.shape)
    x, y, width, height = (int(value) for value in boxes[labels[top, left]][:4])
    across, down = row["width"] / scores.shape[1], row["height"] / scores.shape[0]
    box = (row["x"] + x * across, row["y"] + y * down, width * across, height * down)
    return Unlikeness(highest, (round(box[0]), round(box[1]), max(1, round(box[2])), max(1, round(box[3]))))
