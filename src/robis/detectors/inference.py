"""Run any detector over a tile store, one batch ahead of the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from robis.devices import autocast
from robis.errors import DataError
from robis.files import atomic_file, new_array, read_table, threaded, write_table
from robis.tiling import open_tiles


def tile_batches(
    store: np.ndarray, batch_size: int, device: torch.device, threads: int, name: str = "infer"
) -> Iterator[tuple[int, Tensor]]:
    """Batches of a tile store on the device, read ahead of the arithmetic, with a progress bar.

    Args:
        store: uint8 (N, s, s, 3) RGB.
        batch_size: tiles per batch.
        device: where the batches go.
        threads: batches read ahead.
        name: what the progress bar says.

    Yields:
        Number of the first tile, and uint8 (B, s, s, 3).
    """
    starts = range(0, len(store), batch_size)

    def read(start: int) -> Tensor:
        batch = torch.from_numpy(np.array(store[start : start + batch_size]))
        return batch.pin_memory() if device.type == "cuda" else batch

    batches = threaded(read, starts, max(2, threads))
    for start, batch in zip(tqdm(starts, desc=name, unit="batch", disable=None), batches, strict=True):
        yield start, batch.to(device, non_blocking=True)


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
        for start, batch in tile_batches(store, batch_size, device, threads):
            with autocast(device, precision):
                found = tile_maps(batch, size)
            values = found.float().cpu().numpy()
            if not np.isfinite(values).all():
                bad = own.start + start + int(np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))[0])
                raise DataError(f"{tiles}: the map of tile {bad} is not finite. Use precision float32, or train again.")
            out[start : start + len(values)] = values
        write_table(maps_table, rows)
