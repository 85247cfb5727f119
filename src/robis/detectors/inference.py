"""Run any detector over a tile store, reading ahead of the arithmetic and writing behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robis.detectors.batches import one_behind, tile_batches
from robis.encoders.devices import autocast
from robis.errors import DataError
from robis.io.arrays import new_array
from robis.io.atomic import atomic_file
from robis.io.tables import read_table, write_table
from robis.tiles.store import open_tiles


def shard_of(items: int, shard: int, shards: int, step: int = 1) -> slice:
    """Which of `items` things, taken `step` at a time, a shard (0, 1, ...) does; together all of them, each once."""
    steps = -(-items // step)
    return slice(steps * shard // shards * step, min(items, steps * (shard + 1) // shards * step))


def gather_maps(parts: Sequence[Path], tables: Sequence[Path], maps: Path, maps_table: Path) -> None:
    """Join the maps (n, m, m) and tables of shards, in their order, into one array and one table."""
    arrays = [np.load(part, mmap_mode="r") for part in parts]
    with atomic_file(maps) as partial:
        out = new_array(partial, arrays[0].dtype, (sum(map(len, arrays)), *arrays[0].shape[1:]))
        start = 0
        for array in arrays:
            out[start : start + len(array)] = array
            start += len(array)
        write_table(maps_table, pd.concat(map(read_table, tables), ignore_index=True))


@torch.inference_mode()
def write_tile_maps(
    tile_maps: Callable[[Tensor, int], Tensor],
    tiles: Path,
    table: Path,
    maps: Path,
    maps_table: Path,
    *,
    size: int,
    batch_size: int,
    precision: str,
    device: torch.device,
    threads: int = 1,
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Write the raw map of every tile as one float16 (N, size, size) array on disk, and the tile table.

    With several shards only this one's tiles and rows. They begin where batches do, so that each tile is in the same
    batch, and its map the same to the bit, however many shards there are.

    Args:
        tile_maps: turns uint8 (B, s, s, 3) RGB tiles into (B, size, size) maps.
        tiles, table: the tile store.
        maps, maps_table: what is written.
        size: side of a map in map pixels.
        batch_size: tiles per call.
        precision: "float32", "bf16" or "fp16", on a GPU.
        device: where `tile_maps` computes.
        threads: batches read ahead of the arithmetic.
        shard, shards: which part of the tiles.

    Raises:
        DataError: a map is not finite.
    """
    store, rows = open_tiles(tiles, table)
    own = shard_of(len(store), shard, shards, batch_size)
    store, rows = store[own], rows[own]
    with atomic_file(maps) as partial:
        shape = (len(store), size, size)
        out = new_array(partial, np.float16, shape)

        def compute(batch: Tensor) -> Tensor:
            with autocast(device, precision):
                return tile_maps(batch, size)

        for start, values in one_behind(tile_batches(store, batch_size, device, threads), compute):
            if not np.isfinite(values).all():
                bad = own.start + start + int(np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))[0])
                raise DataError(f"{tiles}: the map of tile {bad} is not finite. Use precision float32, or train again.")
            out[start : start + len(values)] = values
        write_table(maps_table, rows)
