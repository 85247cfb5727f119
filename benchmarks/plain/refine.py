"""SAM refinement with segment-anything's own predictor, box by box."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import binary_fill_holes
from segment_anything import SamPredictor


def boxes_of(coarse: np.ndarray, limit: int) -> list[np.ndarray]:
    """(x, y, x + w, y + h) of the largest 8-connected components of a bool mask."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(coarse.astype(np.uint8), connectivity=8)
    largest = sorted(stats[1:].tolist(), key=lambda row: -row[4])[:limit]
    return [np.array([x, y, x + w, y + h]) for x, y, w, h, _ in largest]


def refine(
    predictor: SamPredictor, image: np.ndarray, coarse: np.ndarray, boxes: int, *, embed_once: bool
) -> np.ndarray:
    """Union of the predictor's masks, holes filled: bool (H, W); the image is embedded once, or for every box."""
    union = np.zeros(coarse.shape, bool)
    for index, box in enumerate(boxes_of(coarse, boxes)):
        if index == 0 or not embed_once:
            predictor.set_image(image)
        masks, _, _ = predictor.predict(box=box, multimask_output=False)
        union |= masks.any(axis=0)
    return binary_fill_holes(union)
