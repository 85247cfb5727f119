"""Tiles to tile maps by INP-Former: robis beside the plain formulation with unfused attention."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from benchmarks.harness import Options, Row, Work, compare
from benchmarks.models import SMALL, TINY, Pair, Size, same_maps
from benchmarks.rates import matrix_rate


@dataclass(frozen=True)
class Sizes:
    """Encoder and tiles, tiles per batch, and the side of the product that tells the machine's rate."""

    model: Size = SMALL
    batches: tuple[int, ...] = (1, 4)
    matrix: int = 2048


FULL = Sizes()
QUICK = Sizes(TINY, batches=(1, 2), matrix=128)


def rows(options: Options, sizes: Sizes) -> Iterator[Row]:
    """One tile at a time and a batch, uint8 tiles in memory to float32 maps."""
    for batch in sizes.batches:
        pair = Pair(sizes.model, torch.device("cpu"), batch)
        tiles = f"{batch} tile{'s' * (batch > 1)} of {sizes.model.side} px"
        work = Work("infer", f"{tiles} to maps, {sizes.model.encoder}, float32", "plain attention, unfused", 1.8)
        row = compare(work, pair.plain_maps, pair.our_maps, same_maps, options.repeats)
        yield with_rate(row, pair.flops()[0] * batch, sizes.matrix)


def with_rate(row: Row, flops: int, side: int) -> Row:
    """Say how much of the machine's rate in a single large matrix product robis reaches."""
    rate = matrix_rate(side) / 1e9
    reached = flops / statistics.median(row.ours.seconds) / 1e9
    share = f"{reached:.0f} of the {rate:.0f} GFLOP/s of a single matrix product ({reached / rate:.0%})"
    extra = {"gflop": round(flops / 1e9, 2), "gflops_per_s": round(reached, 1), "matrix_gflops_per_s": round(rate, 1)}
    note = "; ".join(filter(None, [row.work.note, share]))
    return replace(row, work=replace(row.work, note=note), extra={**row.extra, **extra})
