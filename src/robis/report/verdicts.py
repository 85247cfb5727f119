"""What became of an image: judged anomalous or normal, rightly or not, and where its final mask is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from robis.evaluation.counts import resize_mask
from robis.evaluation.regions import labeled_regions
from robis.io.images import read_mask
from robis.report.runs import ANOMALOUS

# Result of one image -> what it means; in the order of the page.
VERDICTS = {
    "missed": "anomalous, but judged normal",
    "found elsewhere": "anomalous and judged so, but the final mask touches no defect",
    "false alarm": "normal, but judged anomalous",
    "found": "anomalous and judged so, and the final mask overlaps a defect (SegF1 says how well it fits)",
    "caught": "anomalous and judged so; there is no ground truth to compare the final mask with",
    "clean": "normal and judged so",
    "judged anomalous": "judged anomalous; the image's label is not known",
    "judged normal": "judged normal; the image's label is not known",
}
# Of images whose label or ground truth is not known.
RARE_VERDICTS = ("caught", "judged anomalous", "judged normal")
MOST_BOXES = 50  # of an image, that the page lets a person judge
# Verdicts on images that are judged anomalous.
JUDGED_ANOMALOUS = ("found elsewhere", "false alarm", "found", "caught", "judged anomalous")


def verdict_of(label: str | None, judged: bool, overlaps: bool | None) -> str:
    """One of VERDICTS.

    Args:
        label: of the image; None where it is not known.
        judged: whether the image is judged anomalous.
        overlaps: whether the final mask and the ground truth have a pixel in common; None without ground truth.
    """
    if label is None:
        return "judged anomalous" if judged else "judged normal"
    if label != ANOMALOUS:
        return "false alarm" if judged else "clean"
    if not judged:
        return "missed"
    return {None: "caught", True: "found", False: "found elsewhere"}[overlaps]


def count_verdicts(results: Iterable[str | None]) -> dict[str, int]:
    """How many images have each of VERDICTS; images that a run does not have (None) do not count."""
    counts = Counter(results)
    return {name: counts[name] for name in VERDICTS}


@dataclass(frozen=True)
class Truth:
    """Ground truth of an image (H, W): a bool mask, and its 8-connected regions labeled from 1.

    Ignored pixels belong to no region. What they leave of a region stays one, and is none where nothing is left.
    """

    mask: np.ndarray
    labels: np.ndarray
    regions: int

    @classmethod
    def read(cls, path: Path, ignored: np.ndarray | None = None) -> Truth:
        """Read a ground-truth mask, without the ignored pixels, bool (H, W). Raises DataError."""
        mask = read_mask(path)
        labels, regions = label_regions(mask)
        if ignored is None:
            return cls(mask, labels, regions)
        left, labels = np.unique(np.where(ignored, 0, labels), return_inverse=True)
        # Ignored pixels are among those of the background, 0.
        return cls(mask & ~ignored, labels.reshape(mask.shape).astype(np.int32), len(left) - 1)

    def at_its_size(self, mask: np.ndarray) -> np.ndarray:
        """Another mask, brought to the size of this one (nearest)."""
        return resize_mask(mask, *self.mask.shape)

    def overlaps(self, mask: np.ndarray) -> bool | None:
        """Whether a mask of the same size has a defect pixel in common; None where the ground truth is empty."""
        return bool((self.mask & mask).any()) if self.regions else None

    def coverage(self, mask: np.ndarray, sample: Mapping[str, Any]) -> pd.DataFrame:
        """A row per region: sample_id, row, area in pixels, and the share of it inside a mask of the same size."""
        area = np.bincount(self.labels[self.labels > 0], minlength=self.regions + 1)[1:]
        inside = np.bincount(self.labels[mask], minlength=self.regions + 1)[1:]
        return pd.DataFrame(
            {
                "sample_id": str(sample["sample_id"]),
                "row": pd.array([sample["row"]] * self.regions, dtype="Int64"),
                "area": area,
                "covered": inside / area,
            }
        )


def no_regions() -> pd.DataFrame:
    """A table as `Truth.coverage` gives it, without a row."""
    columns = {"sample_id": "str", "row": "Int64", "area": "int64", "covered": "float64"}
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})


def label_regions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels (int32, 0 for the background) of the 8-connected regions of a bool mask (H, W), and their number."""
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return labels, count - 1


@dataclass(frozen=True)
class Marked:
    """What a final mask marks.

    Attributes:
        area: fraction of its pixels that are marked.
        regions: number of 8-connected regions.
        boxes: x, y, width and height of the regions in image pixels, the largest first, at most MOST_BOXES.
        peak: highest value of the anomaly map in the largest region; None where it is not asked for.
    """

    area: float
    regions: int
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    peak: float | None = None

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Of the largest region; None where nothing is marked."""
        return self.boxes[0] if self.boxes else None

    @classmethod
    def of(
        cls, mask: np.ndarray, height: int, width: int, anomaly_map: Callable[[], np.ndarray] | None = None
    ) -> Marked:
        """Measure a bool mask (H, W) of an image of `height` and `width`.

        `anomaly_map` reads the image's map (H, W); it is called where something is marked. Of regions with the same
        area, the uppermost counts.
        """
        labels, regions = labeled_regions(mask, height, width)
        if not regions:
            return cls(0.0, 0)
        peak, largest = None, labels == regions[0].label
        del labels
        if anomaly_map is not None:
            values = anomaly_map()
            peak = float(values[resize_mask(largest, *values.shape)].max(initial=0))
        return cls(float(mask.mean()), len(regions), tuple(region.box for region in regions[:MOST_BOXES]), peak)
