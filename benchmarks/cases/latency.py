"""One image at a time by a pack: the library beside ONNX Runtime, and OpenVINO and anomalib where they are installed.

Each measurement is a process of its own (`benchmarks.inspections`): the first image with all imports and the loading of
the model, then others. anomalib resizes whole images, so that it is measured where an image is one tile.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks import harness, inputs
from benchmarks.inspections import ANOMALIB, LIBRARY, ONNX, OPENVINO
from benchmarks.pipeline import Pipeline
from benchmarks.plain.patchcore import export_anomalib
from robis.detectors.settings import parse
from robis.io.samples import read_samples
from robis.packs.export import export_pack
from robis.packs.format import PackSettings
from robis.packs.write import PackedRun, write_pack
from robis.workflow.packs import pack_settings
from robis.workflow.project import Project

# At most, as a fraction: two steps of float16.
SCORES_DIFFER = 2e-3
# Detector and encoder.
RUNS: Mapping[str, Mapping[str, Any]] = {
    "superadd, efficientnet_lite0": {"detectors": ["superadd"], "encoder": {"name": "efficientnet_lite0"}},
    "patchcore, efficientnet_lite0": {
        "detectors": ["patchcore"],
        "encoder": {"name": "efficientnet_lite0", "blocks": [2, 3]},
    },
    "subspace, dinov2_vits14": {
        "detectors": ["subspace"],
        "encoder": {"name": "dinov2_vits14", "weights": "random"},
        "subspace": {"shots": 0},
    },
}


@dataclass(frozen=True)
class Sizes:
    """Height and width of images; sides of windows ("image": one tile); numbers of images; threads; runs of RUNS.

    input_size: side of a tile in pixels; 0: the encoder's own.
    """

    height: int = 300
    width: int = 400
    windows: tuple[str, ...] = ("image", "200")
    images: int = 8
    inspected: int = 10
    threads: tuple[int, ...] = (1, 2)
    runs: tuple[int, ...] = tuple(range(len(RUNS)))
    input_size: int = 0


FULL = Sizes()
QUICK = Sizes(64, 80, ("image",), images=3, inspected=2, threads=(1,), runs=(2,), input_size=28)


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """A line for each run, window and number of threads; the runtimes in turns."""
    inputs.write_photos(options.folder / "data", sizes.images, (sizes.height, sizes.width))
    table = f"One image of {sizes.height} x {sizes.width} by a pack: seconds to the first result, ms of each next image"
    for name in [list(RUNS)[number] for number in sizes.runs]:
        for window in sizes.windows:
            project = _project(options.folder, name, window, sizes.input_size or None)
            folder, tiles = _packed(project, options.folder / f"pack of {name}, {window}", options.threads)
            for threads in sizes.threads:
                line = f"{name}, {tiles} tile{'' if tiles == 1 else 's'}, {threads} core{'' if threads == 1 else 's'}"
                yield harness.Fact(table, line, columns(_measured(options, sizes, folder, threads)))


def _measured(options: harness.Options, sizes: Sizes, folder: Path, threads: int) -> dict[str, list[dict[str, float]]]:
    """Figures of each runtime, a process each, in turns."""
    runtimes = [LIBRARY, ONNX, *([OPENVINO] if find_spec("openvino") else [])]
    runtimes += [ANOMALIB] if (folder / ANOMALIB).exists() else []
    figures: dict[str, list[dict[str, float]]] = {runtime: [] for runtime in runtimes}
    images = str(options.folder / "data" / "part" / "test")
    for turn in range(1 if options.quick else options.repeats):
        for runtime in runtimes[:: -1 if turn % 2 else 1]:
            arguments = {"folder": str(folder), "images": images, "runtime": runtime, "count": sizes.inspected}
            call = harness.Call("benchmarks.inspections:inspections", arguments | {"threads": threads})
            figures[runtime].append(harness.run_alone(call, threads).result)
    same = [of_runtime for runtime, of_runtime in figures.items() if runtime != ANOMALIB]
    scores = [figure["score"] for of_runtime in same for figure in of_runtime]
    harness.require(max(scores) - min(scores) <= SCORES_DIFFER * max(scores), f"{folder}: scores are {scores}")
    return figures


def columns(figures: Mapping[str, list[dict[str, float]]]) -> dict[str, str | float | None]:
    """Of each runtime the fastest first and next image, the median of CPU time with its range, and ratios."""
    values: dict[str, str | float | None] = {}
    fastest = {runtime: 1000 * min(figure["next"] for figure in figures[runtime]) for runtime in figures}
    cpu = {runtime: 1000 * statistics.median(figure["cpu"] for figure in figures[runtime]) for runtime in figures}
    for runtime, of_runtime in figures.items():
        each = [1000 * figure["cpu"] for figure in of_runtime]
        values[f"{runtime}, first, s"] = round(min(figure["first"] for figure in of_runtime), 1)
        values[f"{runtime}, ms"] = round(fastest[runtime])
        values[f"{runtime}, CPU ms"] = f"{cpu[runtime]:.0f} ({min(each):.0f}-{max(each):.0f})"
        if runtime != LIBRARY:
            values[f"library / {runtime}, ms"] = round(fastest[LIBRARY] / fastest[runtime], 2)
            values[f"library / {runtime}, CPU ms"] = round(cpu[LIBRARY] / cpu[runtime], 2)
    return values


def _packed(project: Project, folder: Path, threads: int) -> tuple[Path, int]:
    """The pack of a run with its exported file, and how many tiles an image has."""
    run = project.detectors[0]
    files = Pipeline(project, run, "part", threads).packed_files("test")
    settings = PackSettings(**pack_settings(project, run, "part"))
    packed = PackedRun(project.name, run, "part", project.kind(run), "test")
    write_pack(folder, files, packed, settings, root=project.root, checked_images=0)
    export_pack(folder, None, [], threads=threads)
    first = read_samples(files.split.samples)[0]
    tiles = len(settings.crop.windows(first.height, first.width))
    if packed.detector == "patchcore" and tiles == 1 and find_spec("anomalib"):
        bank = load_file(folder / "model.safetensors")["tokens"]
        export_anomalib(folder / ANOMALIB, "tf_efficientnet_lite0", len(bank))
    return folder, tiles


def _project(folder: Path, name: str, window: str, input_size: int | None) -> Project:
    run = RUNS[name]
    data = {"name": "parts", "layout": "folder", "root": str(folder / "data"), "splits": ["test"], "hold_out_every": 2}
    config = {
        **run,
        "dataset": data,
        "encoder": {**run["encoder"], "input_size": input_size},
        "tiling": {"window": int(window) if window.isdigit() else window, "overlap": 0.0},
        "merge": {"normalize": "validation", "scale": 0.5},
        "binarize": {"calibrate": "validation"},
        "refine": {"method": "none"},
    }
    return Project(parse(config), folder / f"results of {name}, {window}")
