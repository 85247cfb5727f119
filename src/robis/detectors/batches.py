"""Batches of tiles on the device, read ahead of the arithmetic. Needs no tables and no workflow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.jobs import Compute
from robis.io.arrays import release
from robis.io.progress import progress
from robis.io.threads import threaded

R = TypeVar("R")


class Tiles(Protocol):
    """A tile store: uint8 (N, s, s, 3) RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: slice, /) -> np.ndarray: ...


class Picked:
    """Some tiles of a store, by their numbers."""

    def __init__(self, store: np.ndarray, numbers: Sequence[int]) -> None:
        self._store, self.numbers = store, np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, chosen: slice, /) -> np.ndarray:
        tiles: np.ndarray = self._store[self.numbers[chosen]]
        release(self._store)
        return tiles


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


def tiles_per_pass(compute: Compute, device: torch.device) -> int:
    """Tiles of every forward pass: a whole batch on a GPU, a single tile on a CPU, which gains nothing by batches."""
    return 1 if device.type == "cpu" else compute.batch_size


def with_work(compute: Compute, device: torch.device) -> Compute:
    """How to compute with batches that give each thread of a CPU a tile; a GPU keeps the batch size."""
    busy = max(compute.batch_size, compute.threads) if device.type == "cpu" else compute.batch_size
    return replace(compute, batch_size=busy)


def in_passes(model: Callable[[Tensor], R], batch: Tensor, compute: Compute) -> list[R]:
    """Results of a model's forward passes over a batch, all of which have the same shape.

    Libraries sum in another order for another shape, so that a tile's result in a batch of 16 may differ from that in
    a batch of 3 in its last bits. Here it depends neither on how many tiles there are nor, on a CPU, on `threads`:
    each tile is one pass on one thread.

    Args:
        model: each of its results depends on its own tile alone. A CPU calls it on several threads at the same time.
        batch: (B, ...), such as uint8 tiles (B, s, s, 3), 0 < B <= batch_size.
        compute: its batch size and threads.

    Returns:
        The results of the passes in order. On a GPU the pass is filled up with zeros, black tiles: more than B results.
    """
    per_pass = tiles_per_pass(compute, batch.device)
    # A thread of its own would lack the precision that the caller has set for a GPU.
    if per_pass > 1 or batch.device.type != "cpu":
        return [model(F.pad(batch, (*(0, 0) * (batch.ndim - 1), 0, per_pass - len(batch))))]

    def one(tile: Tensor) -> R:
        # A thread begins without the mode of the one that started it.
        with torch.inference_mode():
            return model(tile)

    with single_threaded():
        return list(threaded(one, batch.split(1), compute.threads))


# The number of torch's threads belongs to the process.
_threads_of_torch = threading.RLock()


def single_threaded() -> AbstractContextManager[None]:
    """Keep each of torch's operations to the thread that calls it; for one caller of the process at a time."""
    return threads_of_torch(1)


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """Have torch compute on so many threads of a CPU; for one caller of the process at a time."""
    with _threads_of_torch:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def one_behind(
    batches: Iterator[tuple[int, Tensor]], compute: Callable[[int, Tensor], Tensor]
) -> Iterator[tuple[int, np.ndarray]]:
    """Results of batches in memory, each given out while a GPU computes the next.

    Args:
        batches: number of the first tile, and the tiles on the device.
        compute: from the number of its first tile and a batch to its results.

    Yields:
        Number of the first tile, and float32 results.
    """
    waiting: tuple[int, Tensor, torch.cuda.Event | None] | None = None
    for start, batch in batches:
        results = compute(start, batch).float()
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
