"""Anomaly maps to coarse masks and their thresholds.

METHODS is the registry: `mean_std`, `mebin`, `robis` (both) and `percentile`; `binarize_split` is the stage.
`mebin` finds one threshold per map, `statistics` one per split.
"""

from __future__ import annotations

from robis.binarization.mebin import Estimate, estimate
from robis.binarization.stage import METHODS, Method, binarize_split
from robis.binarization.statistics import MapStatistics, read_valid_map

__all__ = [
    "METHODS",
    "Estimate",
    "MapStatistics",
    "Method",
    "binarize_split",
    "estimate",
    "read_valid_map",
]
