"""From the raw maps of tiles to one anomaly map per image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from robis.datasets.table import IndexedSample, read_samples
from robis.errors import DataError
from robis.files import atomic_folder, threaded, write_map
from robis.tiling import open_tiles

FULL_RANGE = 255.0


def map_range(maps: np.ndarray, block: int = 64) -> tuple[float, float]:
    """Smallest and largest value of raw maps (N, m, m), read a block at a time."""
    blocks = [maps[start : start + block] for start in range(0, len(maps), block)]
    return min(float(b.min()) for b in blocks), max(float(b.max()) for b in blocks)


def merged_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Size of an image's map: round(height * scale), round(width * scale), at least one pixel."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def merge_tiles(
    maps: Iterable[np.ndarray],
    windows: Iterable[tuple[int, int, int, int]],
    height: int,
    width: int,
    *,
    scale: float,
    blend: str = "mean",
) -> np.ndarray:
    """Merge the maps of one image's tiles.

    Every map lies at its window's origin times scale, rounded to the nearest map pixel; where tiles
    overlap, values are averaged ("mean", published) or weighted by the distance to the tile's border
    ("feather"); what lies outside the image is cut.

    Args:
        maps: (m, m) each, any float type.
        windows: (x, y, width, height) of each tile in image pixels, in the order of the maps.
        height, width: size of the image in pixels.
        scale: map pixels per image pixel.
        blend: "mean" or "feather".

    Returns:
        float32 (round(height * scale), round(width * scale)).
    """
    rows, cols = merged_size(height, width, scale)
    total = np.zeros((rows, cols), np.float32)
    weight = np.zeros((rows, cols), np.float32)
    for tile_map, (x, y, window_width, window_height) in zip(maps, windows, strict=True):
        size = (max(1, round(window_height * scale)), max(1, round(window_width * scale)))
        values: np.ndarray = np.asarray(tile_map, np.float32)
        if values.shape != size:
            values = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
        top, left = round(y * scale), round(x * scale)
        place = np.s_[top : top + size[0], left : left + size[1]]
        seen = np.s_[: max(0, rows - top), : max(0, cols - left)]
        if blend == "feather":
            feather = _feather(size)[seen]
            total[place] += values[seen] * feather
            weight[place] += feather
        else:
            total[place] += values[seen]
            weight[place] += 1
    return _fill_gaps(total, weight)


def _feather(size: tuple[int, int]) -> np.ndarray:
    """Weights that fall linearly from a tile's center to its border and stay positive there."""
    rows, cols = (np.minimum(np.arange(n) + 1, n - np.arange(n)).astype(np.float32) for n in size)
    return rows[:, None] * cols[None, :]


def _fill_gaps(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Divide by the weights; rows and columns that rounding left without a tile repeat their neighbor.

    Windows form a grid, so a pixel without a tile lies in a row or a column that has none at all.
    """
    merged = total / np.maximum(weight, np.finfo(np.float32).tiny)
    for axis in (0, 1):
        covered = np.flatnonzero(weight.any(axis=1 - axis))
        if len(covered) < weight.shape[axis]:
            distance = np.abs(np.arange(weight.shape[axis])[:, None] - covered)
            merged = merged.take(covered[distance.argmin(axis=1)], axis=axis)
    return merged


def merge_split(
    samples: Path,
    maps: Path,
    table: Path,
    range_maps: Path,
    folder: Path,
    *,
    scale: float,
    blend: str,
    threads: int = 1,
) -> None:
    """Write one float16 anomaly map per image of a split, in the range 0..255 of `range_maps`.

    Raw maps are scaled together: 0 is the smallest and 255 the largest value of `range_maps`, the split's
    own (published) or the validation split's; values above are kept, values below become 0.

    Raises:
        DataError: an image has no tile maps.
    """
    raw, rows = open_tiles(maps, table)
    low, high = map_range(np.load(range_maps, mmap_mode="r"))
    factor = FULL_RANGE / (high - low) if high > low else 0.0
    tiles_of = {str(sample_id): own for sample_id, own in rows.groupby("sample_id", sort=False)}
    images = read_samples(samples)
    without = [image.sample_id for image in images if image.sample_id not in tiles_of]
    if without:
        raise DataError(f"{table}: no tile maps of {without[0]} ({len(without)} images in all). Delete {maps}.")

    with atomic_folder(folder) as partial:

        def write(image: IndexedSample) -> None:
            own = tiles_of[image.sample_id]
            windows = own[["x", "y", "width", "height"]].itertuples(index=False, name=None)
            merged = merge_tiles(
                (raw[tile] for tile in own["tile"]), windows, image.height, image.width, scale=scale, blend=blend
            )
            scaled = np.maximum((merged - np.float32(low)) * np.float32(factor), 0)
            write_map(partial / f"{image.sample_id}.tiff", np.minimum(scaled, np.finfo(np.float16).max))

        for _ in threaded(write, images, threads):
            pass
