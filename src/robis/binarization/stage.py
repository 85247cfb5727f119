"""The stage: a split's anomaly maps to coarse masks and a table of the thresholds that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from robis.arrays.float16 import above
from robis.binarization.closing import close_and_fill
from robis.binarization.mebin import eroded, estimate
from robis.binarization.statistics import MapStatistics, read_valid_map
from robis.errors import ConfigError, DataError, one_of
from robis.io.atomic import atomic_folder
from robis.io.maps import write_mask
from robis.io.tables import write_table
from robis.io.threads import threaded


@dataclass(frozen=True)
class Method:
    """Which thresholds vote, the lowest deciding, and whether the pixels above it are eroded.

    Erosion keeps the order of sets, so the lowest threshold's mask is the union of all their masks.
    """

    mean_std: bool = False
    mebin: bool = False
    percentile: bool = False
    erodes: bool = True


METHODS: dict[str, Method] = {
    "mean_std": Method(mean_std=True),
    "mebin": Method(mebin=True),
    "robis": Method(mean_std=True, mebin=True),  # RoBiS (arXiv 2505.21152): the union of both
    "percentile": Method(percentile=True, erodes=False),  # SuperADD (arXiv 2605.14808)
}

# Bytes of maps from which on compiled code pays for being loaded: six maps of 512 x 612.
WORTH_COMPILING = 4_000_000

COLUMNS = {
    "sample_id": "str",
    "method": "str",
    "threshold": "float64",
    "mean_std": "float64",
    "mebin": "float64",
    "defects": "int64",
    "stable_first": "Int64",
    "stable_last": "Int64",
    "area": "float64",
}


def binarize_split(
    maps: Path,
    calibration_maps: Path,
    masks: Path,
    thresholds: Path,
    *,
    method: str,
    std_factor: float = 3.0,
    threshold_step: int = 4,
    min_interval: int = 4,
    erosion_size: int = 6,
    percentile: float = 95.0,
    percentile_factor: float = 1.421,
    closing_sizes: Sequence[int] = (),
    closing_threshold_factor: float = 1.25,
    threads: int = 1,
) -> None:
    """Turn every anomaly map of a split into a coarse mask.

    `maps` and `calibration_maps` (the same folder, or another split's) hold SAMPLE_ID.tiff: float16,
    finite, at least 0, usually 0..255, of any size. `method` is one of METHODS; the statistics it
    needs come from the calibration maps: mean + `std_factor` * std, the range of the maxima for
    MEBin (at every `threshold_step`-th of 255 levels, runs of at least `min_interval` levels), or
    `percentile_factor` times a percentile. `erosion_size` is in map pixels. `closing_sizes` and
    `closing_threshold_factor` are those of `close_and_fill`, with `percentile` alone; an empty `closing_sizes`
    leaves its masks as they are.

    Writes `masks`/SAMPLE_ID.png, uint8 {0, 255} of the map's size, and the table `thresholds`, one
    row per image: the threshold that made the mask (map units, compared in float32), the votes it is
    the lowest of (null where the method has no such vote), the estimated number of defects (MEBin's,
    otherwise the 8-connected components of the mask), the levels between which that number is stable,
    and the mask's share of the image. Raises ConfigError for an unknown method, DataError for folders
    without maps or for a map that cannot be used.
    """
    if method not in METHODS:
        raise ConfigError(f"binarize.method: unknown method {method!r}. {one_of(method, METHODS)}")
    votes = METHODS[method]
    paths = _map_paths(maps)
    statistics = MapStatistics.of(_map_paths(calibration_maps).values(), threads)

    mean_std = percentile_threshold = None
    if votes.mean_std:
        mean, std = statistics.mean_std()
        mean_std = float(mean + np.float32(std_factor) * std)
    if votes.percentile:
        percentile_threshold = percentile_factor * statistics.percentile(percentile)

    compiled = votes.mebin and sum(path.stat().st_size for path in paths.values()) > WORTH_COMPILING

    def binarize(sample_id: str) -> dict[str, object]:
        anomaly_map = read_valid_map(paths[sample_id])
        mebin = None
        if votes.mebin:
            mebin = estimate(
                anomaly_map,
                statistics.lowest_max,
                statistics.highest_max,
                threshold_step=threshold_step,
                min_interval=min_interval,
                erosion_size=erosion_size,
                compiled=compiled,
            )
        candidates = (mean_std, mebin.threshold if mebin else None, percentile_threshold)
        # In float32: NumPy would round a Python number to the map's float16 to compare them.
        threshold = np.float32(min(value for value in candidates if value is not None))
        mask = above(anomaly_map, threshold).view(np.uint8)
        if votes.erodes:
            mask = eroded(mask, erosion_size)
        elif closing_sizes:
            mask = close_and_fill(anomaly_map, threshold, closing_sizes, closing_threshold_factor).astype(np.uint8)
        write_mask(folder / f"{sample_id}.png", mask)
        return {
            "sample_id": sample_id,
            "method": method,
            "threshold": float(threshold),
            "mean_std": mean_std,
            "mebin": mebin.threshold if mebin else None,
            "defects": mebin.defects if mebin else cv2.connectedComponents(mask, connectivity=8)[0] - 1,
            "stable_first": mebin.stable_first if mebin else None,
            "stable_last": mebin.stable_last if mebin else None,
            "area": cv2.countNonZero(mask) / mask.size,
        }

    with atomic_folder(masks) as folder:
        rows = list(threaded(binarize, paths, threads))
    write_table(thresholds, pd.DataFrame(rows).astype(COLUMNS)[list(COLUMNS)])


def _map_paths(folder: Path) -> dict[str, Path]:
    """The anomaly maps below a folder by sample_id, sorted."""
    paths = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in Path(folder).rglob("*.tiff")
        if not path.name.startswith(".")
    }
    if not paths:
        raise DataError(
            f"{folder}: no anomaly maps found; expected SAMPLE_ID.tiff files, as the merge stage writes them."
        )
    return dict(sorted(paths.items()))
