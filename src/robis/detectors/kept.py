"""Rows that a model computes, one per tile: kept ones are taken over, the others computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from robis.io.arrays import release
from robis.io.reuse import KeptRows, Reuse
from robis.io.weights import sha256

logger = logging.getLogger(__name__)

# From numbers of rows to their values: per batch the place of its first row among the numbers, and the rows.
ComputeRows = Callable[[Sequence[int]], Iterator[tuple[int, np.ndarray]]]


def with_model(reuse: Reuse | None, device: torch.device, files: Iterable[Path] = ()) -> Reuse | None:
    """Where rows are kept that a model computes: its files count by content, and so does the kind of device."""
    if reuse is None:
        return None
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return reuse.adding(kind, *map(sha256, files))


def fill_rows(rows: np.ndarray, kept: KeptRows, compute: ComputeRows, per_pass: int) -> None:
    """Fill an array with kept rows, and compute the others.

    Places of the last forward pass that would stay empty compute kept rows once more. Where one of them comes out
    otherwise (the results of a GPU may depend on a tile's place in the batch), all rows are computed.

    Args:
        rows: the array, mapped for writing.
        kept: the rows of the previous run.
        compute: computes rows.
        per_pass: rows of a forward pass.
    """
    missing = kept.fill(rows)
    taken = sorted(set(range(len(rows))).difference(missing))
    checked = taken[: -len(missing) % per_pass]
    before = [rows[number].tobytes() for number in checked]
    _compute(rows, [*missing, *checked], compute)
    if before != [rows[number].tobytes() for number in checked]:
        logger.warning("Results differ from those of the previous run: all of them are computed again.")
        _compute(rows, taken[len(checked) :], compute)


def _compute(rows: np.ndarray, numbers: Sequence[int], compute: ComputeRows) -> None:
    for start, values in compute(numbers) if numbers else ():
        rows[list(numbers[start : start + len(values)])] = values
        release(rows)
