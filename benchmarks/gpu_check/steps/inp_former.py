"""INP-Former: `make bench-gpu`, each figure in less time."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.cases import gpu
from benchmarks.gpu_check.record import Check
from benchmarks.harness import Fact, Options

SIZES = replace(gpu.FULL, seconds=1.0, stored=256)
TINY = replace(gpu.QUICK, model=replace(gpu.QUICK.model, blocks=(0, 1)), stored=4, compiled=True)


def run(check: Check) -> None:
    """Keep every figure as it is measured."""
    options = Options(check.folder, threads=check.threads, quick=check.rehearse, device=check.device)
    best: dict[str, str] = {}
    for fact in gpu.rows(options, TINY if check.rehearse else SIZES):
        check.add(fact)
        kind = fact.table.split(",")[0]
        if kind in ("Training", "Inference") and "bf16" in fact.stage and not fact.failed:
            best[kind] = f"{kind.lower()} {_figures(fact)}"
            check.headline = "bf16: " + "; ".join(best.values())


def _figures(fact: Fact) -> str:
    how = "compiled, " if "compiled" in fact.stage else ""
    return f"{how}{fact.values['tiles/s']:.1f} tiles/s ({fact.values['of the matrix rate']} of the matrix rate)"
