"""Anomaly maps to coarse masks: the stage beside 64 erosions and labelings per map."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness, inputs
from benchmarks.plain import binarize as plain
from robis.binarization.stage import binarize_split


def rows(options: harness.Options) -> Iterator[harness.Row]:
    """`binarize.method: robis`: maps of a quarter of the size on one thread, of the images' own size on all."""
    quick = [((64, 80), 3, 1, 12.0), ((96, 130), 2, options.threads, 15.0)]
    full = [(inputs.QUARTER, 20, 1, 12.0), (inputs.FULL, 6, options.threads, 15.0)]
    for size, count, threads, target in quick if options.quick else full:
        yield _row(options, size, count, threads, target)


def _row(options: harness.Options, size: tuple[int, int], count: int, threads: int, target: float) -> harness.Row:
    folder = options.folder / f"binarize_{size[0]}"
    rng = np.random.default_rng(0)
    inputs.write_maps(
        folder / "maps", [inputs.map_and_truth(rng, size, inputs.defects_of(index))[0] for index in range(count)]
    )
    files = [folder / "maps" / f"{name}.tiff" for name in inputs.names(count)]

    def plainly() -> Path:
        shutil.rmtree(folder / "plain", ignore_errors=True)
        cv2.setNumThreads(threads)
        plain.binarize_split(files, folder / "plain")
        return folder / "plain"

    def ours() -> Path:
        cv2.setNumThreads(threads)
        maps = folder / "maps"
        binarize_split(maps, maps, folder / "ours", folder / "ours.parquet", method="robis", threads=threads)
        return folder / "ours"

    row = harness.compare(
        "binarize",
        f"{count} maps of {size[0]} x {size[1]}, {threads} thread{'s' * (threads > 1)}, files in and out",
        "64 thresholds, each eroded and labeled (OpenCV)",
        plainly,
        ours,
        identical,
        repeats=min(options.repeats, 3) if size == inputs.FULL else options.repeats,
        target=target,
    )
    cv2.setNumThreads(options.threads)
    return row


def identical(plain_folder: Path, our_folder: Path) -> str:
    """Every pixel of every mask; the masks are not all empty."""
    plain_masks, our_masks = (
        {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*.png"))}
        for folder in (plain_folder, our_folder)
    )
    harness.require(plain_masks.keys() == our_masks.keys(), "other files")
    for name, one in plain_masks.items():
        harness.require(np.array_equal(one, our_masks[name]), f"{name} differs")
    found = sum(bool(one.any()) for one in our_masks.values())
    harness.require(found > 0, "no mask has a pixel")
    return f"bit-identical, {found} of {len(our_masks)} masks not empty"
