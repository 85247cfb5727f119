"""The memory-mapped store of the tiles of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from robis.errors import ConfigError, DataError, one_of
from robis.io.arrays import atomic_array, open_array, release
from robis.io.damage import damaged
from robis.io.decoding import joined
from robis.io.ignored import filled
from robis.io.images import image_parts
from robis.io.progress import tracked
from robis.io.reuse import KeptRows, Reuse
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import make_table, read_table, write_table
from robis.io.threads import threaded
from robis.io.weights import sha256
from robis.tiles.files import TileStore
from robis.tiles.ignored import COLUMN, tile_ignored
from robis.tiles.windows import EDGES, WHOLE, Window, windows

# Of a table of tiles, and of tile maps; what they hold, as `read_table` takes it.
_KINDS = {"tile": "integers", "sample_id": "text"} | dict.fromkeys(
    ("row", "col", "x", "y", "width", "height"), "integers"
)

if TYPE_CHECKING:
    import pandas as pd
TILE_COLUMNS = list(_KINDS)
# Of the table of maps that each cover a whole image: the size of the map, which fills the top left of its row.
MAP_COLUMNS = ("map_height", "map_width")
# What a raw tile map may be stored as.
MAP_TYPES = (np.float16, np.float32)

# Tiles written before their pages are released.
TILES_AT_ONCE = 64
# Pillow's filters, which antialias.
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Cutting:
    """How images become tiles.

    Attributes:
        window: side of a tile in image pixels, "image": one tile per image, or "joined": the images as they are.
        overlap: fraction of a window that its neighbor covers, too.
        edge: "pad" or "shift", see `robis.tiles.windows.origins`.
        size: side of a stored tile in pixels; None for images as they are.
        resample: "bilinear" or "bicubic", see `cut`.
        bit_depth: of images of 16 bits, see `read_image`.
    """

    window: int | str
    overlap: float
    edge: str
    size: int | None
    resample: str = "bilinear"
    bit_depth: int | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a value that no tiles can be cut with."""
        for name, value, valid in (("edge", self.edge, EDGES), ("resample", self.resample, FILTERS)):
            if value not in valid:
                raise ConfigError(f"tiling.{name}: {value!r} is unknown. {one_of(value, valid)}")
        if self.window not in WHOLE and not (isinstance(self.window, int) and self.window > 0):
            raise ConfigError(f"tiling.window: found {self.window!r}; expected pixels, at least 1, or image or joined.")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"tiling.overlap: found {self.overlap}; expected a fraction of at least 0 and below 1.")

    def windows(self, height: int, width: int) -> list[Window]:
        """The windows of an image of this size in pixels."""
        return windows(height, width, self.window, self.overlap, self.edge)

    def tile(self, image: np.ndarray, window: Window) -> np.ndarray:
        """The stored tile of a window, uint8 (size, size, 3) RGB; without a size the image uint8 (H, W, 3) itself."""
        return image if self.size is None else cut(image, window, self.size, self.resample)

    def tiles(self, parts: Iterable[np.ndarray], windows: Sequence[Window]) -> Iterator[np.ndarray]:
        """The stored tiles of an image, see `tile`, in memory for the rows of one window.

        Args:
            parts: the image's, from the top down, uint8 (h, W, 3) RGB.
            windows: the windows, none above the one before.
        """
        parts = iter(parts)
        rows, first = next(parts), 0
        for window in windows:
            held = [rows[window.y - first :]]
            while sum(map(len, held)) < window.height and (part := next(parts, None)) is not None:
                held.append(part)
            rows, first = held[0] if len(held) == 1 else np.concatenate(held), window.y
            yield self.tile(rows, replace(window, y=0))


def cut(image: np.ndarray, window: Window, size: int, resample: str = "bilinear") -> np.ndarray:
    """Cut a tile and resize it to uint8 (size, size, 3) RGB with one of Pillow's antialiased filters.

    Args:
        image: uint8 (H, W, 3) RGB.
        window: the rectangle to cut; pixels outside the image are black.
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


Plan = list[tuple[IndexedSample, list[Window]]]


def _stored_size(plan: Plan, size: int | None) -> tuple[int, int]:
    """Height and width of a row of the store: the tile's, or those that hold every image."""
    if size is not None:
        return size, size
    return max((sample.height for sample, _ in plan), default=1), max((sample.width for sample, _ in plan), default=1)


def crop_split(
    samples: Path,
    root: Path,
    output: TileStore,
    cutting: Cutting,
    *,
    reuse: Reuse | None = None,
    threads: int = 1,
) -> None:
    """Cut every image of a split into tiles: a uint8 (N, size, size, 3) RGB array on disk and its table.

    Ignored pixels are painted over, see `robis.io.ignored.filled`; the table says which they are
    (`robis.tiles.ignored`).

    Without a size each row is an image as it is, black beyond its right and lower border: (N, H, W, 3) of the largest.
    The array is filled through a memory map, so that memory holds a few images, however many the split has.

    Args:
        samples: the sample table.
        root: folder that its paths are relative to.
        output: what is written.
        cutting: how.
        reuse: where the tiles are kept for the next run, which decodes only images that are new or changed.
        threads: images read at a time.

    Raises:
        DataError: an image cannot be read or is not the size that the sample table says.
        DiskFullError: there is no room for the tiles.
    """
    plan = [(sample, cutting.windows(sample.height, sample.width)) for sample in read_samples(samples)]
    count, (height, width) = sum(len(places) for _, places in plan), _stored_size(plan, cutting.size)
    kept = KeptRows(reuse, _tile_keys(plan, root, reuse, threads) if reuse else [])
    kept.make_room(count * height * width * 3)
    with atomic_array(output.tiles, np.uint8, (count, height, width, 3)) as store:
        missing = set(kept.fill(store))

        def fill(job: tuple[int, tuple[IndexedSample, list[Window]]]) -> None:
            first, (sample, places) = job
            if missing.isdisjoint(range(first, first + len(places))):
                return
            parts = _indexed_parts(sample, root, cutting.bit_depth, whole=len(places) == 1)
            for number, tile in enumerate(cutting.tiles(parts, places), start=first):
                store[number, : tile.shape[0], : tile.shape[1]] = tile
                if number % TILES_AT_ONCE == 0:
                    release(store)
            release(store)

        done = threaded(fill, zip(_starts(plan), plan, strict=True), threads)
        for _ in tracked(done, len(plan), "images"):
            pass
        write_table(output.table, _tile_table(plan))
    kept.keep(output.tiles)


def _tile_keys(plan: Plan, root: Path, reuse: Reuse, threads: int) -> list[bytes]:
    """Keys of all tiles: an image counts by the content of its file."""

    def keys(image: tuple[IndexedSample, list[Window]]) -> list[bytes]:
        sample, places = image
        content = f"{_content(root / sample.image)} {sample.height} {sample.width}"
        ignored = sample.ignored or b""
        return [reuse.key(f"{content} {astuple(window)}".encode() + ignored) for window in places]

    return [key for of_image in threaded(keys, plan, threads) for key in of_image]


def _content(path: Path) -> str:
    try:
        return path.suffix.lower() + sha256(path)
    # Reading the image says what is wrong.
    except OSError:
        return str(path)


def _indexed_parts(sample: IndexedSample, root: Path, bit_depth: int | None, *, whole: bool) -> Iterator[np.ndarray]:
    """The parts of an image from the top down, or a single one, without what is ignored.

    Raises DataError where it is not as the sample table says.
    """
    path = root / sample.image
    (height, width), parts = image_parts(path, bit_depth=bit_depth)
    if (height, width) != (sample.height, sample.width):
        raise DataError(
            f"{path}: {width} x {height} pixels; the sample table says "
            f"{sample.width} x {sample.height}. The file changed while robis ran; run it again."
        )
    # What covers ignored pixels is the mean color of the whole image.
    ignored = sample.ignored_pixels
    return parts if ignored is None and not whole else iter([filled(joined(parts, height), ignored)])


def _starts(plan: Plan) -> Iterator[int]:
    first = 0
    for _, places in plan:
        yield first
        first += len(places)


def _tile_table(plan: Plan) -> pd.DataFrame:
    rows = [(sample.sample_id, *astuple(window)) for sample, places in plan for window in places]
    table = make_table(rows, TILE_COLUMNS[1:])
    table.insert(0, "tile", np.arange(len(table), dtype=np.int64))
    ignored = [tile_ignored(sample.ignored, window) for sample, places in plan for window in places]
    if any(ignored):
        table[COLUMN] = ignored
    return table


def open_tiles(tiles: Path, table: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Map a tile store: uint8 (N, size, size, 3) RGB or images as they are, read as it is used, and its table.

    Raises:
        DataError: a file is damaged, or the two do not belong together.
    """
    store = open_array(tiles, stage="crop", dtypes=[np.uint8], shape=(None, None, None, 3))
    return store, _rows(table, tiles, len(store), "crop")


def open_tile_maps(maps: Path, table: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Map the raw maps of tiles: float16 or float32 (N, m, n), read from disk as they are used, and their table.

    Raises:
        DataError: a file is damaged, or the two do not belong together.
    """
    store = open_maps(maps)
    return store, _rows(table, maps, len(store), "infer")


def open_maps(maps: Path) -> np.ndarray:
    """Map the raw maps of tiles alone: float16 or float32 (N, m, m). Raises DataError when the file is damaged."""
    return open_array(maps, stage="infer", dtypes=MAP_TYPES, shape=(None, None, None))


def map_sizes(table: pd.DataFrame) -> list[tuple[int, int]] | None:
    """Height and width of each map where a map covers a whole image; None for maps of tiles."""
    if not set(MAP_COLUMNS) <= set(table):
        return None
    return list(zip(*(table[name].tolist() for name in MAP_COLUMNS), strict=True))


def _rows(table: Path, array: Path, count: int, stage: str) -> pd.DataFrame:
    rows = read_table(table, stage=stage, columns=_KINDS)
    if len(rows) != count:
        raise damaged(array, f"{count} tiles, but its table {table} has {len(rows)} rows", stage)
    if not np.array_equal(rows["tile"], np.arange(count)):
        raise damaged(table, f"the column tile does not count from 0 to {count - 1}", stage)
    return rows


def map_size(window: int | str, scale: float, input_size: int) -> int:
    """Side of a tile's raw map in map pixels: round(window * scale); for whole images the side of the stored tile."""
    return input_size if window == "image" else max(1, round(int(window) * scale))
