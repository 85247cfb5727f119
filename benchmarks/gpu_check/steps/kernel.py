"""MuSc's Triton kernel beside plain products, in the types for which it is used."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.cases.musc_gpu import PairProducts, Sizes
from benchmarks.gpu_check.record import Check
from benchmarks.harness import Options, require
from robis.detectors.musc.nearest import Products, pair_maxima

SIZES = Sizes(images=30)
TINY = Sizes(images=3, grid=5, width=24)


@torch.inference_mode()
def run(check: Check) -> None:
    """Compare results, then times."""
    ratios = []
    # Triton's interpreter does not multiply bf16.
    for precision in ("fp16",) if check.rehearse else ("bf16", "fp16"):
        sizes = Sizes(**vars(TINY if check.rehearse else SIZES) | {"precision": precision})
        products = PairProducts(sizes, check.device)
        products.kernel = fused(products.kernel, check.device)
        row = products.compared(Options(check.folder, repeats=3, threads=check.threads, device=check.device))
        check.add(row)
        ratios.append(f"{precision} {row.ratio:.1f}")
    check.headline = f"equal; times as fast as plain products: {', '.join(ratios)}"


def fused(chosen: Products, device: str) -> Products:
    """The kernel, which a GPU must have chosen; a CPU interprets it."""
    if device != "cpu":
        require(chosen is not pair_maxima, "the kernel cannot be used here: the log says why")
        return chosen
    from robis.detectors.musc import kernel

    return partial(kernel.pair_maxima, launch=kernel.Launch(16, 16, 16, 4, 2))
