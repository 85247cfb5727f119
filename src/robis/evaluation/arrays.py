"""Pixel metrics of maps and masks in memory, as the stage computes them of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robis.arrays.float16 import not_finite, to_float16
from robis.errors import DataError
from robis.evaluation import metrics
from robis.evaluation.counts import PixelCounts, SegmentationCounts, resize_map, resize_mask


def pixel_metrics(
    maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None = None
) -> dict[str, float | None]:
    """Metrics over the pixels of all images: AUROC, AP, best F1 and AUPRO of the maps, F1 and IoU of the masks.

    Maps and masks of another size are brought to that of their ground truth. Maps become float16, as the workflow
    stores them.

    Args:
        maps: anomaly maps (h, w) of any float type, finite, at least 0.
        truths: ground truth bool (H, W) of each, without a pixel for a normal image.
        masks: final masks bool (h, w) of each; None leaves out their metrics.

    Returns:
        Metric by name, in 0..1, in the names of the workflow's tables; None where it is not defined.

    Raises:
        DataError: the numbers of maps, truths and masks differ, or one of them cannot be used.
    """
    finals = [None] * len(maps) if masks is None else list(masks)
    if not len(maps) == len(truths) == len(finals):
        raise DataError(
            f"found {len(maps)} maps, {len(truths)} truths and {len(finals)} masks; expected one of each per image."
        )
    pixels, segmentation = PixelCounts(), SegmentationCounts()
    for number, (anomaly_map, truth, final) in enumerate(zip(maps, truths, finals, strict=True)):
        marked = _mask(truth, f"truths[{number}]")
        pixels.add(resize_map(_checked(anomaly_map, number), *marked.shape), marked)
        if final is not None:
            segmentation += SegmentationCounts.of(resize_mask(_mask(final, f"masks[{number}]"), *marked.shape), marked)
    of_maps = metrics.pixel_metrics(metrics.rank_pixels(pixels))
    return of_maps if masks is None else of_maps | metrics.segmentation_metrics(segmentation)


def _checked(anomaly_map: np.ndarray, number: int) -> np.ndarray:
    values = np.asarray(anomaly_map, np.float32)
    if values.ndim == 2 and values.size:
        stored = to_float16(values)
        if not_finite(stored) is None and stored.min() >= 0:
            return stored
    raise DataError(
        f"maps[{number}]: found shape {values.shape}, or values that are negative, NaN or too large for float16; "
        f"expected (h, w) of finite values of at least 0."
    )


def _mask(values: np.ndarray, name: str) -> np.ndarray:
    mask = np.asarray(values, bool)
    if mask.ndim != 2 or not mask.size:
        raise DataError(f"{name}: found shape {mask.shape}; expected a mask (h, w) of at least one pixel.")
    return mask
