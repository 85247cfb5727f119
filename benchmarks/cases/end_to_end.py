"""A folder of images to masks and metrics by the workflow, beside anomalib: time, memory, disk, and quality.

The same images, encoder weights, image size and cores; each side with its own defaults otherwise. Each test image is
inspected once: anomalib takes its thresholds from half of them and its metrics from the other half. Its pictures of
results are switched off, as the workflow's report is. Where this interpreter has no anomalib, the size `python` names
another one that has it.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
import yaml
from safetensors.torch import save_file

from benchmarks import harness, inputs
from benchmarks.processes import Cost, cost_of, folder_mb
from benchmarks.workflow import environment, snakemake_command
from robis.demo.generate import add_defect, draw_scene, photograph

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CATEGORY, KINDS = "grains", ("foreign_body", "dark_grain", "crumbs")
SIDES = ("robis", "anomalib")


@dataclass(frozen=True)
class Sizes:
    """Numbers of images, their height and width in pixels, and what is compared.

    Attributes:
        train: normal images; test: good and defective ones, half each.
        methods: of `METHODS`, separated by "+".
        side: of the encoder's input.
        epochs: of INP-Former.
        python: an interpreter with anomalib.
    """

    train: int = 60
    test: int = 20
    height: int = 480
    width: int = 640
    methods: str = "patchcore+superadd+inp_former"
    side: int = 0
    epochs: int = 2
    python: str = ""


FULL = Sizes()
QUICK = Sizes(train=4, test=2, height=120, width=160, methods="patchcore", side=64, epochs=1)


@dataclass(frozen=True)
class Method:
    """A detector in both.

    Attributes:
        timm_name: of the encoder.
        encoder: the workflow's name of it.
        side: usual side of its input in pixels.
        layers: for anomalib's PatchCore.
        options: for the workflow: the method's section.
    """

    timm_name: str
    encoder: str
    side: int
    options: dict[str, Any]
    blocks: tuple[int, ...] | None = None
    layers: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    "patchcore": Method("wide_resnet50_2", "wide_resnet50_2", 256, {}, (2, 3), ("layer2", "layer3")),
    "superadd": Method("vit_small_patch16_dinov3", "vit_small_patch16_dinov3", 448, {}),
    "inp_former": Method("vit_small_patch14_reg4_dinov2", "dinov2_reg_vits14", 392, {"batch_size": 8}),
}


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """A line per method and side: medians over the repeats, the sides in turns."""
    python = sizes.python or (sys.executable if find_spec("anomalib") else "")
    sides = SIDES if python else SIDES[:1]
    if not python:
        why = "not installed here; --set python=PATH names an interpreter that has it"
        yield harness.Fact("Libraries that were not measured", "end_to_end", {"library": "anomalib", "why": why})
    write_parts(options.folder / "data" / "part", sizes)
    table = f"{sizes.train} training and {sizes.test} test images of {sizes.height} x {sizes.width} to metrics"
    for name in sizes.methods.split("+"):
        method = METHODS[name]
        side = sizes.side or method.side
        weights = options.folder / f"{name}.safetensors"
        write_weights(method.timm_name, weights)
        calls = {
            "robis": lambda out, name=name, side=side: by_robis(options, sizes, name, side, out),
            "anomalib": lambda out, name=name, side=side: by_anomalib(options, sizes, name, side, out, python),
        }
        costs: dict[str, list[tuple[Cost, float, dict[str, float]]]] = {side_name: [] for side_name in sides}
        for turn in range(1 if options.quick else options.repeats):
            for side_name in sides[:: -1 if turn % 2 else 1]:
                out = options.folder / f"{name} {side_name} {turn}"
                out.mkdir()
                costs[side_name].append(measured(calls[side_name], out))
        for side_name in sides:
            yield harness.Fact(table, f"{name}, {side_name}", columns(costs, side_name))


def measured(call: Callable[[Path], tuple[Cost, dict[str, float]]], out: Path) -> tuple[Cost, float, dict[str, float]]:
    """Cost, disk in MB and metrics of a side."""
    cost, metrics = call(out)
    harness.say(f"{out.name}: {cost.seconds:.0f} s, {cost.cpu_seconds:.0f} CPU s, {cost.peak_mb:.0f} MB")
    return cost, folder_mb(out), metrics


def columns(costs: dict[str, list[tuple[Cost, float, dict[str, float]]]], side: str) -> dict[str, str | float | None]:
    """Medians of a side, and how many times as fast it is as anomalib."""

    def median(of_side: str, value: Callable[[Cost], float]) -> float:
        return statistics.median(value(cost) for cost, _, _ in costs[of_side])

    values: dict[str, str | float | None] = {
        "s": round(median(side, lambda cost: cost.seconds), 1),
        "CPU s": round(median(side, lambda cost: cost.cpu_seconds), 1),
        "peak MB": round(median(side, lambda cost: cost.peak_mb)),
        "disk MB": round(statistics.median(disk for _, disk, _ in costs[side]), 1),
        **{name: round(value, 3) for name, value in costs[side][0][2].items()},
    }
    if side == "robis" and "anomalib" in costs:
        for name, value in (("s", lambda cost: cost.seconds), ("CPU s", lambda cost: cost.cpu_seconds)):
            values[f"anomalib / robis, {name}"] = round(median("anomalib", value) / median(side, value), 2)
    return values


def by_robis(options: harness.Options, sizes: Sizes, name: str, side: int, out: Path) -> tuple[Cost, dict[str, float]]:
    """The workflow to the metrics."""
    method = METHODS[name]
    encoder = {"name": method.encoder, "weights": str(options.folder / f"{name}.safetensors"), "input_size": side}
    epochs = {"epochs": sizes.epochs} if name == "inp_former" else {}
    config = {
        "dataset": {"name": "parts", "layout": "folder", "root": str(options.folder / "data"), "splits": ["test"]},
        "detectors": [name],
        "encoder": encoder | ({"blocks": list(method.blocks)} if method.blocks else {}),
        "tiling": {"window": "image"},
        # No images are held out: both sides learn from all.
        "merge": {"normalize": "split"},
        "binarize": {"method": "mean_std", "calibrate": "split"},
        "verdict": {"limit": "none"},
        "refine": {"method": "none"},
        "evaluate": {"resolution": side},
        name: method.options | epochs,
    }
    path = out / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = snakemake_command(out, path, cores=options.threads, targets=["metrics"])
    cost = cost_of(command, environment(), out)
    metrics = pd.read_parquet(out / f"results/parts/{name}/metrics/part/test.parquet").iloc[0]
    return cost, {column: float(metrics[column]) for column in ("image_auroc", "pixel_auroc")}


def by_anomalib(
    options: harness.Options, sizes: Sizes, name: str, side: int, out: Path, python: str
) -> tuple[Cost, dict[str, float]]:
    """anomalib's engine: fit and test."""
    method = METHODS[name]
    arguments = {
        "data": str(options.folder / "data" / "part"),
        "out": str(out),
        "method": name,
        "encoder": method.timm_name,
        "weights": str(options.folder / f"{name}.safetensors"),
        "size": side,
        "mean": MEAN,
        "std": STD,
        "layers": list(method.layers),
        "epochs": sizes.epochs if name == "inp_former" else 1,
        "batch_size": 8,
        "threads": options.threads,
    }
    program = harness.REPOSITORY / "benchmarks" / "plain" / "anomalib_run.py"
    cost = cost_of([python, "-P", str(program), json.dumps(arguments)], environment(), out)
    return cost, dict(json.loads(cost.output.splitlines()[-1]))


def write_weights(name: str, path: Path) -> None:
    """Random weights of a timm model, of a seed."""
    torch.manual_seed(0)
    save_file(timm.create_model(name, pretrained=False, num_classes=0).state_dict(), path)


def write_parts(folder: Path, sizes: Sizes) -> None:
    """Drawn images of a category in the layout `folder`: train/good, test/good, test/defect and masks/defect."""
    rng = np.random.default_rng(0)

    def scene() -> Any:
        return draw_scene(CATEGORY, rng, sizes.height, sizes.width)

    for place, count in {"train/good": sizes.train, "test/good": sizes.test // 2}.items():
        for number in range(count):
            inputs.write_png(folder / place / f"{number:03}.png", photograph(scene().image, rng))
    for number in range(sizes.test // 2):
        image, mask = add_defect(scene(), KINDS[number % len(KINDS)], rng, "large")
        inputs.write_png(folder / f"test/defect/{number:03}.png", photograph(image, rng))
        inputs.write_png(folder / f"masks/defect/{number:03}.png", mask.astype(np.uint8) * 255)
