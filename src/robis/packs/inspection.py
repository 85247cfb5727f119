"""What an inspected image gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class Region:
    """A connected region of a final mask, in pixels of the image; (0, 0) is the image's upper left corner.

    Attributes:
        box: x, y, width and height.
        area: pixels of the image that it covers.
        peak: the highest value of the anomaly map in it.
        centroid: x and y.
    """

    box: tuple[int, int, int, int]
    area: float
    peak: float
    centroid: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """For a JSON line."""
        centroid = [round(value, 1) for value in self.centroid]
        return {"box": list(self.box), "area": round(self.area, 1), "peak": self.peak, "centroid": centroid}


@dataclass(frozen=True, eq=False)
class Inspection:
    """The result of one image.

    Attributes:
        score: of the image, before any re-scoring.
        is_anomalous: whether the score is above the limit; without a limit, whether the mask has a pixel.
        limit: see `Manifest.limit`; None where the pack has none.
        map: the anomaly map, float16 (h, w), at least 0; (h, w) are `merge.scale` times the sides of the image.
        mask: the final mask, bool (h, w).
        regions: of the mask, 8-connected, the largest first.
        height, width: of the image in pixels.
        milliseconds: by step: read, cut, infer, merge, mask, score.
    """

    score: float
    is_anomalous: bool
    limit: float | None
    map: np.ndarray
    mask: np.ndarray
    regions: tuple[Region, ...]
    height: int
    width: int
    milliseconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Everything but the map and the mask, for a JSON line."""
        return {
            "score": self.score,
            "is_anomalous": self.is_anomalous,
            "limit": self.limit,
            "regions": [region.as_json() for region in self.regions],
            "height": self.height,
            "width": self.width,
            "milliseconds": {step: round(value, 1) for step, value in self.milliseconds.items()},
        }


def regions_of(mask: np.ndarray, anomaly_map: np.ndarray, sides: tuple[int, int]) -> tuple[Region, ...]:
    """The regions of a mask, the largest first.

    Args:
        mask: bool (h, w).
        anomaly_map: float16 (h, w).
        sides: height and width of the image in pixels.
    """
    count, labels, stats, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    down, across = (side / length for side, length in zip(sides, mask.shape, strict=True))
    regions = []
    for label in sorted(range(1, count), key=lambda label: -int(stats[label][4])):
        x, y, width, height, area = (int(value) for value in stats[label])
        inside = np.s_[y : y + height, x : x + width]
        peak = float(anomaly_map[inside][labels[inside] == label].max())
        left, top = int(x * across), int(y * down)
        right, bottom = int(np.ceil((x + width) * across)), int(np.ceil((y + height) * down))
        center = (float(centers[label][0] + 0.5) * across, float(centers[label][1] + 0.5) * down)
        regions.append(Region((left, top, right - left, bottom - top), area * down * across, peak, center))
    return tuple(regions)
