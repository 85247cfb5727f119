"""Run any detector over a tile store, reading ahead of the arithmetic and writing behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from robis.detectors.batches import Picked, one_behind, tile_batches, tiles_per_pass, with_work
from robis.detectors.checks import require_finite
from robis.detectors.jobs import InferJob, Shard
from robis.detectors.kept import ComputeRows, fill_rows, with_model
from robis.detectors.scorers import ImageScorer, Scorer, TileScorer, stored
from robis.encoders.devices import named_device
from robis.io.arrays import atomic_array, blocks, open_array, release
from robis.io.damage import damaged
from robis.io.progress import tracked
from robis.io.reuse import KeptRows, Rows, kept_for
from robis.io.tables import read_table, write_table
from robis.tiles.files import TileMaps
from robis.tiles.ignored import has_ignored, ignored_cells, ignored_of
from robis.tiles.merge import whole_map_size
from robis.tiles.store import MAP_COLUMNS, MAP_TYPES, map_size, open_tiles

if TYPE_CHECKING:
    import pandas as pd

# The rule whose files `gather_maps` reads, and the maps that it has in memory.
SHARDS, MAPS_AT_ONCE = "infer_shard", 64
# Column of a shard's table: the keys by which its maps are kept.
KEY = "key"


def part_of(items: int, shard: Shard, step: int = 1) -> slice:
    """The items that a shard computes, `step` at a time; the shards together compute each item once."""
    steps = -(-items // step)
    first, last = (steps * number // shard.count * step for number in (shard.number, shard.number + 1))
    return slice(first, min(items, last))


def gather_maps(parts: Sequence[TileMaps], job: InferJob) -> None:
    """Join the maps (n, m, m) and tables of shards, in their order, into one array and one table.

    Args:
        parts: what the shards wrote with `write_tile_maps`.
        job: its output is written; its `reuse` says where the maps are kept.
    """
    import pandas as pd

    output = job.output
    arrays = [open_array(part.maps, stage=SHARDS, dtypes=MAP_TYPES, shape=(None, None, None)) for part in parts]
    tables = [read_table(part.table, stage=SHARDS) for part in parts]
    for part, array, table in zip(parts, arrays, tables, strict=True):
        if len(array) != len(table):
            raise damaged(part.maps, f"{len(array)} maps, but its table {part.table} has {len(table)} rows", SHARDS)
    rows = pd.concat(tables, ignore_index=True)
    keys = [bytes.fromhex(key) for key in rows.pop(KEY)] if KEY in rows else []
    with atomic_array(output.maps, arrays[0].dtype, (len(rows), *arrays[0].shape[1:])) as maps:
        start = 0
        for array in arrays:
            for first, block in blocks(array, MAPS_AT_ONCE):
                maps[start + first : start + first + len(block)] = block
                release(maps)
            start += len(array)
        write_table(output.table, rows)
    KeptRows(job.reuse if keys else None, keys).keep(output.maps)


@torch.inference_mode()
def write_tile_maps(scorer: TileScorer, job: InferJob) -> None:
    """Write the raw map of every tile as one (N, m, m) array on disk, and the tile table.

    A shard writes its own tiles and rows only. Maps that `job.reuse` keeps of the previous run are taken over where
    tile, model, settings, code and device are the same. The bytes do not depend on it, nor on the number of shards.

    Args:
        scorer: scores the tiles.
        job: tiles, output and how to compute.

    Raises:
        DataError: a map is not finite as it is stored.
    """
    store, rows = open_tiles(job.store.tiles, job.store.table)
    chosen = part_of(len(store), job.shard, job.compute.batch_size)
    store, rows = store[chosen], rows[chosen]
    device = named_device(job.compute.device)
    size = map_size(job.size.window, job.size.scale, scorer.input_size)
    how = with_work(job.compute, device)
    grid, some_ignored = (scorer.grid, scorer.grid), scorer.grid > 0 and has_ignored(rows)

    def maps_of(numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        def maps_of_batch(start: int, batch: torch.Tensor) -> torch.Tensor:
            ignored = ignored_cells(rows, grid, numbers[start : start + len(batch)]) if some_ignored else None
            return scorer.batch_maps(batch, size, how, ignored)

        batches = tile_batches(Picked(store, numbers), how, device)
        for start, values in one_behind(batches, maps_of_batch):
            places = [chosen.start + n for n in numbers[start : start + len(values)]]
            yield start, stored(values, places, job.store.tiles, scorer.dtype)

    output = _Output(rows, (size, size), np.dtype(scorer.dtype), device)
    _write_maps(job, store, output, maps_of, tiles_per_pass(how, device))


@torch.inference_mode()
def write_image_maps(scorer: ImageScorer, job: InferJob) -> None:
    """Write the raw map of every whole image as one float32 (N, M, K) array on disk, and its table.

    A map has the size `whole_map_size` and fills the top left of its row, whose other pixels have its lowest value. As
    `write_tile_maps` otherwise.

    Args:
        scorer: scores the images.
        job: images as they are, output and how to compute.

    Raises:
        DataError: a map is not finite.
    """
    store, rows = open_tiles(job.store.tiles, job.store.table)
    sizes = [whole_map_size(*sides, job.size.scale) for sides in _sides(rows)]
    rows = rows.assign(**dict(zip(MAP_COLUMNS, zip(*sizes, strict=True), strict=True)))
    shape = (max(height for height, _ in sizes), max(width for _, width in sizes))
    chosen = part_of(len(store), job.shard)
    images = Images(store[chosen], _sides(rows[chosen]))
    device = named_device(job.compute.device)

    def maps_of(numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        for place, number in enumerate(tracked(numbers, len(numbers), "images")):
            size = sizes[chosen.start + number]
            values = scorer.map_of(images[number], device, size, ignored_of(rows, chosen.start + number))
            require_finite(values[None], "map values", [chosen.start + number], job.store.tiles)
            row = np.full((1, *shape), values.min(), np.float32)
            row[0, : size[0], : size[1]] = values
            yield place, row

    _write_maps(job, images, _Output(rows[chosen], shape, np.dtype(np.float32), device), maps_of, per_pass=1)


def write_maps(scorer: Scorer, job: InferJob) -> None:
    """`write_tile_maps` or `write_image_maps`, as the scorer needs it."""
    if isinstance(scorer, ImageScorer):
        write_image_maps(scorer, job)
    elif isinstance(scorer, TileScorer):
        write_tile_maps(scorer, job)
    else:
        raise TypeError(f"{type(scorer).__name__} writes its maps itself.")


class Images:
    """Whole images of a store, without what fills its rows up."""

    def __init__(self, store: np.ndarray, sides: Sequence[tuple[int, int]]) -> None:
        self._store, self.sides = store, sides

    @classmethod
    def of(cls, tiles: Path, table: Path) -> Images:
        """Open a store of images as they are. Raises DataError."""
        store, rows = open_tiles(tiles, table)
        return cls(store, _sides(rows))

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, number: int, /) -> np.ndarray:
        height, width = self.sides[number]
        image = np.array(self._store[number, :height, :width])
        release(self._store)
        return image


def _sides(rows: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(rows["height"].tolist(), rows["width"].tolist(), strict=True))


@dataclass(frozen=True)
class _Output:
    """What a shard writes: its rows of the table, and maps of this size, kind and device."""

    rows: pd.DataFrame
    size: tuple[int, int]
    dtype: np.dtype
    device: torch.device


def _write_maps(job: InferJob, inputs: Rows, output: _Output, maps_of: ComputeRows, per_pass: int) -> None:
    reuse = with_model(job.reuse, output.device, job.inputs.values())
    others = [ignored_of(output.rows, number) for number in range(len(inputs))] if has_ignored(output.rows) else None
    kept = kept_for(inputs, reuse, with_work(job.compute, output.device).threads, others=others)
    shape = (len(inputs), *output.size)
    kept.make_room(output.dtype.itemsize * math.prod(shape))
    is_part = job.shard.count > 1
    keys = {KEY: [key.hex() for key in kept.keys]} if is_part and job.reuse else {}
    with atomic_array(job.output.maps, output.dtype, shape) as maps:
        fill_rows(maps, kept, maps_of, per_pass)
        write_table(job.output.table, output.rows.assign(**keys))
    if not is_part:
        kept.keep(job.output.maps)
