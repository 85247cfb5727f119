"""One new image among old ones, through the real workflow: what is computed, and how long the jobs take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import harness, inputs
from benchmarks.workflow import rule_benchmarks, snakemake

CONFIG = """
dataset: {name: parts, layout: folder, root: data, splits: [test]}
tiling: {window: image}
detectors: [superadd]
superadd: {bank_size: 2000, rounds: 20, neighbors: 20}
encoder: {name: efficientnet_lite0}
refine: {method: none}
"""
STAGES = ("crop", "infer")


@dataclass(frozen=True)
class Sizes:
    """Number of images and their height and width."""

    images: int = 200
    height: int = 300
    width: int = 400


FULL = Sizes()
QUICK = Sizes(images=3, height=60, width=80)


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """Jobs of the test split for all images, and again when one image is new; SuperADD with efficientnet_lite0."""
    folder, config = options.folder, options.folder / "config.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    rng = np.random.default_rng(0)
    size = (sizes.height, sizes.width)
    for place, count in {"train": 8, "test": sizes.images}.items():
        for number in range(count):
            inputs.write_png(folder / "data" / "part" / place / f"{number:04}.png", inputs.photo(rng, size))
    results = folder / "results" / "parts"
    runs = [run(folder, config, options.threads)]
    inputs.write_png(folder / "data" / "part" / "test" / "new.png", inputs.photo(rng, size))
    runs.append(run(folder, config, options.threads))
    table = f"One new image among {sizes.images} of {sizes.height} x {sizes.width} pixels: jobs of the test split"
    for stage in STAGES:
        before, after = (jobs[stage] for jobs in runs)
        values: dict[str, str | float | None] = {"new tiles": new_tiles(results, stage)}
        for name, unit in {"s": "s", "cpu_time": "CPU s"}.items():
            values |= {f"all images, {unit}": round(before[name], 2), f"one new, {unit}": round(after[name], 2)}
        yield harness.Fact(table, stage, values)


def run(folder: Path, config: Path, threads: int) -> dict[str, dict[str, float]]:
    """Run to the masks; figures of the jobs of the test split by stage."""
    snakemake(folder, config, cores=threads, targets=["masks"])
    jobs = rule_benchmarks(folder / "results" / "parts")
    # Of the splits' jobs, which come in the order of their names, test is before train.
    return {stage: jobs[stage][0] for stage in STAGES}


def new_tiles(results: Path, stage: str) -> str:
    """What the log of the test split's job says: "NEW of ALL"."""
    log = next(results.rglob(f"logs/{stage}/part/test.log")).read_text(encoding="utf-8")
    counts = re.findall(r"(\d+ of \d+) rows are new or changed", log)
    harness.require(len(counts) == 1, f"the log of {stage} says nothing of what is new")
    return str(counts[0])
