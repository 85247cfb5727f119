"""SuperADD: the rate of its search, and how long the choice of a bank takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from benchmarks.cases import superadd
from benchmarks.gpu_check.record import Check
from benchmarks.harness import Fact, Options, timed
from robis.detectors.superadd.thinning import select

SIZES = replace(superadd.GPU, queries=12_800, banks=(10_000, 100_000), parts=(10_000,))
# Tokens of a subset and how many of them are kept, as with the default options on 300 images of 2448 x 2048.
SUBSET, KEPT, NEIGHBORS, GROWTH = 43_200, 1_000, superadd.NEIGHBORS, 1.1


@torch.inference_mode()
def run(check: Check) -> None:
    """Distances and neighbors beside the full matrix, then a subset of the bank."""
    options = Options(check.folder, repeats=3, threads=check.threads, quick=check.rehearse, device=check.device)
    sizes = superadd.QUICK if check.rehearse else SIZES
    for row in superadd.rows(options, sizes, in_processes=False):
        check.add(row)
    subset, kept = (200, 20) if check.rehearse else (SUBSET, KEPT)
    check.add(search(check, sizes))
    check.add(choice(check, subset, kept, sizes.width))


def search(check: Check, sizes: superadd.Sizes) -> Fact:
    """The rate of the search in the largest bank."""
    bank = max(sizes.banks)
    run = superadd.nearest("robis", sizes.width, sizes.queries, bank, check.device)
    run()
    seconds = min(timed(run, check.device).seconds for _ in range(3))
    tera = 2 * sizes.queries * bank * sizes.width / seconds / 1e12
    check.headline = f"search at {tera:.3g} TFLOP/s in float32"
    values: dict[str, str | float | None] = {"tokens/s": sizes.queries / seconds, "TFLOP/s": tera}
    return Fact("SuperADD's search", f"a bank of {bank} tokens, width {sizes.width}", values)


def choice(check: Check, count: int, kept: int, width: int) -> Fact:
    """How long the choice of the tokens of one subset takes."""
    tokens = superadd.clumped_tokens(count, width, 3, check.device)

    def chosen() -> torch.Tensor:
        return select(tokens, kept, neighbors=NEIGHBORS, radius_growth=GROWTH, rng=np.random.default_rng(0))

    if len(chosen()) != kept:
        check.fail(f"{len(chosen())} tokens are chosen instead of {kept}")
    run = timed(chosen, check.device)
    check.headline += f"; {kept} of {count} tokens chosen in {run.seconds:.2f} s"
    return Fact("Choice of SuperADD's bank", f"{kept} of {count} tokens, width {width}", {"s": run.seconds})
