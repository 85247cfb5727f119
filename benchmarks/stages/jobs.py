"""What a job costs before it does anything: Python, imports, Snakemake's own part; measured on next to no data."""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness
from robis.config.settings import load

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
IMPORTS = """
import sys, time
started, used = time.perf_counter(), time.process_time()
import robis.workflow.jobs, importlib
importlib.import_module(sys.argv[1])
told = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used, "torch": "torch" in sys.modules}
"""


def rows(options: harness.Options) -> Iterator[harness.Fact]:
    """Per rule: imports alone, and whole jobs as Snakemake's own benchmark files say; limited where no model runs."""
    jobs, used = ({}, {}) if options.quick else _job_seconds(options)
    scripts = {rule: SCRIPTS[rule] for rule in ("crop", "binarize")} if options.quick else SCRIPTS
    for rule, module in scripts.items():
        found = [harness.child(IMPORTS, module, threads=1) for _ in range(1 if options.quick else 3)]
        seconds = jobs.get(rule, [])
        torch = found[0]["torch"]
        values: dict[str, str | float | None] = {
            "imports": round(statistics.median(one["seconds"] for one in found), 3),
            "imports, CPU": round(statistics.median(one["cpu"] for one in found), 3),
            "whole job": round(statistics.median(seconds), 2) if seconds else None,
            "whole job, CPU": round(statistics.median(used[rule]), 2) if rule in used else None,
            "jobs": len(seconds) if seconds else None,
            "loads torch": "yes" if torch else "no",
        }
        if seconds and not torch:
            values[f"under {LIMIT:g} s"] = "yes" if statistics.median(seconds) < LIMIT else "no"
        yield harness.Fact(TABLE, rule, values)


def _job_seconds(options: harness.Options) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and CPU seconds of the jobs of every rule, two runs of a tiny category, one job at a time."""
    seconds: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    for run in range(2):
        folder = options.folder / f"jobs_{run}"
        _write_category(folder / "data" / "nut")
        config = folder / "config.yaml"
        config.write_text(CONFIG, encoding="utf-8")
        load(config)  # a mistake in it is told here, in one line
        snakemake(folder, config, cores=1)
        for rule, found in rule_benchmarks(folder / "results" / "tiny").items():
            seconds.setdefault(rule, []).extend(row["s"] for row in found)
            used.setdefault(rule, []).extend(row["cpu_time"] for row in found)
    return seconds, used


CONFIG = """
dataset: {name: tiny, layout: mvtec_ad_2, root: data, splits: [test_public]}
tiling: {window: 48, overlap: 0.25, edge: shift}
encoder: {name: vit_tiny_patch16_224, weights: random, input_size: 32, blocks: [2, 5]}
inp_former: {epochs: 2, batch_size: 2, warmup_steps: 1, prototypes: 3, checkpoint_every: 1}
merge: {scale: 0.5}
binarize: {erosion: 2}
refine: {method: grabcut}
report: {images: 3}
"""


def _write_category(folder: Path) -> None:
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


def snakemake(folder: Path, config: Path, cores: int, *options: str) -> None:
    """Run the workflow in `folder`. Raises RuntimeError with what it printed when it fails."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(harness.REPOSITORY / "Snakefile")),
        *("--directory", str(folder), "--configfile", str(config), "--cores", str(cores)),
        *("--workflow-profile", str(harness.REPOSITORY / "profiles" / "default"), "--nolock", "--quiet", "all"),
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": str(harness.REPOSITORY / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-3000:])


def rule_benchmarks(results: Path) -> dict[str, list[dict[str, float]]]:
    """Snakemake's benchmark files by rule: seconds `s`, `cpu_time` and megabytes `max_rss` of every job."""
    found: dict[str, list[dict[str, float]]] = {}
    for path in sorted(results.rglob("*.tsv")):
        parts = path.with_suffix("").relative_to(results).parts
        rule = parts[parts.index("benchmarks") + 1]
        with path.open(newline="") as stream:
            row = next(csv.DictReader(stream, delimiter="\t"))
        numbers = {name: float(row[name]) for name in ("s", "cpu_time", "max_rss") if row[name] not in ("-", "NA", "")}
        found.setdefault(rule, []).append({"s": 0.0, "cpu_time": 0.0, "max_rss": 0.0, **numbers})
    return found
