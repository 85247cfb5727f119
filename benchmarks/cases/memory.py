"""Peak memory of every stage without a model: a process of its own, for few and for many images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness, inputs
from benchmarks.cases.merge import write_tile_maps
from robis.io.maps import write_mask

TABLE = "Peak memory by the number of images, MB (the libraries alone: `imports`)"
SIZE, WINDOW = (512, 612), 256
# Stage -> the function of `benchmarks.stage_calls` and its options.
CALLS: dict[str, tuple[str, dict[str, str]]] = {
    "crop": ("crop", {}),
    "merge": ("merge", {}),
    "binarize": ("binarize", {}),
    "refine (grabcut)": ("refine", {"method": "grabcut"}),
    "refine (none)": ("refine", {"method": "none"}),
    "score_images": ("score_images", {}),
    "evaluate": ("evaluate", {}),
}


@dataclass(frozen=True)
class Sizes:
    """Numbers of images, and the stages to run (default: all)."""

    images: tuple[int, ...] = (10, 1000)
    stages: tuple[str, ...] = tuple(CALLS)


FULL = Sizes()
QUICK = Sizes(images=(2, 8), stages=("crop", "merge", "evaluate"))


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """Small images (512 x 612, tiles of 128), so that a thousand fit: it is the growth that is shown."""
    folders = {count: options.folder / str(count) for count in sizes.images}
    for count, folder in folders.items():
        prepare(folder, count, SIZE, WINDOW)
    for stage in sizes.stages:
        function, chosen = CALLS[stage]
        values: dict[str, str | float | None] = {}
        for count, folder in folders.items():
            arguments = {"folder": str(folder), "threads": options.threads, **chosen}
            run = harness.run_alone(harness.Call(f"benchmarks.stage_calls:{function}", arguments), options.threads)
            held, peak = run.held_mb or 0.0, run.peak_mb or 0.0
            values.setdefault("imports", round(held))
            values[f"{count} images"] = round(held + peak)
            values[f"{count} images, s"] = round(run.seconds, 2)
        yield harness.Fact(TABLE, stage, values)


def prepare(folder: Path, count: int, size: tuple[int, int], window: int) -> None:
    """The files of a split of `count` images, eight of them different, the others links to these."""
    inputs.write_samples(folder / "samples.parquet", count, size, masks=True)
    write_tile_maps(folder, count, size, window)
    rng = np.random.default_rng(0)
    quarter = (round(size[0] / 4), round(size[1] / 4))
    for index, name in enumerate(inputs.names(count)):
        files = {
            "images": folder / "images" / f"{name}.png",
            "truth": folder / "truth" / f"{name}.png",
            "maps": folder / "maps" / f"{name}.tiff",
            "masks": folder / "masks" / f"{name}.png",
        }
        if index >= 8:
            for kind, path in files.items():
                os.link(folder / kind / f"{inputs.names(8)[index % 8]}{path.suffix}", path)
            continue
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        anomaly_map, truth = inputs.map_and_truth(rng, size, inputs.defects_of(index))
        inputs.write_png(files["images"], inputs.photo(rng, size))
        write_mask(files["truth"], truth)
        small = cv2.resize(anomaly_map.astype(np.float32), quarter[::-1])
        inputs.write_map(files["maps"], small.astype(np.float16))
        write_mask(files["masks"], small > 80)
    inputs.write_scores(folder / "scores.parquet", count)
