"""Refinement by GrabCut: colors only, no weights (Rother, Kolmogorov and Blake, SIGGRAPH 2004)."""

from __future__ import annotations

import cv2
import numpy as np

from robis.arrays.morphology import fill_holes, largest_components
from robis.refinement.methods import check_shapes

ITERATIONS = 2
# Anomaly maps overshoot a defect's border and seldom miss its middle: pixels deeper than this fraction of the
# component's largest inscribed radius are certain foreground, which also keeps GrabCut from losing the defect.
CORE = 0.5
# Background around a box for the color model: a fraction of the box's side, and at least so many pixels.
MARGIN = 0.5
MIN_MARGIN = 8


class GrabCutRefiner:
    """GrabCut on each of the largest components separately; the union of the results, holes filled.

    Each component is cut out of its surroundings, so that the background is local and the time depends on the size of
    the defects. Before holes are filled, the result lies within the boxes and contains the core of every component.
    Where GrabCut has no background to learn from, the coarse component stays.

    Args:
        max_boxes: number of components.
    """

    def __init__(self, max_boxes: int) -> None:
        self.max_boxes = max_boxes

    def __call__(self, image: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Refine a coarse mask, bool (H, W), on its image, uint8 (H, W, 3), channels in any order.

        The same input gives the same mask on every thread. Raises DataError where their shapes do not fit together.
        """
        # OpenCV would refuse it, as it does color models of few pixels, and the coarse mask would stay.
        check_shapes(image, coarse)
        fine = np.zeros(coarse.shape, dtype=bool)
        boxes, ranks = largest_components(coarse, self.max_boxes)
        for rank, box in enumerate(boxes, start=1):
            crop = _surroundings(box, coarse.shape)
            fine[crop] |= _cut(image[crop], ranks[crop] == rank, _box_labels(box, crop))
        return fill_holes(fine)


def _surroundings(box: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    left, top, right, bottom = (int(corner) for corner in box)
    across = max(MIN_MARGIN, int((right - left) * MARGIN))
    down = max(MIN_MARGIN, int((bottom - top) * MARGIN))
    return (
        slice(max(0, top - down), min(shape[0], bottom + down)),
        slice(max(0, left - across), min(shape[1], right + across)),
    )


def _box_labels(box: np.ndarray, crop: tuple[slice, slice]) -> np.ndarray:
    """Background around a box, probable background in it, for the pixels of the crop."""
    rows, columns = crop
    labels = np.full((rows.stop - rows.start, columns.stop - columns.start), cv2.GC_BGD, dtype=np.uint8)
    inside = np.s_[box[1] - rows.start : box[3] - rows.start, box[0] - columns.start : box[2] - columns.start]
    labels[inside] = cv2.GC_PR_BGD
    return labels


def _cut(image: np.ndarray, component: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The refined component; `labels` are GrabCut's, without it, and are written to."""
    labels[component] = cv2.GC_PR_FGD
    labels[_core(component)] = cv2.GC_FGD
    # GrabCut clusters colors with OpenCV's random numbers, whose state is the calling thread's.
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(
            np.ascontiguousarray(image),
            labels,
            (0, 0, 0, 0),  # unread in this mode
            background,
            foreground,
            ITERATIONS,
            cv2.GC_INIT_WITH_MASK,
        )
    except cv2.error:
        # OpenCV refuses images without background, and some color models of few pixels.
        return component
    foreground_pixels = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return _touching(foreground_pixels, component)


def _core(component: np.ndarray) -> np.ndarray:
    padded = cv2.copyMakeBorder(component.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    core: np.ndarray = component & (depth >= CORE * depth.max())
    return core


def _touching(mask: np.ndarray, component: np.ndarray) -> np.ndarray:
    """Keep the 8-connected pieces of a mask that share a pixel with `component`."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.zeros(count, dtype=bool)
    kept[labels[mask & component]] = True
    touching: np.ndarray = kept[labels]
    return touching
