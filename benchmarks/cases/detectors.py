"""Time and peak memory of detectors that learn from normal images: training and inference, each in its own process.

Their options are published, or those that `robis init` takes on a CPU, but for the time of a run: Dinomaly takes a few
steps, of which one is timed, PatchCore keeps a hundredth of the patches, and AnomalyDINO has four reference images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness, inputs
from benchmarks.pipeline import Pipeline
from robis.detectors.settings import parse
from robis.workflow.project import Project

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "superadd": {"bank_size": 20_000},
    "patchcore": {"coreset_fraction": 0.01},
    "anomalydino": {"shots": 4},
    "subspace": {},
    "dinomaly": {"steps": 10},
}


@dataclass(frozen=True)
class Sizes:
    """Numbers of normal and of test images, their height and width, the detectors and stages (default: all)."""

    images: int = 300
    height: int = 300
    width: int = 400
    detectors: tuple[str, ...] = tuple(OPTIONS)
    stages: tuple[str, ...] = ("train", "infer")


FULL = Sizes()
QUICK = Sizes(images=3, height=60, width=80, detectors=("subspace",), stages=("train",))


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """Whole images with efficientnet_lite0, 1024 tokens each."""
    inputs.write_photos(options.folder / "data", sizes.images, (sizes.height, sizes.width))
    table = f"Detectors with efficientnet_lite0, {sizes.images} normal and {sizes.images} test images"
    for number, name in enumerate(sizes.detectors):
        if not number:
            for split in ("train", "test"):
                pipeline_of(name, str(options.folder), options.threads).crop_tiles(split)
        values: dict[str, str | float | None] = {"options": _shown(OPTIONS[name])}
        for stage in sizes.stages:
            arguments = {"detector": name, "folder": str(options.folder), "threads": options.threads, "stage": stage}
            run = harness.run_alone(harness.Call("benchmarks.cases.detectors:run_of", arguments), options.threads)
            values |= {f"{stage}, s": round(run.seconds, 1), f"{stage}, CPU s": round(run.cpu_seconds, 1)}
            values[f"{stage}, peak MB"] = round((run.held_mb or 0) + (run.peak_mb or 0))
        if "steps" in OPTIONS[name]:
            values["a step, CPU s"] = round(float(values["train, CPU s"] or 0) / OPTIONS[name]["steps"], 2)
        yield harness.Fact(table, name, values)


def run_of(detector: str, folder: str, threads: int, stage: str) -> Callable[[], None]:
    """The training on the normal images, or the inference of the test images."""
    pipeline = pipeline_of(detector, folder, threads)
    return pipeline.train if stage == "train" else lambda: pipeline.write_maps("test")


def pipeline_of(detector: str, folder: str, threads: int) -> Pipeline:
    """A detector on the generated images."""
    data = {"name": "parts", "layout": "folder", "root": f"{folder}/data", "splits": ["test"]}
    config = {
        **{"dataset": data, "detectors": [detector], detector: dict(OPTIONS[detector])},
        **{"tiling": {"window": "image"}, "encoder": {"name": "efficientnet_lite0"}, "refine": {"method": "none"}},
    }
    project = Project(parse(config), Path(folder) / "results")
    return Pipeline(project, detector, "part", threads)


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in options.items()) or "published"
