"""Anomaly maps to coarse masks: the stage beside 64 erosions and labelings per map."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness, inputs
from benchmarks.plain import binarize as plain
from robis.binarization.stage import SplitMaps, Thresholding, binarize_split


@dataclass(frozen=True)
class Sizes:
    """Maps of a quarter of the images' size and of their full size: height, width and number."""

    quarter: tuple[int, int, int] = (*inputs.QUARTER, 20)
    full: tuple[int, int, int] = (*inputs.FULL, 6)


FULL = Sizes()
QUICK = Sizes((64, 80, 3), (96, 130, 2))


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Row]:
    """`binarize.method: robis`: small maps on one thread, large ones on all."""
    yield _row(options, sizes.quarter, 1, 12.0)
    yield _row(options, sizes.full, options.threads, 15.0)


def _row(options: harness.Options, size: tuple[int, int, int], threads: int, target: float) -> harness.Row:
    height, width, count = size
    folder = options.folder / f"{height}"
    rng = np.random.default_rng(0)
    defects = map(inputs.defects_of, range(count))
    maps = folder / "maps"
    inputs.write_maps(maps, [inputs.map_and_truth(rng, (height, width), number)[0] for number in defects])
    inputs.write_samples(folder / "samples.parquet", count, (height, width))
    split = SplitMaps(folder / "samples.parquet", maps)
    files = [maps / f"{name}.tiff" for name in inputs.names(count)]

    def plainly() -> Path:
        shutil.rmtree(folder / "plain", ignore_errors=True)
        cv2.setNumThreads(threads)
        plain.binarize_split(files, folder / "plain")
        return folder / "plain"

    def ours() -> Path:
        cv2.setNumThreads(threads)
        binarize_split(split, split, folder / "ours", folder / "ours.parquet", Thresholding("robis"), threads=threads)
        return folder / "ours"

    work = harness.Work(
        "binarize",
        f"{count} maps of {height} x {width}, {threads} thread{'s' * (threads > 1)}, files in and out",
        "64 thresholds, each eroded and labeled (OpenCV)",
        target,
    )
    row = harness.compare(work, plainly, ours, identical, min(options.repeats, 3))
    cv2.setNumThreads(options.threads)
    return row


def identical(plain_folder: Path, our_folder: Path) -> str:
    """Every pixel of every mask; the masks are not all empty."""
    plain_masks, our_masks = (
        {path.name: np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in sorted(folder.glob("*.png"))}
        for folder in (plain_folder, our_folder)
    )
    harness.require(plain_masks.keys() == our_masks.keys(), "the files have different names")
    for name, mask in plain_masks.items():
        harness.require(np.array_equal(mask, our_masks[name]), f"{name} differs")
    marked = sum(bool(mask.any()) for mask in our_masks.values())
    harness.require(marked > 0, "all masks are empty")
    return f"bit-identical, {marked} of {len(our_masks)} masks not empty"
