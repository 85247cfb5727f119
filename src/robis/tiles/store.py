"""The memory-mapped store of the tiles of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from robis.errors import DataError
from robis.io.arrays import new_array, release
from robis.io.atomic import atomic_file
from robis.io.images import read_image
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import read_table, write_table
from robis.io.threads import threaded
from robis.tiles.windows import Window, windows

TILE_COLUMNS = ["tile", "sample_id", "row", "col", "x", "y", "width", "height"]


Planned = tuple[IndexedSample, list[Window]]

# Pillow's filters, which antialias.
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def cut(image: np.ndarray, window: Window, size: int, resample: str = "bilinear") -> np.ndarray:
    """Cut one tile and resize it to uint8 (size, size, 3) RGB with one of Pillow's antialiased filters.

    Args:
        image: uint8 (H, W, 3) RGB.
        window: the rectangle to cut; what lies outside the image is black.
        size: side of the tile in pixels.
        resample: "bilinear" (RoBiS) or "bicubic" (the public code of MuSc and WinCLIP).
    """
    visible = image[window.y : window.y + window.height, window.x : window.x + window.width]
    if visible.shape[:2] != (window.height, window.width):
        padded = np.zeros((window.height, window.width, 3), np.uint8)
        padded[: visible.shape[0], : visible.shape[1]] = visible
        visible = padded
    if visible.shape[:2] == (size, size):
        return visible
    tile = Image.fromarray(np.ascontiguousarray(visible)).resize((size, size), FILTERS[resample])
    return np.asarray(tile)


def crop_split(
    samples: Path,
    root: Path,
    tiles: Path,
    table: Path,
    *,
    window: int | str,
    overlap: float,
    edge: str,
    size: int,
    resample: str = "bilinear",
    threads: int = 1,
) -> None:
    """Cut every image of a split into tiles: a uint8 (N, size, size, 3) RGB array on disk and its table.

    The array is filled through a memory map, so that memory holds a few images whatever the split's size.

    Raises:
        DataError: an image cannot be read or is not the size that the sample table says.
    """
    plan = [(sample, windows(sample.height, sample.width, window, overlap, edge)) for sample in read_samples(samples)]
    count = sum(len(found) for _, found in plan)
    with atomic_file(tiles) as partial:
        store = new_array(partial, np.uint8, (count, size, size, 3))

        def fill(job: tuple[int, Planned]) -> None:
            first, (sample, found) = job
            image = read_image(root / sample.image)
            if image.shape[:2] != (sample.height, sample.width):
                raise DataError(
                    f"{root / sample.image}: {image.shape[1]} x {image.shape[0]} pixels; the sample table says "
                    f"{sample.width} x {sample.height}. The file changed while robis ran; run it again."
                )
            for n, one in enumerate(found):
                store[first + n] = cut(image, one, size, resample)
            release(store)

        for _ in threaded(fill, zip(_starts(plan), plan, strict=True), threads):
            pass
        write_table(table, _tile_table(plan))


def _starts(plan: list[Planned]) -> Iterator[int]:
    first = 0
    for _, found in plan:
        yield first
        first += len(found)


def _tile_table(plan: list[Planned]) -> pd.DataFrame:
    rows = [(sample.sample_id, *astuple(one)) for sample, found in plan for one in found]
    table = pd.DataFrame(rows, columns=TILE_COLUMNS[1:])
    table.insert(0, "tile", np.arange(len(table), dtype=np.int64))
    return table


def open_tiles(tiles: Path, table: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Map a tile store: uint8 (N, size, size, 3) RGB, read from disk as it is used, and its table.

    Raises DataError when the two do not belong together.
    """
    rows = read_table(table)
    try:
        store = np.load(tiles, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{tiles}: not a readable tile store ({error}).") from error
    if len(store) != len(rows):
        raise DataError(f"{tiles}: {len(store)} tiles; its table {table} has {len(rows)} rows. Delete both.")
    return store, rows


def map_size(window: int | str, scale: float, input_size: int) -> int:
    """Side of a tile's raw map in map pixels: round(window * scale), or the tile's own for whole images."""
    return input_size if window == "image" else max(1, round(int(window) * scale))
