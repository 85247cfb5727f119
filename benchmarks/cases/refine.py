"""Coarse masks to fine ones with SAM: one image with three boxes, beside segment-anything's predictor."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from benchmarks import harness, inputs
from benchmarks.plain import refine as plain
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
    """SAM with random weights, which take as long as trained ones."""
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


def coarse_mask(height: int, width: int) -> np.ndarray:
    """Three squares: bool (height, width)."""
    mask = np.zeros((height, width), bool)
    for row, column, side in ((0.1, 0.1, 0.2), (0.5, 0.3, 0.25), (0.2, 0.6, 0.3)):
        top, left, length = int(row * height), int(column * width), int(side * height)
        mask[top : top + length, left : left + length] = True
    return mask


def random_sam(name: str) -> Sam:
    """A SAM of a size ("tiny" or one of segment-anything's) with random weights."""
    torch.manual_seed(0)
    sam = (tiny_sam() if name == "tiny" else sam_model_registry[name]()).eval()
    for key, parameter in sam.image_encoder.named_parameters():
        if "rel_pos" in key or "pos_embed" in key:  # zero in a new model
            torch.nn.init.normal_(parameter, std=0.1)
    return sam


def tiny_sam() -> Sam:
    """The parts of SAM at a size that takes milliseconds: windowed and global attention, as in vit_b."""
    grid, width = 4, 16
    encoder = ImageEncoderViT(
        **{"img_size": grid * 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "out_chans": width, "qkv_bias": True},
        **{"use_rel_pos": True, "rel_pos_zero_init": False, "window_size": 3, "global_attn_indexes": (1,)},
    )
    prompts = PromptEncoder(
        embed_dim=width,
        image_embedding_size=(grid, grid),
        input_image_size=(grid * 16, grid * 16),
        mask_in_chans=4,
    )
    transformer = TwoWayTransformer(depth=1, embedding_dim=width, mlp_dim=32, num_heads=2)
    return Sam(encoder, prompts, MaskDecoder(transformer_dim=width, transformer=transformer))


def same_masks(plain_mask: np.ndarray, our_mask: np.ndarray) -> str:
    """Pixels of the masks; sums in another order may move a border where the logit is 0."""
    different = int(np.count_nonzero(plain_mask != our_mask))
    harness.require(different <= plain_mask.size * 1e-4, f"{different} of {plain_mask.size} pixels differ")
    harness.require(bool(our_mask.any() and not our_mask.all()), "the mask is empty or full, which shows nothing")
    return "identical" if not different else f"{different} of {plain_mask.size} pixels differ"
