"""Coarse masks to fine ones with SAM: one image with three boxes, beside segment-anything's predictor."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
from segment_anything import SamPredictor

from benchmarks import harness, inputs
from benchmarks.plain import refine as plain
from benchmarks.sam_models import coarse_mask, random_sam
from robis.refinement.sam import SamRefiner
from robis.refinement.sam_attention import without_score_matrices


@dataclass(frozen=True)
class Sizes:
    """SAM's size, height and width of the image in pixels, and largest components that give a box."""

    sam: str = "vit_b"
    height: int = inputs.QUARTER[0]
    width: int = inputs.QUARTER[1]
    boxes: int = 3


FULL = Sizes()
QUICK = Sizes("tiny", 48, 57)


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Row]:
    """One image, its boxes one by one and together."""
    sam = random_sam(sizes.sam)
    image = inputs.photo(np.random.default_rng(0), (sizes.height, sizes.width))
    coarse = coarse_mask(sizes.height, sizes.width)
    predictor = SamPredictor(sam)
    refiner = SamRefiner(without_score_matrices(deepcopy(sam)), sizes.boxes, multimask=False)
    for name, once in (("the image embedded for every box", False), ("the image embedded once", True)):
        work = harness.Work(
            "refine",
            f"SAM {sizes.sam}, {sizes.boxes} boxes in an image of {sizes.height} x {sizes.width}, float32",
            f"segment-anything's predictor box by box, {name}",
            1.5,
        )
        side = partial(plain.refine, predictor, image, coarse, sizes.boxes, embed_once=once)
        yield harness.compare(work, side, partial(refiner, image, coarse), same_masks, min(options.repeats, 3))


def same_masks(plain_mask: np.ndarray, our_mask: np.ndarray) -> str:
    """Pixels of the masks; sums in another order may move a border where the logit is 0."""
    different = int(np.count_nonzero(plain_mask != our_mask))
    harness.require(different <= plain_mask.size * 1e-4, f"{different} of {plain_mask.size} pixels differ")
    harness.require(bool(our_mask.any() and not our_mask.all()), "the mask is empty or full, which shows nothing")
    return "identical" if not different else f"{different} of {plain_mask.size} pixels differ"
