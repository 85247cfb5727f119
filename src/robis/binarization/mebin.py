"""MEBin: one threshold per anomaly map, the lowest of the longest range over which the number of regions is stable.

Published by AnomalyNCD (arXiv 2410.14379, section 3.2) and used by RoBiS (arXiv 2505.21152). The results are
bit-identical to the published procedure, which erodes the map and labels its components at each of 64 thresholds. Here
both happen once:

- Erosion is a minimum filter and commutes with thresholding. One filtered image of levels therefore holds all eroded
  masks: the mask of a threshold is where the level is high enough.
- The components of all masks follow from one descent through the levels, in which a pixel starts a region, joins one,
  or merges several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np

from robis.arrays.float16 import looked_up, value_range

TOP = 255  # the scale on which the thresholds are counted
FLOAT16_PATTERNS = 1 << 16

# The eight neighbors of a pixel as (row, column) steps; the first four precede it in raster order.
RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class StableInterval:
    """A run of equal counts, from threshold number `first` to number `last`, both included."""

    count: int
    first: int
    last: int


@dataclass(frozen=True)
class Estimate:
    """MEBin's result for one map.

    Attributes:
        threshold: in map units; pixels above it are defects.
        defects: estimated number of defects.
        stable_first, stable_last: levels (255, 251, ...) between which the number of defects is stable. None where it
            never is: then there is no defect, and no pixel exceeds the threshold.
    """

    threshold: int | float
    defects: int
    stable_first: int | None
    stable_last: int | None


def thresholds(threshold_step: int) -> range:
    """The thresholds MEBin tries, from high to low, on the scale 0..255 between the split's maxima."""
    return range(TOP, 0, -threshold_step)


def estimate(
    anomaly_map: np.ndarray,
    lowest_max: np.float16,
    highest_max: np.float16,
    *,
    threshold_step: int = 4,
    min_interval: int = 4,
    erosion_size: int = 6,
    compiled: bool = True,
) -> Estimate:
    """Find the threshold of one anomaly map.

    Args:
        anomaly_map: float16 (H, W), non-negative.
        lowest_max, highest_max: the smallest and the largest of the maxima of the split's maps. Where they are equal,
            there is no range to try thresholds in, and so no defect.
        threshold_step: gray levels between two thresholds.
        min_interval: thresholds that a stable interval must span.
        erosion_size: side of the erosion block in map pixels; 1 erodes nothing.
        compiled: False counts without numba, which takes half a second to load; the result is the same.
    """
    bits = np.ascontiguousarray(anomaly_map).view(np.uint16)
    levels = eroded(looked_up(level_table(lowest_max, highest_max, threshold_step), bits), erosion_size)
    counts = (component_counts if compiled else labeled_counts)(levels, len(thresholds(threshold_step)))
    stable = stable_interval(counts.tolist(), min_interval)
    if stable is None:
        # Published: 255, which no map scaled to 0..255 exceeds; other maps may.
        return Estimate(max(TOP, value_range(anomaly_map)[1]), 0, None, None)
    last = thresholds(threshold_step)[stable.last]
    return Estimate(
        threshold=map_threshold(last, lowest_max, highest_max),
        defects=stable.count,
        stable_first=thresholds(threshold_step)[stable.first],
        stable_last=last,
    )


def map_threshold(level: int, lowest_max: np.float16, highest_max: np.float16) -> int:
    """Convert a threshold on the scale 0..255 to map units, rounded down.

    As published, each step is rounded to float16. Maps beyond 255, for which there is no published value, would
    overflow float16 on the way and are converted in float64.
    """
    dtype = np.float16 if highest_max <= TOP else np.float64
    low, high = dtype(lowest_max), dtype(highest_max)
    return int(dtype(level) * (high - low) / dtype(TOP) + low)


@lru_cache(maxsize=8)
def level_table(lowest_max: np.float16, highest_max: np.float16, threshold_step: int) -> np.ndarray:
    """Count the thresholds below each float16 value, by its bit pattern: uint8 (65536,), read-only.

    A value is first scaled to 0..255 between the two maxima, each step rounded to float16 as published.
    """
    low, high = np.float16(lowest_max), np.float16(highest_max)
    table = np.zeros(FLOAT16_PATTERNS, np.uint8)
    if low < high:
        values = np.arange(FLOAT16_PATTERNS, dtype=np.uint16).view(np.float16)
        with np.errstate(all="ignore"):
            scaled = (values - low) / (high - low) * np.float16(TOP)
            scaled[~(values >= low)] = 0
        table[:] = np.searchsorted(np.array(thresholds(threshold_step)[::-1]), scaled.astype(np.float32), side="left")
    table.flags.writeable = False
    return table


def eroded(image: np.ndarray, size: int) -> np.ndarray:
    """Minimum filter over size x size pixels of a uint8 or uint16 image (H, W).

    It has OpenCV's anchor and ignores what lies outside of the image.
    """
    return cv2.erode(image, np.ones((size, size), np.uint8)) if size > 1 else image


def stable_interval(counts: Sequence[int], min_interval: int) -> StableInterval | None:
    """Choose among the runs of equal, non-zero counts that are at least `min_interval` thresholds long.

    The count with the longest run wins, on ties the first; then the longest of its runs, on ties the last. None where
    there is no such run.
    """
    runs: dict[int, list[StableInterval]] = {}
    first = 0
    for last, count in enumerate(counts):
        if last + 1 < len(counts) and counts[last + 1] == count:
            continue
        if count > 0 and last - first + 1 >= min_interval:
            runs.setdefault(count, []).append(StableInterval(count, first, last))
        first = last + 1
    if not runs:
        return None
    # max() keeps the first of equals, and a dict the order in which the counts came.
    longest = max(runs.values(), key=lambda same: max(_length(run) for run in same))
    return max(reversed(longest), key=_length)


def _length(run: StableInterval) -> int:
    return run.last - run.first + 1


def component_counts(levels: np.ndarray, depth: int) -> np.ndarray:
    """Count the 8-connected components at every threshold at once.

    Args:
        levels: uint8 (H, W), the number of thresholds below each pixel.
        depth: number of thresholds.

    Returns:
        int64 (depth,): element k, for the k-th highest threshold, counts the components of {levels >= depth - k}.
    """
    padded = cv2.copyMakeBorder(levels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    net = _compiled()(padded, depth, _touching_runs())
    return np.cumsum(net[:0:-1])


def labeled_counts(levels: np.ndarray, depth: int) -> np.ndarray:
    """`component_counts` by labeling at every threshold: ten times slower per map, but nothing has to be loaded."""
    masks = ((levels >= depth - k).view(np.uint8) for k in range(depth))
    return np.array([cv2.connectedComponents(mask, connectivity=8)[0] - 1 for mask in masks])


@cache
def _touching_runs() -> np.ndarray:
    """A neighbor of each connected part of every set of neighbors: int8 (256, 5), -1 after the last part.

    A set is a number of 8 bits, in the order of RING. Neighbors that touch are connected, wherever else they touch
    something, so that there are at most four parts. A pixel beside a single part joins it, and the number of components
    stays the same.
    """
    table = np.full((256, 5), -1, np.int8)
    for members in range(256):
        unseen = [bit for bit in range(8) if members >> bit & 1]
        parts = 0
        while unseen:
            table[members, parts] = unseen[0]
            parts += 1
            part = [unseen.pop(0)]
            for bit in part:
                touching = [other for other in unseen if _touch(RING[bit], RING[other])]
                part += touching
                unseen = [other for other in unseen if other not in touching]
    return table


def _touch(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return max(abs(first[0] - second[0]), abs(first[1] - second[1])) == 1


@cache
def _compiled() -> Callable[[np.ndarray, int, np.ndarray], np.ndarray]:
    """Compile the descent when it is first needed: importing numba takes longer than most commands."""
    from numba import njit

    try:
        descent = njit(cache=True, nogil=True)(_net_components)
        descent(np.zeros((3, 3), np.uint8), 1, _touching_runs())
    except (RuntimeError, OSError):
        # There is no folder for the cache, or it cannot be written to: compile for this process only.
        descent = njit(nogil=True)(_net_components)
    return descent


def _net_components(padded: np.ndarray, depth: int, parts: np.ndarray) -> np.ndarray:
    """Components that appear at each level, minus those that merge there: int64 (depth + 1,); level 0 is background.

    Pixels come from the highest level down, in raster order within a level, so that the levels alone say which
    neighbors come before a pixel. A pixel without earlier neighbors, or with a single connected part of them, needs
    no search: its link is set in one raster pass. Only at saddles, where several parts meet, a union-find decides, in
    that order, whether regions merge.
    """
    height, stride = padded.shape
    pixels = padded.ravel()
    steps = np.array([-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1], np.int64)
    parent = np.empty(pixels.size, np.int32)
    net = np.zeros(depth + 1, np.int64)
    saddles = np.empty(pixels.size, np.int32)
    neighbors = np.empty(pixels.size, np.uint8)
    place = np.zeros(depth + 1, np.int64)
    count = 0

    for row in range(1, height - 1):
        for pixel in range(row * stride + 1, (row + 1) * stride - 1):
            level = pixels[pixel]
            if level == 0:
                continue
            earlier = 0
            for bit in range(4):
                earlier |= (pixels[pixel + steps[bit]] >= level) << bit
            for bit in range(4, 8):
                earlier |= (pixels[pixel + steps[bit]] > level) << bit
            parent[pixel] = pixel
            if earlier == 0:
                net[level] += 1
            elif parts[earlier, 1] < 0:
                parent[pixel] = pixel + steps[parts[earlier, 0]]
            else:
                saddles[count] = pixel
                neighbors[count] = earlier
                place[level] += 1
                count += 1

    # Counting sort, highest level first; `place` turns from a histogram into positions.
    position = 0
    for level in range(depth, 0, -1):
        size = place[level]
        place[level] = position
        position += size
    order = np.empty(count, np.int32)
    for index in range(count):
        level = pixels[saddles[index]]
        order[place[level]] = index
        place[level] += 1

    for entry in order:
        saddle = saddles[entry]
        joined = parent[saddle]
        for part in parts[neighbors[entry]]:
            if part < 0:
                break
            root = saddle + steps[part]
            while parent[root] != root:
                parent[root] = parent[parent[root]]
                root = parent[root]
            if joined == saddle:
                joined = root
                parent[saddle] = root
            elif root != joined:
                parent[root] = joined
                net[pixels[saddle]] -= 1
    return net
