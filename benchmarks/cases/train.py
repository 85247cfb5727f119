"""One step of INP-Former's training: robis beside the plain formulation with unfused attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.cases.infer import with_rate
from benchmarks.harness import Options, Row, Work, compare
from benchmarks.models import SMALL, TINY, Pair, Size, same_steps, same_updates


@dataclass(frozen=True)
class Sizes:
    """Encoder and tiles, tiles per step (published: 16, which take minutes), and the side of the rate's product."""

    model: Size = SMALL
    batch: int = 4
    matrix: int = 2048


FULL = Sizes()
QUICK = Sizes(TINY, batch=2, matrix=128)


def rows(options: Options, sizes: Sizes) -> Iterator[Row]:
    """Forward, loss, backward, clipped gradient, StableAdamW; tiles in memory, augmentation not counted."""
    pair = Pair(sizes.model, torch.device("cpu"), sizes.batch)
    updates = same_updates(pair)
    work = Work(
        "train",
        f"one step of {sizes.batch} tiles of {sizes.model.side} px, {sizes.model.encoder}, float32",
        "plain attention, unfused, one parameter at a time",
        1.5,
    )
    row = compare(
        work,
        pair.plain_step,
        pair.our_step,
        lambda plain, ours: f"{same_steps(plain, ours)}, {updates}",
        min(options.repeats, 3),
    )
    yield with_rate(row, pair.flops()[1] * sizes.batch, sizes.matrix)
