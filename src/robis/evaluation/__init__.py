"""Exact metrics of maps, masks and image scores, from counts that are gathered in one pass."""

from __future__ import annotations

from robis.evaluation.counts import PixelCounts, SegmentationCounts, resize_map, resize_mask
from robis.evaluation.metrics import (
    METRICS,
    Ranking,
    aupro,
    auroc,
    average_precision,
    class_f1,
    curves_table,
    f1_max,
    image_metrics,
    pixel_metrics,
    rank_images,
    rank_pixels,
    segmentation_metrics,
)
from robis.evaluation.stage import evaluate_split
from robis.evaluation.tables import format_table, mean_metrics, seed_spread

__all__ = [
    "METRICS",
    "PixelCounts",
    "Ranking",
    "SegmentationCounts",
    "aupro",
    "auroc",
    "average_precision",
    "class_f1",
    "curves_table",
    "evaluate_split",
    "f1_max",
    "format_table",
    "image_metrics",
    "mean_metrics",
    "pixel_metrics",
    "rank_images",
    "rank_pixels",
    "resize_map",
    "resize_mask",
    "seed_spread",
    "segmentation_metrics",
]
