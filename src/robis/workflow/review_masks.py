"""What a review takes from the final masks of a run: ground truth of defects, and regions that count as normal."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from robis.config.settings import SharedSettings
from robis.errors import DataError
from robis.evaluation.counts import resize_mask
from robis.io.maps import read_written_mask
from robis.workflow import results
from robis.workflow.verdict_files import Box, Image, Regions

SLACK = 2  # pixels by which a region's box may differ: the report's are of the mask before it is enlarged


def has_masks(settings: SharedSettings, run: str) -> bool:
    """Whether the results of a config have final masks of a run, be it in the config or not."""
    folder = Path(results.FOLDER, settings.dataset.name)
    return any(file.parts[-4] == run for file in results.places(results.MASKS, folder))


class FinalMask:
    """The regions of an image's final mask, in pixels of the image. Raises DataError where there is no such mask."""

    def __init__(self, settings: SharedSettings, run: str, image: Image, size: tuple[int, int]) -> None:
        """Take the image's height and width in pixels."""
        category, split, sample_id = image
        folder = Path(results.FOLDER, settings.dataset.name)
        masks = results.place(results.MASKS, folder, detector=run, category=category, split=split)
        self._file = masks / f"{sample_id}.png"
        self.pixels = resize_mask(read_written_mask(self._file, stage="refine"), *size)
        count, self._labels, self._stats, _ = cv2.connectedComponentsWithStats(
            self.pixels.view(np.uint8), connectivity=8
        )
        self.count = count - 1

    def of(self, boxes: Collection[Box]) -> np.ndarray:
        """The regions in these boxes, bool (H, W). Raises DataError where a box has none."""
        return np.isin(self._labels, [self._label_at(box) for box in boxes])

    def ground_truth(self, regions: Regions) -> np.ndarray:
        """The regions judged to be defects, bool (H, W); without any, all but false alarms. Raises DataError."""
        judged = self.of(regions.defects) if regions.defects else self.pixels & ~self.of(regions.false_alarms)
        if not judged.any():
            raise DataError(
                f"{self._file}: marks nothing, though the image is judged defective. Draw its mask by hand."
            )
        return judged

    def _label_at(self, box: Box) -> int:
        stats = self._stats
        fits = np.flatnonzero((np.abs(stats[1:, :4] - np.array(box)) <= SLACK).all(axis=1))
        if not len(fits):
            raise DataError(f"{self._file}: has no region at {box}. Review a report of the present results.")
        # Specks beside each other: the nearest.
        distances = np.abs(stats[1 + fits, :4] - np.array(box)).sum(axis=1)
        return 1 + int(fits[distances.argmin()])
