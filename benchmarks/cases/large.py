"""Peak memory of the stages without a model on one large image, each in its own process.

The maps are as large as the image (`merge.scale` 1), which takes the most memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile

from benchmarks import harness, inputs
from benchmarks.cases.merge import write_tile_maps
from robis.io.maps import write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from tests.made_results import write_many

TABLE = "Peak memory for one image of {0} x {0} pixels, imports included"
# The image, its maps and masks repeat a block of so many pixels.
BLOCK = 1000
WINDOW = 1024
FORMATS: dict[str, tuple[str, Callable[[Path, np.ndarray], object]]] = {
    "PNG": (".png", lambda path, rgb: cv2.imwrite(str(path), rgb, [cv2.IMWRITE_PNG_COMPRESSION, 1])),
    "JPEG": (".jpg", lambda path, rgb: cv2.imwrite(str(path), rgb)),
    "TIFF, LZW strips": (".tif", lambda path, rgb: cv2.imwrite(str(path), rgb)),
    "TIFF, deflate tiles": (".tif", partial(tifffile.imwrite, photometric="rgb", tile=(256, 256), compression="zlib")),
    "TIFF, uncompressed": (".tif", partial(tifffile.imwrite, photometric="rgb")),
    "TIFF, 16-bit gray": (".tif", lambda path, rgb: tifffile.imwrite(path, rgb[..., 0] * np.uint16(257))),
}
# Stage -> the function that a process runs, and its options.
CALLS: dict[str, tuple[str, dict[str, object]]] = {
    "index": ("benchmarks.cases.index:stage", {}),
    "merge": ("benchmarks.stage_calls:merge", {"scale": 1.0}),
    "merge (feather)": ("benchmarks.stage_calls:merge", {"scale": 1.0, "blend": "feather"}),
    "merge (central)": ("benchmarks.stage_calls:merge", {"scale": 1.0, "blend": "central"}),
    "binarize": ("benchmarks.stage_calls:binarize", {}),
    "binarize (lines)": ("benchmarks.stage_calls:binarize", {"method": "lines"}),
    "refine (grabcut)": ("benchmarks.stage_calls:refine", {"method": "grabcut"}),
    "score_images": ("benchmarks.stage_calls:score_images", {}),
    "judge": ("benchmarks.stage_calls:judge", {"scale": 1.0}),
    "evaluate": ("benchmarks.stage_calls:evaluate", {}),
    "audit_images": ("benchmarks.stage_calls:copies", {}),
    "report": ("benchmarks.cases.report:build", {"shown": 1}),
}


@dataclass(frozen=True)
class Sizes:
    """Side of the image in pixels, and the formats and the stages to run (default: all)."""

    side: int = 14_000
    formats: tuple[str, ...] = tuple(FORMATS)
    stages: tuple[str, ...] = tuple(CALLS)


FULL = Sizes()
QUICK = Sizes(300, formats=("TIFF, deflate tiles",), stages=("index", "judge", "report"))


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Fact]:
    """A line per format of the image for `crop`, then one per stage."""
    for name in sizes.formats:
        folder = options.folder / "crop"
        image = f"image{FORMATS[name][0]}"
        inputs.write_samples(folder / "samples.parquet", 1, (sizes.side, sizes.side), images=image)
        FORMATS[name][1](folder / image, _repeated(_block(), sizes.side))
        yield _fact(f"crop, {name}", "benchmarks.stage_calls:crop", {"folder": str(folder)}, options, sizes.side)
        (folder / image).unlink()
    folder = options.folder / "stages"
    _prepare(folder, sizes.side)
    for stage in sizes.stages:
        function, chosen = CALLS[stage]
        places: dict[str, dict[str, object]] = {
            "index": {"root": str(folder / "data")},
            "audit_images": {"folder": str(folder / "images")},
        }
        yield _fact(stage, function, places.get(stage, {"folder": str(folder)}) | chosen, options, sizes.side)


def _fact(name: str, function: str, arguments: dict[str, object], options: harness.Options, side: int) -> harness.Fact:
    harness.say(f"large: {name}")
    run = harness.run_alone(harness.Call(function, arguments | {"threads": options.threads}), options.threads)
    peak = run.peak_mb or 0.0
    values: dict[str, str | float | None] = {
        "MB": round(peak + (run.held_mb or 0.0)),
        "CPU s": run.cpu_seconds,
    }
    return harness.Fact(TABLE.format(f"{side:,}"), name, values)


def _block() -> np.ndarray:
    return inputs.photo(np.random.default_rng(0), (BLOCK, BLOCK))


def _repeated(block: np.ndarray, side: int) -> np.ndarray:
    times = -(-side // len(block))
    return np.tile(block, (times, times, *(1,) * (block.ndim - 2)))[:side, :side]


def _prepare(folder: Path, side: int) -> None:
    """The files of one defective image, for all stages."""
    size = (side, side)
    block = min(BLOCK, side)
    anomaly_map, truth = inputs.map_and_truth(np.random.default_rng(0), (block, block), 1)
    write_tile_maps(folder, 1, size, WINDOW, scale=1.0)
    inputs.write_samples(folder / "samples.parquet", 1, size, masks=True)
    image, truth_file = folder / "images" / "00000.png", folder / "truth" / "00000.png"
    image.parent.mkdir()
    FORMATS["PNG"][1](image, _repeated(_block(), side))
    write_mask(truth_file, _repeated(truth, side))
    map_file, mask_file = folder / "maps" / "00000.tiff", folder / "masks" / "00000.png"
    write_map(map_file, _repeated(anomaly_map, side))
    write_mask(mask_file, _repeated(anomaly_map > 80, side))
    inputs.write_scores(folder / "scores.parquet", 1)
    _prepare_report(folder, size, image, truth_file, map_file, mask_file)


def _prepare_report(folder: Path, size: tuple[int, int], *files: Path) -> None:
    """The results of the image for the report, and its data set for the index."""
    results, run = folder / "results" / "many", folder / "results" / "many" / "inp_former"
    (made,) = write_many(folder / "data", results, run, "nut", "test", 1)
    image, truth, anomaly_map, mask = files
    for name, source in {"c/test/bad/0.png": image, "c/masks/bad/0.png": truth}.items():
        _link(source, folder / "data" / name)
    _link(anomaly_map, run / "anomaly_images" / "nut" / "test" / f"{made.sample_id}.tiff")
    for kind in ("coarse_masks", "anomaly_images_thresholded"):
        _link(mask, run / kind / "nut" / "test" / f"{made.sample_id}.png")
    row = (made.sample_id, "test", "c/test/bad/0.png", "anomalous", "bad", "c/masks/bad/0.png", *size)
    write_samples(results / "samples" / "nut" / "test.parquet", [IndexedSample(*row)])


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    os.link(source, target)
