"""Coarse masks to fine ones with SAM: one image with three boxes, beside segment-anything's predictor."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from benchmarks import harness, inputs
from benchmarks.plain import refine as plain
from robis.refinement.sam import SamRefiner
from robis.refinement.sam_attention import without_score_matrices

BOXES = 3


def rows(options: harness.Options) -> Iterator[harness.Row]:
    """SAM vit_b with random weights, which take as long as trained ones."""
    torch.manual_seed(0)
    sam = (tiny_sam() if options.quick else sam_model_registry["vit_b"]()).eval()
    for name, parameter in sam.image_encoder.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:  # zero in a new model
            torch.nn.init.normal_(parameter, std=0.1)
    size = (48, 57) if options.quick else inputs.QUARTER
    rng = np.random.default_rng(0)
    image = inputs.photo(rng, size)
    coarse = np.zeros(size, bool)
    height, width = size
    for row, column, side in ((0.1, 0.1, 0.2), (0.5, 0.3, 0.25), (0.2, 0.6, 0.3)):
        top, left = int(row * height), int(column * width)
        coarse[top : top + int(side * height), left : left + int(side * width)] = True
    predictor = SamPredictor(sam)
    refiner = SamRefiner(without_score_matrices(deepcopy(sam)), BOXES, multimask=False)
    sides = (("the image embedded for every box", False), ("the image embedded once", True))
    for name, once in sides:
        yield harness.compare(
            "refine",
            f"SAM vit_b, {BOXES} boxes in an image of {size[0]} x {size[1]}, float32",
            f"segment-anything's predictor box by box, {name}",
            partial(plain.refine, predictor, image, coarse, BOXES, embed_once=once),
            partial(refiner, image, coarse),
            same_masks,
            repeats=min(options.repeats, 3),
            target=1.5,
        )


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
    """Pixels of the masks; sums in another order may move one at a border where the logit is 0."""
    different = int(np.count_nonzero(plain_mask != our_mask))
    harness.require(different <= plain_mask.size * 1e-4, f"{different} of {plain_mask.size} pixels differ")
    harness.require(0 < np.count_nonzero(our_mask) < our_mask.size, "a mask that is empty or full shows nothing")
    return "identical" if not different else f"{different} of {plain_mask.size} pixels differ"
