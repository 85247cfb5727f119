"""What a job costs before it does anything: Python, imports, Snakemake's own part; measured on next to no data."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness
from benchmarks.workflow import rule_benchmarks, snakemake
from robis.detectors.settings import load

TABLE = "Fixed cost of jobs, s: a category of three images of 96 x 128 through the real workflow"
LIMIT = 1.0
# The modules that the scripts in workflow_scripts/ import.
SCRIPTS = {
    "index": "robis.datasets.index",
    "crop": "robis.tiles.store",
    "merge": "robis.tiles.merge",
    "binarize": "robis.binarization.stage",
    "refine": "robis.refinement.stage",
    "score_images": "robis.scoring.image_scores",
    "evaluate": "robis.evaluation.stage",
    "report": "robis.report.page",
    "submit": "robis.submission.stage",
    "train": "robis.detectors.inp_former.train",
    "infer": "robis.detectors.inp_former.infer",
}


@dataclass(frozen=True)
class Sizes:
    """Rules whose imports are measured, how often, and runs of the whole workflow."""

    rules: tuple[str, ...] = tuple(SCRIPTS)
    imports: int = 3
    workflows: int = 2


FULL = Sizes()
QUICK = Sizes(rules=("crop", "binarize"), imports=1, workflows=0)


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """Per rule: imports alone, and whole jobs as Snakemake's own benchmark files say; limited where no model runs."""
    jobs = _jobs(options, sizes.workflows)
    for rule in sizes.rules:
        call = harness.Call("benchmarks.child:imports", {"modules": ["robis.workflow.jobs", SCRIPTS[rule]]})
        runs = [harness.run_alone(call, threads=1) for _ in range(sizes.imports)]
        torch = runs[0].result["torch"]
        values: dict[str, str | float | None] = {
            "imports": round(statistics.median(run.seconds for run in runs), 3),
            "imports, CPU": round(statistics.median(run.cpu_seconds for run in runs), 3),
            "loads torch": "yes" if torch else "no",
        }
        if rule in jobs:
            seconds = statistics.median(job["s"] for job in jobs[rule])
            cpu_seconds = statistics.median(job["cpu_time"] for job in jobs[rule])
            values |= {"whole job": round(seconds, 2), "whole job, CPU": round(cpu_seconds, 2)}
            values["jobs"] = len(jobs[rule])
            if not torch:
                values[f"under {LIMIT:g} s"] = "yes" if seconds < LIMIT else "no"
        yield harness.Fact(TABLE, rule, values)


def _jobs(options: harness.Options, workflows: int) -> dict[str, list[dict[str, float]]]:
    """Figures of the jobs of every rule, in runs of a tiny category, one job at a time."""
    jobs: dict[str, list[dict[str, float]]] = {}
    for number in range(workflows):
        folder = options.folder / str(number)
        write_category(folder / "data" / "nut")
        config = folder / "config.yaml"
        config.write_text(CONFIG, encoding="utf-8")
        load(config)  # reports a mistake in one line
        snakemake(folder, config)
        for rule, figures in rule_benchmarks(folder / "results" / "tiny").items():
            jobs.setdefault(rule, []).extend(figures)
    return jobs


CONFIG = """
dataset: {name: tiny, layout: mvtec_ad_2, root: data, splits: [test_public]}
tiling: {window: 48, overlap: 0.25, edge: shift}
encoder: {name: vit_tiny_patch16_224, weights: random, input_size: 32, blocks: [2, 5]}
inp_former: {epochs: 2, batch_size: 2, warmup_steps: 1, prototypes: 3, checkpoint_every: 1}
merge: {scale: 0.5}
binarize: {erosion_size: 2}
refine: {method: grabcut}
report: {max_images: 3}
"""


def write_category(folder: Path) -> None:
    """A category of small images, two of them defective, in the MVTec AD 2 layout."""
    rng = np.random.default_rng(0)
    for split, count in {"train/good": 2, "validation/good": 1, "test_public/good": 1, "test_public/bad": 2}.items():
        (folder / split).mkdir(parents=True)
        for index in range(count):
            image = cv2.GaussianBlur(rng.integers(60, 140, (96, 128, 3), dtype=np.uint8), (5, 5), 1)
            if split.endswith("bad"):
                mask = np.zeros((96, 128), np.uint8)
                cv2.circle(mask, (40, 40), 12, 255, -1)
                image[mask > 0] = 240
                truth = folder / "test_public" / "ground_truth" / "bad"
                truth.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(truth / f"{index:03}_regular_mask.png"), mask)
            cv2.imwrite(str(folder / split / f"{index:03}_regular.png"), image)
