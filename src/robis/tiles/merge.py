"""From the raw maps of tiles to one anomaly map per image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from robis.arrays.float16 import add_to, to_float16, value_range
from robis.errors import DataError
from robis.io.arrays import release
from robis.io.atomic import atomic_folder
from robis.io.maps import write_map
from robis.io.samples import IndexedSample, read_samples
from robis.io.threads import threaded
from robis.tiles.store import open_tiles

FULL_RANGE = 255.0


def map_range(maps: np.ndarray, block: int = 64) -> tuple[float, float]:
    """Smallest and largest value of raw maps (N, m, m), read a block at a time."""
    ranges = []
    for start in range(0, len(maps), block):
        ranges.append(value_range(maps[start : start + block]))
        release(maps)
    low, high = np.array(ranges).T
    return float(low.min()), float(high.max())


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
    overlap, values are averaged ("mean", RoBiS) or weighted by the distance to the tile's border
    ("feather"), or each is taken from the tile whose center is nearest, the first on ties ("central":
    SuperADD's rule, there for tokens); what lies outside the image is cut.

    Args:
        maps: (m, m) each, any float type.
        windows: (x, y, width, height) of each tile in image pixels, in the order of the maps.
        height, width: size of the image in pixels.
        scale: map pixels per image pixel.
        blend: "mean", "feather" or "central".

    Returns:
        float32 (round(height * scale), round(width * scale)).
    """
    layout = _layout(tuple(windows), height, width, scale, blend)
    total = np.zeros(layout.weight.shape, np.float32)
    for tile_map, part in zip(maps, layout.parts, strict=True):
        values: np.ndarray = np.asarray(tile_map)
        if values.dtype not in (np.float16, np.float32) or values.shape != part.size:
            values = values.astype(np.float32)
        if values.shape != part.size:
            values = cv2.resize(values, part.size[::-1], interpolation=cv2.INTER_LINEAR)
        if blend == "feather":
            total[part.place] += values[part.seen] * _feather(part.size)[part.seen]
        elif part.own is not None:
            np.copyto(total[part.place], values[part.seen], where=part.own)
        else:
            add_to(total[part.place], values[part.seen])
    return _fill_gaps(np.divide(total, layout.weight, out=total), layout)


@dataclass(frozen=True, eq=False)
class _Part:
    """Where a tile of map size `size` lies in the image's map, and the part of the tile that is seen there.

    `own`, bool as large as what is seen, says which pixels are taken from this tile alone; None: they are summed.
    """

    size: tuple[int, int]
    place: tuple[slice, slice]
    seen: tuple[slice, slice]
    own: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _Layout:
    """What merging the tiles of an image needs to know besides their values.

    Attributes:
        parts: one for each window.
        weight: float32 (H, W), positive: what the sum over the tiles is divided by.
        rows, cols: for each row and column the nearest that has a tile; None where all have.
    """

    parts: tuple[_Part, ...]
    weight: np.ndarray
    rows: np.ndarray | None
    cols: np.ndarray | None


# Images of one category mostly have the same size.
@lru_cache(maxsize=4)
def _layout(
    windows: tuple[tuple[int, int, int, int], ...], height: int, width: int, scale: float, blend: str
) -> _Layout:
    rows, cols = merged_size(height, width, scale)
    weight = np.zeros((rows, cols), np.float32)
    parts = []
    for x, y, window_width, window_height in windows:
        size = (max(1, round(window_height * scale)), max(1, round(window_width * scale)))
        top, left = round(y * scale), round(x * scale)
        place = np.s_[top : top + size[0], left : left + size[1]]
        seen = np.s_[: max(0, rows - top), : max(0, cols - left)]
        weight[place] += _feather(size)[seen] if blend == "feather" else 1
        parts.append(_Part(size, place, seen))
    if blend == "central":
        parts = _with_owners(parts, (rows, cols))
        np.minimum(weight, 1, out=weight)
    nearest = [_nearest_covered(np.any(weight, axis=1 - axis)) for axis in (0, 1)]
    return _Layout(tuple(parts), np.maximum(weight, np.finfo(np.float32).tiny), *nearest)


def _with_owners(parts: list[_Part], shape: tuple[int, int]) -> list[_Part]:
    """The same parts, each with the pixels to which no other tile's center is nearer, nor as near and earlier."""
    nearest, owner = np.full(shape, np.inf), np.zeros(shape, np.int32)
    for number, part in enumerate(parts):
        # In half pixels: whole numbers, so that ties are exact.
        down, right = (2.0 * np.arange(n) + 1 - n for n in part.size)
        distance = (down[:, None] ** 2 + right[None, :] ** 2)[part.seen]
        nearer = distance < nearest[part.place]
        nearest[part.place][nearer] = distance[nearer]
        owner[part.place][nearer] = number
    return [replace(part, own=owner[part.place] == number) for number, part in enumerate(parts)]


def _nearest_covered(covered: np.ndarray) -> np.ndarray | None:
    if covered.all():
        return None
    with_tile = np.flatnonzero(covered)
    found: np.ndarray = with_tile[np.abs(np.arange(len(covered))[:, None] - with_tile).argmin(axis=1)]
    return found


@lru_cache(maxsize=4)
def _feather(size: tuple[int, int]) -> np.ndarray:
    """Weights that fall linearly from a tile's center to its border and stay positive there."""
    rows, cols = (np.minimum(np.arange(n) + 1, n - np.arange(n)).astype(np.float32) for n in size)
    return rows[:, None] * cols[None, :]


def _fill_gaps(merged: np.ndarray, layout: _Layout) -> np.ndarray:
    """Rows and columns that rounding left without a tile repeat their neighbor.

    Windows form a grid, so a pixel without a tile lies in a row or a column that has none at all.
    """
    for axis, nearest in enumerate((layout.rows, layout.cols)):
        if nearest is not None:
            merged = merged.take(nearest, axis=axis)
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
    tiles_of: dict[str, list[tuple[int, ...]]] = {}
    columns = [rows[name].tolist() for name in ("sample_id", "tile", "x", "y", "width", "height")]
    for sample_id, *tile in zip(*columns, strict=True):
        tiles_of.setdefault(str(sample_id), []).append(tuple(tile))
    images = read_samples(samples)
    without = [image.sample_id for image in images if image.sample_id not in tiles_of]
    if without:
        raise DataError(f"{table}: no tile maps of {without[0]} ({len(without)} images in all). Delete {maps}.")

    with atomic_folder(folder) as partial:

        def write(image: IndexedSample) -> None:
            own = tiles_of[image.sample_id]
            windows = [(x, y, width, height) for _, x, y, width, height in own]
            merged = merge_tiles(
                (raw[tile] for tile, *_ in own), windows, image.height, image.width, scale=scale, blend=blend
            )
            release(raw)
            merged -= np.float32(low)
            merged *= np.float32(factor)
            write_map(
                partial / f"{image.sample_id}.tiff",
                to_float16(np.clip(merged, 0, np.finfo(np.float16).max, out=merged)),
            )

        for _ in threaded(write, images, threads):
            pass
