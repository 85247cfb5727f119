"""`make bench`: every stage beside its straightforward formulation, both in one run, on the CPU.

    .venv/bin/python benchmarks/bench.py [--only crop merge] [--repeats 5] [--threads 2] [--quick] [--json FILE]
    .venv/bin/python benchmarks/bench.py --write-docs    # the tables of docs/performance.md from the JSON

Prints Markdown, writes JSON. Each row first checks that both sides give the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import harness

STAGES = ("crop", "train", "infer", "merge", "binarize", "refine", "metrics", "memory", "jobs", "whole")
BLOCK = "make bench"


def run(options: harness.Options, only: list[str]) -> list[harness.Row | harness.Fact]:
    """Measure the chosen stages in their order."""
    found: list[harness.Row | harness.Fact] = []
    for name in only:
        started = time.perf_counter()
        stage = import_module(f"benchmarks.stages.{name}")
        harness.limit_threads(options.threads)
        found += stage.rows(options)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), help="rows to measure")
    parser.add_argument("--repeats", type=int, default=5, help="times that each side is run (default: %(default)s)")
    cores = min(2, os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=cores, help="cores for both sides (default: %(default)s)")
    parser.add_argument("--train-batch", type=int, default=4, help="tiles per training step (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast it is")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/cpu.json, where all rows are measured")
    parser.add_argument(
        "--write-docs", action="store_true", help="measure nothing; bring docs/performance.md up to date"
    )
    options = parser.parse_args()
    every = set(options.only) == set(STAGES)
    target = options.json or (harness.RESULTS / "cpu.json" if every and not options.quick else None)
    if options.write_docs:
        found = json.loads((options.json or harness.RESULTS / "cpu.json").read_text(encoding="utf-8"))
        harness.write_block(harness.DOCUMENT, BLOCK, harness.markdown(found))
        return
    # Before NumPy is imported, whose libraries read these once.
    os.environ.update(dict.fromkeys(harness.THREAD_LIMITS, str(options.threads)))
    described = harness.machine(options.threads)
    with tempfile.TemporaryDirectory() as name:
        sizes = (options.repeats, options.threads, options.quick, options.train_batch)
        measured = run(harness.Options(Path(name), *sizes), options.only)
    found = harness.as_json(described, measured)
    print(harness.markdown(found))
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
