"""Gaussian smoothing of tile maps by a small kernel."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_blur(maps: Tensor, size: int, sigma: float, border: Literal["constant", "reflect"] = "constant") -> Tensor:
    """Smooth maps with a Gaussian whose weights add up to 1.

    Args:
        maps: (B, 1, H, W).
        size: side of the kernel, odd, map pixels.
        sigma: of the Gaussian, map pixels.
        border: what lies beyond the border: "constant" zeros, or the map mirrored without its outermost pixel.

    Returns:
        (B, 1, H, W).
    """
    reach = size // 2
    offsets = torch.arange(size, dtype=maps.dtype, device=maps.device) - reach
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(maps, (reach, reach, reach, reach), mode=border)
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
