"""Anomaly maps from the distances of tokens (SuperADD, arXiv 2605.14808)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Where the filter ends, in sigmas, as in SciPy: 33 x 33 map pixels.
BLUR_REACH = 4.0


def token_maps(distances: Sequence[Tensor], size: tuple[int, int], sigma: float) -> Tensor:
    """Anomaly maps from the distances of each block's tokens.

    Bilinear to the map (corners not aligned: a token's value is at its center), mean of the blocks, Gaussian.

    Args:
        distances: per block float32 (B, g, h).
        size: height and width of a map in map pixels.
        sigma: of the Gaussian in map pixels; 0: none.

    Returns:
        float32 (B, *size).
    """
    maps = [F.interpolate(block[:, None], size=size, mode="bilinear", align_corners=False) for block in distances]
    mean = torch.stack(maps).mean(0)
    return (smooth(mean, sigma) if sigma else mean).squeeze(1)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of (B, 1, H, W) maps; what lies beyond the border has no weight."""
    rows, cols = (_blur_weights(side, sigma, maps) for side in maps.shape[-2:])
    return rows @ maps @ cols.T


def _blur_weights(side: int, sigma: float, like: Tensor) -> Tensor:
    """The filter of one axis as a matrix (side, side) whose rows add up to 1."""
    place = torch.arange(side, dtype=like.dtype, device=like.device)
    offsets = (place[:, None] - place[None, :]).abs()
    weights = torch.exp(-(offsets**2) / (2 * sigma**2)) * (offsets <= int(BLUR_REACH * sigma + 0.5))
    return weights / weights.sum(1, keepdim=True)
