"""CPU time and peak memory of the stages without a model for growing numbers of images, each in its own process.

A stage is linear when a further image takes as many milliseconds from 100 to 1,000 images as from 10 to 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from benchmarks import harness, inputs
from benchmarks.cases import index
from benchmarks.cases.memory import prepare
from benchmarks.processes import cost_of
from benchmarks.workflow import environment, snakemake_command
from tests.made_results import write_many

TABLE = "Growth with the number of images (96 x 128 pixels)"
SIZE, WINDOW = (96, 128), 256
# Values of a region's embedding.
WIDTH = 384
# Stage -> the function that a process runs.
CALLS = {
    "index": "benchmarks.cases.index:stage",
    "fingerprint": "benchmarks.stage_calls:first_fingerprint",
    "crop": "benchmarks.stage_calls:crop",
    "merge": "benchmarks.stage_calls:merge",
    "binarize": "benchmarks.stage_calls:binarize",
    "refine": "benchmarks.stage_calls:refine",
    "score_images": "benchmarks.stage_calls:score_images",
    "evaluate": "benchmarks.stage_calls:evaluate",
    "copies (audit_images)": "benchmarks.stage_calls:copies",
    "cluster_regions": "benchmarks.stage_calls:clusters",
    "report": "benchmarks.cases.report:build",
}
# The dry run of Snakemake, which is not a function of this library.
PLAN = "plan"


@dataclass(frozen=True)
class Sizes:
    """Numbers of images in ascending order, and the stages to run (default: all)."""

    images: tuple[int, ...] = (10, 100, 1000)
    stages: tuple[str, ...] = (*CALLS, PLAN)


FULL = Sizes()
QUICK = Sizes(images=(4, 12), stages=("merge", "copies (audit_images)"))


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """One line per stage."""
    for stage in sizes.stages:
        runs = {count: _measure(stage, count, options) for count in sizes.images}
        harness.say(f"growth: {stage}")
        yield harness.Fact(TABLE, stage, columns({n: (run.cpu_seconds, _megabytes(run)) for n, run in runs.items()}))


def columns(costs: Mapping[int, tuple[float, float]]) -> dict[str, str | float | None]:
    """CPU seconds for the fewest images, milliseconds of each further image, and megabytes for the fewest and the most.

    Args:
        costs: number of images, ascending -> CPU seconds and peak memory in MB.
    """
    fewest, most = min(costs), max(costs)
    values: dict[str, str | float | None] = {f"{fewest:,} images, CPU s": costs[fewest][0]}
    for before, count in pairwise(costs):
        further = 1000 * (costs[count][0] - costs[before][0]) / (count - before)
        values[f"each further to {count:,}, CPU ms"] = max(0.0, further)
    return values | {f"{fewest:,} images, MB": round(costs[fewest][1]), f"{most:,} images, MB": round(costs[most][1])}


def _megabytes(run: harness.Measured) -> float:
    return (run.held_mb or 0) + (run.peak_mb or 0)


def _measure(stage: str, count: int, options: harness.Options) -> harness.Measured:
    folder = options.folder / stage / str(count)
    _write(stage, folder, count)
    if stage == PLAN:
        config = folder / "config.yaml"
        dataset = {"name": "growth", "root": str(folder), "layout": "folder", "splits": ["test"]}
        config.write_text(yaml.safe_dump({"dataset": dataset, "refine": {"method": "grabcut"}}), encoding="utf-8")
        cost = cost_of(snakemake_command(folder, config, "--dry-run", "--quiet", "all"), environment(), folder)
        return harness.Measured(None, cost.seconds, cost.cpu_seconds, cost.peak_mb, 0)
    arguments: dict[str, str | int] = {"folder": str(folder), "threads": options.threads}
    if stage == "index":
        arguments["root"] = arguments.pop("folder")
    if stage == "refine":
        arguments["method"] = "grabcut"
    if stage == "report":
        arguments["shown"] = count
    return harness.run_alone(harness.Call(CALLS[stage], arguments), options.threads)


def _write(stage: str, folder: Path, count: int) -> None:
    """The files that a stage reads."""
    images = partial(index.make, folder, count, SIZE, True)
    writers: dict[str, Callable[[], object]] = {
        "index": images,
        "fingerprint": images,
        PLAN: partial(_write_photos, folder / "c", count),
        "copies (audit_images)": partial(_write_photos, folder, count),
        "cluster_regions": partial(_write_embeddings, folder, count),
        "report": partial(_write_results, folder, count),
    }
    writers.get(stage, partial(prepare, folder, count, SIZE, WINDOW))()


def _write_photos(folder: Path, count: int) -> None:
    """Different pictures of one kind, to train with and to test."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(inputs.names(count)):
        inputs.write_png(folder / ("test" if number % 2 else "train") / f"{name}.png", inputs.photo(rng, SIZE))


def _write_embeddings(folder: Path, count: int) -> None:
    """Embeddings of as many regions as images, of five kinds."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(5, WIDTH))
    embeddings = kinds[rng.integers(0, 5, count)] + 0.5 * rng.normal(size=(count, WIDTH))
    folder.mkdir(parents=True)
    np.save(folder / "embeddings.npy", embeddings.astype(np.float16))


def _write_results(folder: Path, count: int) -> None:
    results = folder / "results" / "many"
    write_many(folder / "data", results, results / "inp_former", "nut", "test", count, size=SIZE)
