"""Counts of a fixed size that a pass over maps and masks collects, and that add up.

Non-negative float16 has 31,744 finite values, and their bits, read as integers, sort as the values do. Three numbers
per value (normal pixels, anomalous pixels, covered fraction of the ground-truth regions) are therefore enough for
every threshold metric, for any number of images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from robis.arrays.float16 import FINITE_VALUES, histogram, to_float16, to_float32

NEGATIVE_ZERO = 0x8000


def _counts() -> np.ndarray:
    return np.zeros(FINITE_VALUES, np.int64)


def _weights() -> np.ndarray:
    return np.zeros(FINITE_VALUES, np.float64)


@dataclass(eq=False)
class PixelCounts:
    """Counts per float16 value, indexed by the value's bits; without arguments the start of a sum.

    The integer counts do not depend on how partial counts are grouped. `coverage` is a float64 sum: another grouping
    may change its last bits, and a metric by less than 1e-12.

    Attributes:
        normal, anomalous: int64 (31744,), pixels outside and inside the defects.
        coverage: float64 (31744,), the sum over defect pixels of 1 / area of their region; summed from a threshold
            upwards and divided by `regions`, it is PRO, the mean covered fraction of a region.
        regions: number of 8-connected ground-truth regions.
    """

    normal: np.ndarray = field(default_factory=_counts)
    anomalous: np.ndarray = field(default_factory=_counts)
    coverage: np.ndarray = field(default_factory=_weights)
    regions: int = 0

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray, ignored: np.ndarray | None = None) -> None:
        """Count an image.

        Args:
            anomaly_map: float16 (H, W), finite and non-negative.
            mask: bool (H, W), True on defects.
            ignored: bool (H, W), True on pixels that do not count; None: all count. Of a region that they cut up, what
                is left stays one region, and of one that lies in them nothing is left.

        Raises:
            ValueError: another dtype or shape, or values that are negative or not finite.
        """
        if anomaly_map.dtype != np.float16 or mask.dtype != np.bool_:
            raise ValueError(f"expected float16 map and bool mask, got {anomaly_map.dtype} and {mask.dtype}")
        if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape:
            raise ValueError(f"expected two (H, W) arrays, got map {anomaly_map.shape} and mask {mask.shape}")
        if not anomaly_map.size:
            return
        bits = np.ascontiguousarray(anomaly_map).view(np.uint16)
        if bits.max() >= FINITE_VALUES:
            bits = np.where(bits == NEGATIVE_ZERO, np.uint16(0), bits)
            if bits.max() >= FINITE_VALUES:
                raise ValueError("the anomaly map holds values that are negative or not finite")
        self.normal += histogram(bits, ignored)
        if mask.any():
            self._add_defects(bits, mask, ignored)

    def _add_defects(self, bits: np.ndarray, mask: np.ndarray, ignored: np.ndarray | None) -> None:
        # Only the bounding box is labeled: defects are small, images are large.
        pixels = np.ascontiguousarray(mask).view(np.uint8)
        x, y, width, height = cv2.boundingRect(pixels)
        window = np.s_[y : y + height, x : x + width]
        _, labels = cv2.connectedComponents(pixels[window], connectivity=8, ltype=cv2.CV_32S)
        inside = mask[window] if ignored is None else mask[window] & ~ignored[window]
        region = labels[inside] - 1
        value = bits[window][inside]
        area = np.bincount(region)
        defects = np.bincount(value, minlength=FINITE_VALUES)
        self.anomalous += defects
        self.normal -= defects
        # Of a region that is ignored completely the area is 0, and no pixel is left.
        self.coverage += np.bincount(value, weights=1.0 / area[region], minlength=FINITE_VALUES)
        self.regions += int(np.count_nonzero(area))

    def merge(self, other: PixelCounts) -> None:
        """Add the counts of other images to these."""
        self.normal += other.normal
        self.anomalous += other.anomalous
        self.coverage += other.coverage
        self.regions += other.regions

    def __add__(self, other: PixelCounts) -> PixelCounts:
        total = PixelCounts()
        total.merge(self)
        total.merge(other)
        return total


@dataclass(frozen=True)
class SegmentationCounts:
    """Pixels of final masks against the ground truth, pooled over images."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, predicted: np.ndarray, mask: np.ndarray, ignored: np.ndarray | None = None) -> SegmentationCounts:
        """Compare a final mask with its ground truth, both bool (H, W). Raises ValueError where the shapes differ.

        Ignored pixels, bool (H, W), do not count.
        """
        if predicted.shape != mask.shape:
            raise ValueError(f"the final mask is {predicted.shape} and the ground truth {mask.shape}")
        if ignored is not None:
            predicted, mask = predicted[~ignored], mask[~ignored]
        tp = int(np.count_nonzero(predicted & mask))
        fp = int(np.count_nonzero(predicted)) - tp
        fn = int(np.count_nonzero(mask)) - tp
        return cls(tp, fp, fn, mask.size - tp - fp - fn)

    def __add__(self, other: SegmentationCounts) -> SegmentationCounts:
        return SegmentationCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)


def resize_map(anomaly_map: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a finite float16 map (H, W) to (height, width), bilinear, as float16 clipped at 0.

    Pixel centers lie at half-integers (PyTorch's `align_corners=False`) and there is no antialiasing, as in the
    published evaluations. Interpolation is in float32.
    """
    if anomaly_map.shape == (height, width) and anomaly_map.view(np.int16).min(initial=0) >= 0:
        return anomaly_map
    pixels = to_float32(anomaly_map)
    np.maximum(pixels, 0, out=pixels)
    if anomaly_map.shape != (height, width):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return to_float16(pixels)


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a bool mask (H, W) to (height, width), nearest: row i takes row floor((i + 0.5) * H / height).

    Computed in integers and therefore exact at any size; OpenCV's nearest modes step in fixed point and can drift.
    """
    if mask.shape == (height, width):
        return mask
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    return mask[:, columns][rows]
