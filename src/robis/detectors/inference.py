"""Run any detector over a tile store, one batch ahead of the arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from robis.devices import autocast
from robis.errors import DataError
from robis.files import atomic_file, new_array, threaded, write_table
from robis.tiling import open_tiles


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
) -> None:
    """Write the raw map of every tile as one float16 (N, size, size) array on disk, and the tile table.

    Args:
        tile_maps: turns uint8 (B, s, s, 3) RGB tiles into (B, size, size) maps.
        tiles, table: the tile store.
        maps, maps_table: what is written.
        size: side of a map in map pixels.
        batch_size: tiles per call.
        precision: "float32", "bf16" or "fp16", on a GPU.
        device: where `tile_maps` computes.
        threads: batches read ahead of the arithmetic.

    Raises:
        DataError: a map is not finite.
    """
    store, rows = open_tiles(tiles, table)
    starts = range(0, len(store), batch_size)

    def read(start: int) -> Tensor:
        batch = torch.from_numpy(np.array(store[start : start + batch_size]))
        return batch.pin_memory() if device.type == "cuda" else batch

    with atomic_file(maps) as partial:
        shape = (len(store), size, size)
        out = new_array(partial, np.float16, shape)
        batches = threaded(read, starts, max(2, threads))
        for start, batch in zip(tqdm(starts, desc="infer", unit="batch", disable=None), batches, strict=True):
            with autocast(device, precision):
                found = tile_maps(batch.to(device, non_blocking=True), size)
            values = found.float().cpu().numpy()
            if not np.isfinite(values).all():
                bad = start + int(np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))[0])
                raise DataError(f"{tiles}: the map of tile {bad} is not finite. Use precision float32, or train again.")
            out[start : start + len(values)] = values
        write_table(maps_table, rows)
