"""Run any detector over a tile store, reading ahead of the arithmetic and writing behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robis.arrays.float16 import to_float16
from robis.detectors.batches import one_behind, tile_batches
from robis.detectors.checks import require_finite
from robis.detectors.jobs import InferJob, Shard, TileMaps
from robis.encoders.devices import autocast, pick_device
from robis.io.arrays import new_array
from robis.io.atomic import atomic_file
from robis.io.tables import read_table, write_table
from robis.tiles.store import map_size, open_tiles


def part_of(items: int, shard: Shard, step: int = 1) -> slice:
    """The items that a shard computes, `step` at a time; the shards together compute each item once."""
    steps = -(-items // step)
    first, last = (steps * number // shard.count * step for number in (shard.number, shard.number + 1))
    return slice(first, min(items, last))


def gather_maps(parts: Sequence[TileMaps], output: TileMaps) -> None:
    """Join the maps (n, m, m) and tables of shards, in their order, into one array and one table."""
    arrays = [np.load(part.maps, mmap_mode="r") for part in parts]
    with atomic_file(output.maps) as partial:
        maps = new_array(partial, arrays[0].dtype, (sum(map(len, arrays)), *arrays[0].shape[1:]))
        start = 0
        for array in arrays:
            maps[start : start + len(array)] = array
            start += len(array)
        write_table(output.table, pd.concat([read_table(part.table) for part in parts], ignore_index=True))


@torch.inference_mode()
def write_tile_maps(tile_maps: Callable[[Tensor, int], Tensor], job: InferJob, *, input_size: int) -> None:
    """Write the raw map of every tile as one float16 (N, m, m) array on disk, and the tile table.

    A shard writes its own tiles and rows only. Shards begin where batches do, so that each tile is in the same
    batch, and its map the same to the bit, however many shards there are.

    Args:
        tile_maps: turns uint8 (B, s, s, 3) RGB tiles into (B, size, size) maps, given the size.
        job: tiles, output and how to compute.
        input_size: side of a tile as the encoder sees it, pixels.

    Raises:
        DataError: a map is not finite as float16.
    """
    store, rows = open_tiles(job.store.tiles, job.store.table)
    chosen = part_of(len(store), job.shard, job.compute.batch_size)
    store, rows = store[chosen], rows[chosen]
    device = pick_device(job.compute.device)
    size = map_size(job.size.window, job.size.scale, input_size)
    with atomic_file(job.output.maps) as partial:
        maps = new_array(partial, np.float16, (len(store), size, size))

        def compute(batch: Tensor) -> Tensor:
            with autocast(device, job.compute.precision):
                return tile_maps(batch, size)

        for start, values in one_behind(tile_batches(store, job.compute, device), compute):
            maps[start : start + len(values)] = stored(values, chosen.start + start, job)
        write_table(job.output.table, rows)


def stored(values: np.ndarray, first: int, job: InferJob) -> np.ndarray:
    """Maps float32 (B, m, m) as they are stored, float16. Raises DataError when one is not finite then.

    Args:
        values: the maps.
        first: number of the first tile.
        job: names the tile store.
    """
    maps = to_float16(values.reshape(len(values), -1)).reshape(values.shape)
    require_finite(maps, "map values", first, job.store.tiles)
    return maps
