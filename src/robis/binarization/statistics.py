"""Statistics of a set of anomaly maps, exact and in one pass, in memory that does not grow with the set.

Non-negative float16 has 31,744 finite values. Mean, standard deviation and percentiles follow from the number of pixels
at each of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from robis.arrays.float16 import FINITE_VALUES, histogram
from robis.binarization.mebin import eroded
from robis.errors import DataError
from robis.io.damage import damaged
from robis.io.maps import read_map
from robis.io.samples import IndexedSample
from robis.io.threads import threaded

NEGATIVE_ZERO = 0x8000


@dataclass(frozen=True)
class MapStatistics:
    """Statistics of a set of non-negative float16 maps.

    Attributes:
        pixels: int64 (31744,), the number of pixels per value, indexed by its bits, which sort as the values do.
        lowest_max, highest_max: the smallest and the largest of the maps' maxima.
        peaks: float16 (N,), the maximum of each map after erosion: the lowest threshold above which its eroded mask
            has no pixel, since erosion by a flat block commutes with thresholding.
    """

    pixels: np.ndarray
    lowest_max: np.float16
    highest_max: np.float16
    peaks: np.ndarray

    @classmethod
    def of(
        cls,
        paths: Iterable[Path],
        threads: int = 1,
        *,
        erosion_size: int = 1,
        images: Iterable[IndexedSample] | None = None,
    ) -> MapStatistics:
        """Read maps, `threads` at a time. Raises DataError where there are none or one cannot be used.

        Args:
            paths: the maps.
            threads: maps read at a time.
            erosion_size: side of the block that erodes maps before their peaks are taken, in map pixels.
            images: of the maps, whose ignored pixels do not count; None: all pixels count.
        """

        def count(pair: tuple[Path, IndexedSample | None]) -> tuple[np.ndarray, np.float16]:
            anomaly_map = read_valid_map(pair[0])
            return _count(anomaly_map, erosion_size, pair[1].ignored_at(anomaly_map.shape) if pair[1] else None)

        pairs = zip(paths, repeat(None) if images is None else images, strict=False)
        return cls._of_counts(threaded(count, pairs, threads))

    @classmethod
    def of_maps(cls, maps: Iterable[np.ndarray], *, erosion_size: int = 1) -> MapStatistics:
        """Take maps as `valid_map` gives them; see `of`. Raises DataError where there are none."""
        return cls._of_counts(_count(each, erosion_size) for each in maps)

    @classmethod
    def _of_counts(cls, counts_of_maps: Iterable[tuple[np.ndarray, np.float16]]) -> MapStatistics:
        pixels = np.zeros(FINITE_VALUES, np.int64)
        maxima, peaks = [], []
        for counts, peak in counts_of_maps:
            pixels += counts
            maxima.append(_values()[np.flatnonzero(counts)[-1]])
            peaks.append(peak)
        if not maxima:
            raise DataError("No anomaly maps to take statistics from; expected at least one.")
        return cls(pixels, min(maxima), max(maxima), np.array(peaks, np.float16))

    @property
    def is_flat(self) -> bool:
        """Whether all pixels have the same value."""
        return int(np.count_nonzero(self.pixels)) == 1

    def mean_std(self) -> tuple[np.float32, np.float32]:
        """Mean and (population) standard deviation over all pixels, summed in float64, rounded to float32."""
        values = _values().astype(np.float64)
        mean = np.dot(self.pixels, values) / self.pixels.sum()
        variance = np.dot(self.pixels, (values - mean) ** 2) / self.pixels.sum()
        return np.float32(mean), np.float32(np.sqrt(variance))

    def percentile(self, percent: float) -> float:
        """The value below which `percent` % of the pixels lie, interpolated linearly between two pixels."""
        below = np.cumsum(self.pixels)
        position = percent / 100 * (int(below[-1]) - 1)
        rank = int(position)
        share = position - rank
        neighbors = np.searchsorted(below, [rank, min(rank + 1, int(below[-1]) - 1)], side="right")
        low, high = _values()[neighbors].astype(np.float64).tolist()
        # From the nearer end, as NumPy does: exact at both ends.
        return float(low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share))


def read_valid_map(path: Path) -> np.ndarray:
    """Read an anomaly map: float16 (H, W), finite and not negative. Raises DataError naming the file."""
    return valid_map(read_map(path), path)


def valid_map(anomaly_map: np.ndarray, path: str | Path, *, stage: str | None = "merge") -> np.ndarray:
    """An anomaly map float16 (H, W) without negative zeros. Raises DataError for other values."""
    if anomaly_map.size == 0:
        raise damaged(path, f"the anomaly map has no pixels, its shape is {anomaly_map.shape}", stage)
    bits = anomaly_map.view(np.uint16)
    if bits.max() < FINITE_VALUES:
        return anomaly_map
    wrong = (bits >= FINITE_VALUES) & (bits != NEGATIVE_ZERO)
    if wrong.any():
        row, column = (int(index) for index in np.argwhere(wrong)[0])
        problem = (
            f"{int(wrong.sum())} of {bits.size} pixels are NaN, infinite or negative, the first "
            f"{anomaly_map[row, column]} at row {row}, column {column}; expected finite scores of at least 0"
        )
        raise damaged(path, problem, stage)
    return np.abs(anomaly_map)


def _count(
    anomaly_map: np.ndarray, erosion_size: int, ignored: np.ndarray | None = None
) -> tuple[np.ndarray, np.float16]:
    """How many pixels have each value, and the map's peak. The bits of the values sort as the values do.

    Ignored pixels, bool (H, W), are not counted; `merge` has made them 0, which is above no threshold.
    """
    bits = np.ascontiguousarray(anomaly_map).view(np.uint16)
    peak = eroded(bits, erosion_size).max().view(np.float16)
    return histogram(bits, ignored), peak


def _values() -> np.ndarray:
    return np.arange(FINITE_VALUES, dtype=np.uint16).view(np.float16)
