"""What became of an image: whether a final mask marks the defect, another place or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from robis.evaluation.counts import resize_mask
from robis.io.images import read_mask
from robis.report.runs import ANOMALOUS

# Result of one image -> what it means; in the order of the page.
VERDICTS = {
    "missed": "anomalous, but the final mask is empty",
    "found elsewhere": "anomalous, but the final mask marks other places and touches no defect",
    "false alarm": "normal, but the final mask is not empty",
    "found": "anomalous, and the final mask overlaps a defect (SegF1 says how well it fits)",
    "marked": "anomalous, and the final mask is not empty; whether it overlaps the defect is not known",
    "clean": "normal, and the final mask is empty",
    "unknown": "the image's label is not known",
}
# Of images whose label or ground truth is not known.
RARE_VERDICTS = ("marked", "unknown")


def verdict_of(label: str | None, marked: bool, overlaps: bool | None) -> str:
    """One of VERDICTS.

    Args:
        label: of the image; None where it is not known.
        marked: whether the final mask has a pixel.
        overlaps: whether the final mask and the ground truth have a pixel in common; None without ground truth.
    """
    if label is None:
        return "unknown"
    if label != ANOMALOUS:
        return "false alarm" if marked else "clean"
    if not marked:
        return "missed"
    return {None: "marked", True: "found", False: "found elsewhere"}[overlaps]


def count_verdicts(results: Iterable[str | None]) -> dict[str, int]:
    """How many images have each of VERDICTS; images that a run does not have (None) do not count."""
    counts = Counter(results)
    return {name: counts[name] for name in VERDICTS}


@dataclass(frozen=True)
class Truth:
    """Ground truth of an image (H, W): a bool mask, and its 8-connected regions labeled from 1."""

    mask: np.ndarray
    labels: np.ndarray
    regions: int

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read a ground-truth mask. Raises DataError."""
        mask = read_mask(path)
        labels, regions = label_regions(mask)
        return cls(mask, labels, regions)

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
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return labels, count - 1
