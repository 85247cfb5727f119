"""SAM with random weights, which take as long as trained ones, and a mask to prompt it with."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def coarse_mask(height: int, width: int) -> np.ndarray:
    """Three squares: bool (height, width)."""
    mask = np.zeros((height, width), bool)
    for row, column, side in ((0.1, 0.1, 0.2), (0.5, 0.3, 0.25), (0.2, 0.6, 0.3)):
        top, left, length = int(row * height), int(column * width), int(side * height)
        mask[top : top + length, left : left + length] = True
    return mask


def random_sam(name: str, device: str = "cpu") -> Sam:
    """A SAM of a size ("tiny" or one of segment-anything's) with random weights, which are drawn on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        sam = (tiny_sam() if name == "tiny" else sam_model_registry[name]()).eval().requires_grad_(False).to(device)
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
