"""How good detection is: encoder x detector x data, several seeds, all metrics, as a Markdown table.

    python -m benchmarks.encoders                                       # every cell that is not measured yet
    python -m benchmarks.encoders --data magnetic_tile_whole --seeds 1
    python -m benchmarks.encoders --encoders random dinov2_reg_vits14   # any encoder that robis knows
    python -m benchmarks.encoders --print                               # the table alone

Every cell runs the stages that the workflow runs, with the same parameters, one after another in this process. Results
are kept in benchmarks/results/encoders.json, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from filelock import FileLock

from benchmarks import nearest_statistics
from benchmarks.harness import REPOSITORY, say
from benchmarks.pipeline import Infer, Pipeline
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import parse
from robis.errors import ConfigError
from robis.evaluation.metrics import METRICS
from robis.io.atomic import atomic_file
from robis.workflow.project import Project
from robis.workflow.runs import effective, trains

RESULTS = REPOSITORY / "benchmarks" / "results" / "encoders.json"
SHARED = Path("..") / "shared" / "data"
Config = Mapping[str, Any]

# What all cells have in common; sections of a data set's config come on top.
COMMON: Config = {
    "merge": {"blend": "feather"},
    "refine": {"method": "none"},
    "rescore": {"method": "none"},
    "inp_former": {"batch_size": 4, "warmup_steps": 20},
    "dinomaly": {"batch_size": 4, "warmup_steps": 20, "easy_steps": 100},
    "patchcore": {"coreset_fraction": 0.01},
    "anomalydino": {"shots": 4},
}

DATA: Mapping[str, Config] = {
    "demo": {
        "dataset": {"layout": "mvtec_ad_2", "root": "data/demo", "splits": ["test_public"]},
        "tiling": {"window": 480, "overlap": 0.25, "edge": "shift"},
        "encoder": {"input_size": 384},
        "merge": {"scale": 0.5},
        "refine": {"method": "grabcut"},
        "inp_former": {"epochs": 6},
        "dinomaly": {"steps": 300},
        "superadd": {"bank_size": 5_000, "rounds": 10},
    },
    "magnetic_tile_whole": {
        "dataset": {"layout": "mvtec_ad", "root": str(SHARED / "magnetic_tile"), "splits": ["test"]},
        "tiling": {"window": "image"},
        "merge": {"scale": 1.0},
        "inp_former": {"epochs": 8},
        "dinomaly": {"steps": 480},
        "superadd": {"bank_size": 20_000, "rounds": 20},
    },
    "magnetic_tile_tiled": {
        "dataset": {"layout": "mvtec_ad", "root": str(SHARED / "magnetic_tile"), "splits": ["test"]},
        "tiling": {"window": 192, "edge": "shift"},
        "merge": {"scale": 1.0},
        "inp_former": {"epochs": 1},
        "dinomaly": {"steps": 480},
        "superadd": {"bank_size": 10_000, "rounds": 80},
        "musc": {"neighborhood_sizes": [3], "subsets": 8},
    },
    "pcb_panel": {
        "dataset": {"layout": "mvtec_ad_2", "root": str(SHARED / "pcb_panel"), "splits": ["test_public"]},
        "tiling": {"window": 400, "edge": "shift"},
        "merge": {"scale": 0.25},
        "inp_former": {"epochs": 1},
        "dinomaly": {"steps": 480},
        "superadd": {"bank_size": 10_000, "rounds": 80},
        "musc": {"neighborhood_sizes": [3], "subsets": 2},
    },
}

# Name in the table -> section of the config; any other name is that of an encoder with its published weights.
ENCODERS: Mapping[str, Config] = {
    "random": {"name": "efficientnet_lite0", "weights": "random"},
    "statistics": {"name": "efficientnet_lite0", "weights": "random", "input_size": 196},
    "efficientnet_lite0": {"name": "efficientnet_lite0"},
}
# The encoder that is no network has a detector of its own.
STATISTICS, NEAREST = "statistics", "nearest"
# Metrics on the progress line.
SHOWN = ("image_auroc", "pixel_auroc", "seg_f1")


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    data: str
    encoder: str
    detector: str
    seed: int

    @property
    def key(self) -> str:
        """Its name in the file of results."""
        return f"{self.data}/{self.encoder}/{self.detector}/{self.seed}"


def cells(data: Sequence[str], encoders: Sequence[str], detectors: Sequence[str], seeds: int) -> Iterator[Cell]:
    """The runs of a table, one seed after the other, so that an interrupted run has whole tables."""
    for seed in range(seeds):
        for name in data:
            for encoder in encoders:
                for detector in [NEAREST] if encoder == STATISTICS else detectors:
                    yield Cell(name, encoder, detector, seed)


def config_of(cell: Cell, data: Config, input_size: int | None = None) -> dict[str, Any]:
    """The config of a cell.

    Args:
        cell: which encoder, detector and seed.
        data: sections of its data set.
        input_size: side of a tile as the encoder sees it, pixels; None: the data's, else the encoder's own.
    """
    # The plain statistics stand in for the tokens of SuperADD.
    detector = "superadd" if cell.detector == NEAREST else cell.detector
    encoder = dict(ENCODERS.get(cell.encoder, {"name": cell.encoder}))
    if input_size is not None:
        encoder = {"input_size": input_size} | encoder
    seeds = {key: cell.seed for key in ("seed", "seeds") if key in DETECTORS[detector].option_model.model_fields}
    config = _merged(COMMON, data, {"detectors": [detector], "encoder": encoder, detector: seeds})
    config["dataset"]["name"] = "data"
    # A zero-shot detector has nothing to take a range or a threshold from but the images themselves.
    reference = "validation" if trains(parse(config), detector) else "split"
    return _merged(config, {"merge": {"normalize": reference}, "binarize": {"calibrate": reference}})


def _merged(*configs: Config) -> dict[str, Any]:
    """Configs with the options of the later ones on top, section by section."""
    merged: dict[str, Any] = {}
    for config in configs:
        for section, values in config.items():
            merged[section] = merged.get(section, {}) | dict(values) if isinstance(values, Mapping) else values
    return merged


def is_random(cell: Cell, config: Config) -> bool:
    """Whether a cell's result depends on its seed: not where a zero-shot detector scores a whole split."""
    settings = parse(config)
    subsets = settings.get(f"{cell.detector}.subsets") if "subsets" in config.get(cell.detector, {}) else 1
    learns = trains(settings, settings.detectors[0])
    return learns or subsets > 1 or settings.encoder.weights == "random"


def run(cell: Cell, config: Config, threads: int, folder: Path) -> dict[str, float]:
    """Mean metrics of a cell over the categories and splits of its data.

    Raises ConfigError when the detector cannot use the encoder.
    """
    project = Project(parse(config), folder)
    name = project.detectors[0]
    settings = effective(project.settings, detector=name)
    DETECTORS[project.kind(name)].check_options(settings)
    infer: Infer | None = partial(nearest_statistics.infer, seed=cell.seed) if cell.encoder == STATISTICS else None
    rows = [
        Pipeline(project, name, category, threads, infer).metrics(split)
        for category in project.categories
        for split in project.splits
    ]
    return {metric: float(np.nanmean([row[metric] for row in rows])) for metric in METRICS}


def measure(cell: Cell, config: Config, threads: int, done: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metrics of a cell; those of seed 0 where the seed changes nothing."""
    first = done.get(Cell(cell.data, cell.encoder, cell.detector, 0).key)
    if first is not None and not is_random(cell, config):
        return dict(first)
    with tempfile.TemporaryDirectory() as folder:
        return run(cell, config, threads, Path(folder))


def table(done: Mapping[str, Mapping[str, float]], chosen: Sequence[Cell]) -> str:
    """Mean and standard deviation over the seeds, one row per data, encoder and detector."""
    lines = ["| data | encoder | detector | seeds | " + " | ".join(METRICS) + " |"]
    lines.append("| --- " * (len(METRICS) + 4) + "|")
    groups: dict[tuple[str, str, str], list[Mapping[str, float]]] = {}
    for cell in chosen:
        if cell.key in done:
            groups.setdefault((cell.data, cell.encoder, cell.detector), []).append(done[cell.key])
    for names, rows in groups.items():
        values = np.array([[row[metric] for metric in METRICS] for row in rows])
        numbers = [f"{mean:.3f} ± {std:.3f}" for mean, std in zip(values.mean(0), values.std(0), strict=True)]
        lines.append(f"| {' | '.join([*names, str(len(rows)), *numbers])} |")
    return "\n".join(lines)


def read(results: Path) -> dict[str, dict[str, float]]:
    """The measured cells by their keys."""
    return dict(json.loads(results.read_text(encoding="utf-8"))) if results.exists() else {}


def add(results: Path, key: str, metrics: Mapping[str, float]) -> None:
    """Keep one more cell; another process may do the same with other cells."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{results}.lock"), atomic_file(results) as partial_file:
        content = json.dumps(dict(sorted((read(results) | {key: dict(metrics)}).items())), indent=1)
        partial_file.write_text(content + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None, data: Mapping[str, Config] = DATA) -> None:
    """Measure what is missing, then print the table."""
    options = _parser(data).parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    logging.basicConfig(level=logging.WARNING)
    chosen = list(cells(options.data, options.encoders, options.detectors, options.seeds))
    for cell in [] if options.print else chosen:
        done = read(options.out)
        if cell.key in done:
            continue
        started = time.perf_counter()
        try:
            config = config_of(cell, data[cell.data], options.input_size)
            metrics = measure(cell, config, options.threads, done)
        except ConfigError as error:
            say(f"{cell.key}: skipped. {error}")
            continue
        shown = ", ".join(f"{name} {metrics[name]:.3f}" for name in SHOWN)
        say(f"{cell.key}: {shown}, {time.perf_counter() - started:.0f} s")
        add(options.out, cell.key, metrics)
    print(table(read(options.out), chosen))


def _parser(data: Mapping[str, Config]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_option = parser.add_argument
    add_option("--data", choices=list(data), nargs="+", default=list(data), help="default: all")
    add_option("--encoders", nargs="+", default=list(ENCODERS), help="default: %(default)s")
    add_option("--detectors", choices=list(DETECTORS), nargs="+", default=list(DETECTORS), help="default: all")
    add_option("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    add_option("--input-size", type=int, help="side of a tile for the encoder, pixels (default: the data's or its own)")
    add_option("--threads", type=int, default=os.cpu_count(), help="default: %(default)s")
    add_option("--out", type=Path, default=RESULTS, help="file of the results (default: %(default)s)")
    add_option("--print", action="store_true", help="print the table and measure nothing")
    return parser


if __name__ == "__main__":
    main()
