"""From the raw maps of tiles to one anomaly map per image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from robis.arrays.float16 import add_to, not_finite, to_float16, value_range
from robis.errors import ConfigError, DataError, one_of
from robis.io.arrays import blocks, release
from robis.io.atomic import atomic_folder
from robis.io.damage import damaged
from robis.io.ignored import covered_at, left_out_at, require_kept
from robis.io.maps import write_map
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import read_table
from robis.io.threads import threaded
from robis.tiles.files import TileMaps
from robis.tiles.ignored import contributing_rows, has_ignored, ignored_of
from robis.tiles.places import BLENDS, Place, band_of, feather, fill_gaps, merged_size
from robis.tiles.store import map_sizes, open_maps, open_tile_maps

if TYPE_CHECKING:
    import pandas as pd

FULL_RANGE = 255.0
# Pixels of a map that are merged at a time, and tile maps that are read before their pages are released.
BAND_PIXELS, TILES_AT_ONCE = 2**23, 32
MAX_VALUE = np.finfo(np.float16).max
# A range up to here counts as none: float32 could not hold the factor that makes it 0..255.
FLAT = FULL_RANGE / float(np.finfo(np.float32).max)


def map_range(maps: np.ndarray, block: int = 64) -> tuple[float, float]:
    """Smallest and largest value of raw maps (N, m, m), N > 0, read a block at a time; NaN where a value is NaN."""
    low, high = np.array([value_range(values) for _, values in blocks(maps, block)]).T
    return float(low.min()), float(high.max())


def finite_range(file: Path) -> tuple[float, float]:
    """`map_range` of a file of raw maps. Raises DataError where it is damaged, empty, or a value is not finite."""
    maps = open_maps(file)
    if not len(maps):
        raise damaged(file, "no tile maps; expected at least one, to take the range of all maps from", "infer")
    low, high = map_range(maps)
    if not np.isfinite([low, high]).all():
        wrong = next(first + place[0] for first, part in blocks(maps, 64) if (place := not_finite(part)) is not None)
        raise _not_finite(file, wrong)
    return low, high


def _kept_range(maps: TileMaps) -> tuple[float, float]:
    """Smallest and largest of the values of raw maps that are not ignored. Raises DataError as `finite_range`."""
    raw, rows = open_tile_maps(maps.maps, maps.table)
    sizes = map_sizes(rows) or [(raw.shape[1], raw.shape[2])] * len(rows)
    chosen = np.flatnonzero(contributing_rows(rows)).tolist()

    def ranges(rule: Callable[..., np.ndarray | None]) -> Iterator[tuple[float, float]]:
        for tile, size in ((tile, sizes[tile]) for tile in chosen):
            values = _finite_map(raw, tile, maps.maps)[: size[0], : size[1]]
            ignored = rule(ignored_of(rows, tile), *size)
            if (kept := values[... if ignored is None else ~ignored]).size:
                yield value_range(kept[np.newaxis])
            release(raw)

    # A tile whose map pixels are all at least half ignored counts only where every tile is like that.
    of_tiles = list(ranges(covered_at)) or list(ranges(left_out_at))
    low, high = np.array(of_tiles).T
    return float(low.min()), float(high.max())


def _not_finite(file: Path, tile: int) -> DataError:
    problem = f"the map of tile {tile} holds NaN or infinite values, of which no scale from 0 to 255 can be made"
    return damaged(file, problem, "infer")


def whole_map_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Size of the map of an image whose tokens are joined: both sides times scale, rounded down as in SuperADD."""
    return max(1, int(height * scale)), max(1, int(width * scale))


def merge_tiles(
    maps: Iterable[np.ndarray],
    windows: Iterable[Place],
    height: int,
    width: int,
    *,
    scale: float,
    blend: str = "mean",
) -> np.ndarray:
    """Merge the maps of one image's tiles.

    Every map lies at its window's origin times scale, rounded to the nearest map pixel. Where tiles overlap, values are
    averaged ("mean", RoBiS), weighted by the distance to the tile's border ("feather"), or taken from the tile whose
    center is nearest, the first on ties ("central": SuperADD's rule, there for tokens). Whatever lies outside the image
    is cut.

    Args:
        maps: (m, m) each, any float type.
        windows: (x, y, width, height) of each tile in image pixels, in the order of the maps.
        height, width: size of the image in pixels.
        scale: map pixels per image pixel.
        blend: "mean", "feather" or "central".

    Returns:
        float32 (round(height * scale), round(width * scale)).

    Raises:
        ConfigError: an unknown blend.
        DataError: there are not as many maps as windows, a map is not (m, m), or no window lies in the image.
    """
    maps, windows = list(maps), tuple(windows)
    if blend not in BLENDS:
        raise ConfigError(f"merge.blend: {blend!r} is unknown. {one_of(blend, BLENDS)}")
    _check_tiles(maps, windows, merged_size(height, width, scale), scale)
    merged = np.empty(merged_size(height, width, scale), np.float32)
    for rows, values in _merged_bands(maps, windows, height, width, scale, blend):
        merged[rows] = values
    return fill_gaps(merged, windows, scale)


def _check_tiles(maps: Sequence[np.ndarray], windows: Sequence[Place], size: tuple[int, int], scale: float) -> None:
    """Raise DataError for maps that `merge_tiles` cannot merge."""
    if len(maps) != len(windows):
        raise DataError(f"{len(maps)} maps of {len(windows)} windows; expected one each.")
    for number, values in enumerate(maps):
        if np.ndim(values) != 2 or not np.size(values):
            raise DataError(f"maps[{number}]: found shape {np.shape(values)}; expected a map (m, m).")
    if not any(0 <= round(y * scale) < size[0] and 0 <= round(x * scale) < size[1] for x, y, _, _ in windows):
        raise DataError("windows: none of them lies in the image; expected those that its tiles were cut by.")


def _merged_bands(
    maps: Sequence[np.ndarray], windows: tuple[Place, ...], height: int, width: int, scale: float, blend: str
) -> Iterator[tuple[slice, np.ndarray]]:
    """The merged maps of tiles but for gaps, see `merge_tiles`, in bands of rows: which rows, and float32 (h, W)."""
    for rows in _bands(*merged_size(height, width, scale)):
        band = band_of(windows, height, width, scale, blend, (rows.start, rows.stop))
        total = np.zeros(band.weight.shape, np.float32)
        for part in band.parts:
            values: np.ndarray = np.asarray(maps[part.tile])
            if values.dtype not in (np.float16, np.float32) or values.shape != part.size:
                values = values.astype(np.float32)
            if values.shape != part.size:
                values = cv2.resize(values, part.size[::-1], interpolation=cv2.INTER_LINEAR)
            if blend == "feather":
                total[part.place] += values[part.seen] * feather(part.size)[part.seen]
            elif part.owned is not None:
                np.copyto(total[part.place], values[part.seen], where=part.owned)
            else:
                add_to(total[part.place], values[part.seen])
        yield rows, np.divide(total, band.weight, out=total)


def _bands(rows: int, columns: int) -> Iterator[slice]:
    """The rows of a map, as many at a time as have BAND_PIXELS."""
    step = max(1, BAND_PIXELS // columns)
    return (slice(top, min(top + step, rows)) for top in range(0, rows, step))


def merge_split(
    samples: Path,
    maps: TileMaps,
    range_maps: Path | None,
    folder: Path,
    *,
    scale: float,
    blend: str,
    range_table: Path | None = None,
    threads: int = 1,
) -> None:
    """Write one float16 anomaly map per image of a split, in the range 0..255 of `range_maps`, or as it is without.

    Raw maps are scaled together: 0 is the smallest and 255 the largest value of `range_maps`; values above are kept,
    to float16's largest, and values below become 0. Flat maps of a split that is scaled by itself become 0. Ignored
    pixels are 0 and leave the range as it is.

    Args:
        samples: the sample table.
        maps: raw maps of the split's tiles.
        range_maps: raw maps whose range becomes 0..255: those of `maps` (RoBiS), or another split's. None: maps keep
            the values of the raw maps (SuperADD).
        folder: what is written, SAMPLE_ID.tiff.
        scale, blend: see `merge_tiles`.
        range_table: the tile table of `range_maps`, which says what is ignored; None: nothing is.
        threads: images merged at a time.

    Raises:
        DataError: a file is damaged, a map is not finite, an image has no tile maps, or the maps of another split
            are flat, or differ by rounding alone, so that they give no scale.
        DiskFullError: there is no room for the maps.
    """
    images = read_samples(samples)
    scaling = scaling_of(range_maps, range_table)
    if range_maps and not scaling.factor and range_maps != maps.maps:
        raise _no_range(range_maps, scaling, maps.maps.stem)
    anomaly_map = map_maker(images, maps, scaling, scale=scale, blend=blend)

    with atomic_folder(folder) as partial:

        def write(image: IndexedSample) -> bool:
            values = anomaly_map(image)
            write_map(partial / f"{image.sample_id}.tiff", values)
            return _is_beyond(values, image.ignored_at(values.shape))

        beyond = list(tracked(threaded(write, images, threads), len(images), "images"))
        if range_maps and range_maps != maps.maps and beyond and all(beyond):
            raise _no_range(range_maps, scaling, maps.maps.stem)


def map_maker(
    images: Sequence[IndexedSample], maps: TileMaps, scaling: Scaling, *, scale: float, blend: str
) -> Callable[[IndexedSample], np.ndarray]:
    """A thread-safe function that makes the anomaly map of one of some images, float16 (H, W), as `merge_split` does.

    Args:
        images: those whose maps it can make.
        maps, scale, blend: as in `merge_split`.
        scaling: what becomes 0..255.

    Raises:
        DataError: as `merge_split`, also by the returned function.
    """
    raw, table = open_tile_maps(maps.maps, maps.table)
    tiles_of = _tiles_by_image(table, images, maps)
    sizes = map_sizes(table)

    def anomaly_map(image: IndexedSample) -> np.ndarray:
        tiles = tiles_of[image.sample_id]
        values = []
        for number, (tile, *_) in enumerate(tiles, start=1):
            values.append(_finite_map(raw, tile, maps.maps))
            if number % TILES_AT_ONCE == 0:
                release(raw)
        places: list[Place] | None = [(x, y, width, height) for _, x, y, width, height in tiles]
        if sizes:
            rows, columns = sizes[tiles[0][0]]
            values, places = [values[0][:rows, :columns]], None
        merged = merged_map(values, places, (image.height, image.width), scaling, scale=scale, blend=blend)
        release(raw)
        return with_ignored(merged, image.ignored_at(merged.shape), image.image)

    return anomaly_map


def merged_map(
    values: Sequence[np.ndarray],
    places: Sequence[Place] | None,
    sides: tuple[int, int],
    scaling: Scaling,
    *,
    scale: float,
    blend: str,
) -> np.ndarray:
    """The anomaly map of one image, float16 (H, W), at least 0, from the raw maps of its tiles.

    Args:
        values: finite, (m, m) each, as stored.
        places: (x, y, width, height) of each tile in image pixels; None for the only map, of the whole image.
        sides: height and width of the image in pixels.
        scaling: what becomes 0..255.
        scale, blend: see `merge_tiles`.
    """
    bands: Iterable[tuple[slice, np.ndarray]]
    if places is None:
        merged = np.empty(values[0].shape, np.float16)
        bands = ((rows, values[0][rows].astype(np.float32)) for rows in _bands(*values[0].shape[:2]))
    else:
        merged = np.empty(merged_size(*sides, scale), np.float16)
        bands = _merged_bands(values, tuple(places), *sides, scale, blend)
    for rows, band in bands:
        band -= np.float32(scaling.low)
        band *= np.float32(scaling.factor)
        merged[rows] = to_float16(np.clip(band, 0, MAX_VALUE, out=band))
        if rows.stop < len(merged):
            release(values[0])
    return merged if places is None else fill_gaps(merged, tuple(places), scale)


def with_ignored(anomaly_map: np.ndarray, ignored: np.ndarray | None, source: str) -> np.ndarray:
    """A map whose ignored pixels have the lowest value.

    Args:
        anomaly_map: float16 (H, W), at least 0; changed in place.
        ignored: bool (H, W); None: nothing is ignored.
        source: the image, for messages.

    Raises:
        DataError: all pixels are ignored.
    """
    require_kept(ignored, source, f"{anomaly_map.shape[1]} x {anomaly_map.shape[0]} map pixels")
    if ignored is not None:
        anomaly_map[ignored] = 0
    return anomaly_map


Tile = tuple[int, int, int, int, int]


def _tiles_by_image(rows: pd.DataFrame, images: Sequence[IndexedSample], maps: TileMaps) -> dict[str, list[Tile]]:
    """Number, x, y, width and height of the tiles that make each image's map. Raises DataError where it has none."""
    tiles_of: dict[str, list[Tile]] = {}
    rows = rows[contributing_rows(rows)]
    columns = [rows[name].tolist() for name in ("sample_id", "tile", "x", "y", "width", "height")]
    for sample_id, *tile in zip(*columns, strict=True):
        tiles_of.setdefault(str(sample_id), []).append(tuple(tile))
    without = [image.sample_id for image in images if image.sample_id not in tiles_of]
    if without:
        raise damaged(maps.table, f"no tile maps of {without[0]} ({len(without)} images in all)", "infer")
    return tiles_of


@dataclass(frozen=True)
class Scaling:
    """How raw maps become maps from 0 to 255: (value - low) * factor; a factor of 0 where all values are the same."""

    low: float
    factor: float


def scaling_of(range_maps: Path | None, table: Path | None = None) -> Scaling:
    """What makes the smallest of some raw maps' values 0 and the largest 255; nothing without. Raises DataError.

    Args:
        range_maps: the maps.
        table: their tile table, whose ignored pixels do not count; None: all pixels count.
    """
    if range_maps is None:
        return Scaling(0.0, 1.0)
    low, high = finite_range(range_maps)
    if table and has_ignored(read_table(table, stage="infer")):
        low, high = _kept_range(TileMaps(range_maps, table))
    return Scaling(low, FULL_RANGE / (high - low) if high - low > FLAT else 0.0)


def _is_beyond(values: np.ndarray, ignored: np.ndarray | None) -> bool:
    """Whether all that counts of a map has the largest value that a map can have."""
    return values.max() == MAX_VALUE and bool(((values == MAX_VALUE) | (False if ignored is None else ignored)).all())


def _no_range(range_maps: Path, scaling: Scaling, split: str) -> DataError:
    same, low = "have the same value", f"{scaling.low:g}"
    if scaling.factor:
        same = "have nearly the same value"
        low += f" to {scaling.low + FULL_RANGE / scaling.factor:g}"
    return DataError(
        f"{range_maps}: all maps of the split {range_maps.stem} {same}, {low}, so that there is no "
        f"range to scale the maps of {split} by. This happens where the images of {range_maps.stem} are "
        f"copies of training images, or the model scores nothing. Give {range_maps.stem} normal images of its "
        f"own, or set merge.normalize and binarize.calibrate to split."
    )


def _finite_map(raw: np.ndarray, tile: int, file: Path) -> np.ndarray:
    values: np.ndarray = raw[tile]
    if not_finite(values) is not None:
        raise _not_finite(file, tile)
    return values
