"""MEBin as published: at each of 64 thresholds the map is binarized, eroded, and its components are counted."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import tifffile

RATE, MIN_INTERVAL, EROSION, STD_FACTOR = 4, 4, 6, 3.0
KERNEL = np.ones((EROSION, EROSION), np.uint8)


def mebin_threshold(anomaly_map: np.ndarray, low: np.float16, high: np.float16) -> float:
    """The threshold of one float16 map; `low` and `high` are the extremes of the split's maxima."""
    if low == high:
        return 255.0
    scaled = np.where(anomaly_map < low, np.float16(0), (anomaly_map - low) / (high - low) * np.float16(255))
    levels = list(range(255, 0, -RATE))
    counts = []
    for level in levels:
        binary = np.where(scaled > level, np.uint8(255), np.uint8(0))
        count, _ = cv2.connectedComponents(cv2.erode(binary, KERNEL), connectivity=8)
        counts.append(count - 1)
    # (count, index of the last threshold, length) of every run of equal counts
    runs = []
    for count, same in groupby(enumerate(counts), key=lambda pair: pair[1]):
        indexes = [index for index, _ in same]
        if count > 0 and len(indexes) >= MIN_INTERVAL:
            runs.append((count, indexes[-1], len(indexes)))
    if not runs:
        return 255.0
    longest = max(length for _, _, length in runs)
    chosen = next(count for count, _, length in runs if length == longest)
    last = [index for count, index, length in runs if count == chosen and length == longest][-1]
    return float(int(np.float16(levels[last]) * (high - low) / np.float16(255) + low))


def binarize_split(maps: list[Path], folder: Path) -> None:
    """RoBiS's coarse masks, MEBin OR mean + 3 std, of a list of TIFF files, as PNG files."""
    loaded = [tifffile.imread(path) for path in maps]
    maxima = [values.max() for values in loaded]
    low, high = min(maxima), max(maxima)
    everything = np.concatenate([values.ravel() for values in loaded]).astype(np.float32)
    # Sums in float64, so that the result can be compared.
    mean, std = np.float32(everything.mean(dtype=np.float64)), np.float32(everything.std(dtype=np.float64))
    fixed = mean + np.float32(STD_FACTOR) * std
    folder.mkdir(parents=True, exist_ok=True)
    for path, anomaly_map in zip(maps, loaded, strict=True):
        values = anomaly_map.astype(np.float32)
        by_mebin = cv2.erode((values > np.float32(mebin_threshold(anomaly_map, low, high))).astype(np.uint8), KERNEL)
        by_mean_std = cv2.erode((values > fixed).astype(np.uint8), KERNEL)
        cv2.imwrite(str(folder / f"{path.stem}.png"), np.bitwise_or(by_mebin, by_mean_std) * np.uint8(255))
