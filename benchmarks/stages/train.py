"""One step of INP-Former's training: robis beside the plain formulation with unfused attention."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import harness
from benchmarks.models import SMALL, TINY, Pair, same_steps, same_updates
from benchmarks.stages.infer import with_rate


def rows(options: harness.Options) -> Iterator[harness.Row]:
    """Forward, loss, backward, clipped gradient, StableAdamW; tiles in memory, augmentation not counted."""
    size, batch = (TINY, 2) if options.quick else (SMALL, options.train_batch)
    torch.set_num_threads(options.threads)
    pair = Pair(size, torch.device("cpu"), batch)
    flops = pair.flops()[1] * batch
    updates = same_updates(pair)
    row = harness.compare(
        "train",
        f"one step of {batch} tiles of {size.side} px, {size.encoder}, float32",
        "plain attention, unfused, one parameter at a time",
        pair.plain_step,
        pair.our_step,
        lambda plain, ours: f"{same_steps(plain, ours)}, {updates}",
        repeats=min(options.repeats, 3),
        target=1.5,
    )
    yield with_rate(row, flops, size)
