"""Gaussian smoothing of tile maps: by a small kernel, and as SciPy does it."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Where SciPy's filter ends, in sigmas.
REACH = 4.0


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


def gaussian_filter(maps: Tensor, sigma: float) -> Tensor:
    """SciPy's `gaussian_filter` of maps (B, H, W): cut at 4 sigmas; the border mirrors the map, its last pixels too."""
    rows, columns = (_filter_matrix(side, sigma).to(maps) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


@cache
def _filter_matrix(side: int, sigma: float) -> Tensor:
    """The filter of one axis as a matrix (side, side)."""
    reach = int(REACH * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    rows = np.arange(side)[:, None]
    places = (rows + offsets) % (2 * side)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (rows, np.minimum(places, 2 * side - 1 - places)), weights / weights.sum())
    return torch.from_numpy(matrix).float()
