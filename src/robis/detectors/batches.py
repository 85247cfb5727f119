"""Batches of tiles on the device, read ahead of the arithmetic. Needs no tables and no workflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from robis.detectors.jobs import Compute
from robis.io.arrays import release
from robis.io.progress import progress
from robis.io.threads import threaded


class Tiles(Protocol):
    """A tile store: uint8 (N, s, s, 3) RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice, /) -> np.ndarray: ...


def tile_batches(store: Tiles, compute: Compute, device: torch.device, name: str = "") -> Iterator[tuple[int, Tensor]]:
    """Batches of a tile store on the device, read ahead of the arithmetic, with lines about the progress.

    Args:
        store: uint8 (N, s, s, 3) RGB.
        compute: its batch size and threads.
        device: where the batches go.
        name: of the step, where a job has several.

    Yields:
        Number of the first tile, and uint8 (B, s, s, 3).
    """
    starts = range(0, len(store), compute.batch_size)

    def read(start: int) -> Tensor:
        batch = gathered([store[start : start + compute.batch_size]], device)
        release(store)
        return batch

    batches = threaded(read, starts, compute.threads)
    with progress(len(store), "tiles", name) as state:
        for start, batch in zip(starts, batches, strict=True):
            yield start, batch.to(device, non_blocking=True)
            state.update(len(batch))


def gathered(parts: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Arrays one after another in memory from which a GPU can fetch by itself: one copy, none if there is no GPU."""
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    batch = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.concatenate(parts, out=batch.numpy())
    return batch


def one_behind(
    batches: Iterator[tuple[int, Tensor]], compute: Callable[[Tensor], Tensor]
) -> Iterator[tuple[int, np.ndarray]]:
    """Results of batches in memory, each given out while a GPU computes the next.

    Args:
        batches: number of the first tile, and the tiles on the device.
        compute: from a batch to its results.

    Yields:
        Number of the first tile, and float32 results.
    """
    waiting: tuple[int, Tensor, torch.cuda.Event | None] | None = None
    for start, batch in batches:
        results = compute(batch).float()
        fetched = None
        if results.device.type == "cuda":
            results = torch.empty(results.shape, pin_memory=True).copy_(results, non_blocking=True)
            fetched = torch.cuda.Event()
            fetched.record()
        if waiting:
            yield _fetched(*waiting)
        waiting = start, results, fetched
    if waiting:
        yield _fetched(*waiting)


def _fetched(start: int, found: Tensor, fetched: torch.cuda.Event | None) -> tuple[int, np.ndarray]:
    if fetched:
        fetched.synchronize()
    return start, found.numpy()
