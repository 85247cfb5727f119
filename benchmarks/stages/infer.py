"""Tiles to tile maps by INP-Former: robis beside the plain formulation with unfused attention."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks import harness
from benchmarks.models import SMALL, TINY, Pair, Size, same_maps


def rows(options: harness.Options) -> Iterator[harness.Row]:
    """One tile at a time and a batch, uint8 tiles in memory to float32 maps."""
    size = TINY if options.quick else SMALL
    torch.set_num_threads(options.threads)
    for batch in (1, 2 if options.quick else 4):
        pair = Pair(size, torch.device("cpu"), batch)
        flops = pair.flops()[0] * batch
        row = harness.compare(
            "infer",
            f"{batch} tile{'s' if batch > 1 else ''} of {size.side} px to maps, {size.encoder}, float32",
            "plain attention, unfused",
            pair.plain_maps,
            pair.our_maps,
            same_maps,
            repeats=options.repeats,
            target=1.8,
        )
        yield with_rate(row, flops, size)


def with_rate(row: harness.Row, flops: int, size: Size) -> harness.Row:
    """Say how much of the machine's rate in a single large matrix product robis reaches."""
    rate = matrix_rate(1024 if size == TINY else 2048)
    reached = flops / statistics.median(row.ours_s) / 1e9
    told = f"{reached:.0f} of the {rate:.0f} GFLOP/s of a single matrix product ({reached / rate:.0%})"
    extra = {"gflop": round(flops / 1e9, 2), "gflops_per_s": round(reached, 1), "matrix_gflops_per_s": round(rate, 1)}
    return replace(row, note="; ".join(filter(None, [row.note, told])), extra=row.extra | extra)


def matrix_rate(side: int) -> float:
    """GFLOP/s of the machine in float32 products of square matrices, median of nine."""
    x, y = (torch.randn(side, side) for _ in range(2))
    x @ y
    seconds = [harness.timed(lambda: x @ y)[1] for _ in range(9)]
    return 2 * side**3 / statistics.median(seconds) / 1e9
