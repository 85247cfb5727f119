"""MuSc's scoring of a split of 200 images at 518 px with the width of ViT-L/14."""

from __future__ import annotations

from benchmarks.cases import musc_gpu
from benchmarks.gpu_check.record import Check
from benchmarks.harness import Fact, Options

# Of the project; the published code takes 955 on an RTX 3090.
GOAL_MS = 40


def run(check: Check) -> None:
    """Keep every figure as it is measured."""
    options = Options(check.folder, repeats=3, threads=check.threads, quick=check.rehearse, device=check.device)
    parts = []
    for item in musc_gpu.rows(options, musc_gpu.QUICK if check.rehearse else musc_gpu.FULL):
        check.add(item)
        if isinstance(item, Fact) and "ms per image" in item.values:
            parts.append(f"{item.values['ms per image']:.1f} ms per image (goal {GOAL_MS})")
        elif isinstance(item, Fact):
            rate, share = (item.values[name] for name in ("TFLOP/s", "of torch's"))
            parts.append(f"products at {rate:.3g} TFLOP/s, {share} of torch's")
        check.headline = "; ".join(parts)
