"""Thresholds and coarse masks of anomaly maps in memory, as the stage makes them of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robis.arrays.float16 import to_float16
from robis.binarization.stage import Calibration, CoarseMask, Thresholding, coarse_mask
from robis.binarization.statistics import MapStatistics, valid_map
from robis.errors import DataError


def binarize(
    maps: Sequence[np.ndarray], options: Thresholding, reference: Sequence[np.ndarray] | None = None
) -> list[CoarseMask]:
    """Coarse masks of anomaly maps, with the threshold of each: MEBin, mean + 3 std and the others (`Thresholding`).

    Args:
        maps: (H, W) each, of any size and float type, finite, at least 0, usually 0..255; they become float16.
        options: the method and its constants; `Thresholding("robis")` is that of RoBiS (arXiv 2505.21152).
        reference: the maps that thresholds are taken from, such as those of normal images; None: `maps` themselves.

    Raises:
        DataError: no maps, or one has no pixels, or values that are negative or not finite; or no reference, or too
            few maps in it, for the promise of method "rate".
    """
    checked = _checked(maps, "maps")
    if reference is None and options.votes.rate:
        raise DataError("reference: found None; method 'rate' takes its threshold from maps of held-out normal images.")
    references = checked if reference is None else _checked(reference, "reference")
    statistics = MapStatistics.of_maps(references, erosion_size=options.peak_erosion)
    calibration = Calibration.of(statistics, options)
    return [coarse_mask(each, calibration, options, compiled=len(checked) > 1) for each in checked]


def _checked(maps: Sequence[np.ndarray], name: str) -> list[np.ndarray]:
    return [_valid(np.asarray(each, np.float32), f"{name}[{number}]") for number, each in enumerate(maps)]


def _valid(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim != 2:
        raise DataError(f"{name}: found shape {values.shape}; expected a map (H, W).")
    return valid_map(to_float16(values), name, stage=None)
