"""The windows of WinCLIP (arXiv 2303.14814, section 4.2): square blocks of tokens, one at every place of the grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robis.errors import ConfigError


def window_tokens(grid: int, scale: int) -> Tensor:
    """Which tokens each window holds: int64 (W, scale * scale), W = (grid - scale + 1)^2, row by row.

    Args:
        grid: tokens along one side of the image, numbered row by row from 0.
        scale: tokens along one side of a window.
    """
    numbers = torch.arange(grid * grid).view(grid, grid)
    return numbers.unfold(0, scale, 1).unfold(1, scale, 1).reshape(-1, scale * scale)


def field_of(scale: int) -> str:
    """Name under which the embeddings of a scale's windows are stored."""
    return f"windows_{scale}"


def check_scales(scales: Sequence[int], grid: int) -> None:
    """Raise ConfigError for a window that is no part of the grid, or given twice."""
    if len(set(scales)) != len(scales) or any(not 1 <= scale <= grid for scale in scales):
        raise ConfigError(
            f"winclip.scales: found {list(scales)}; expected different numbers from 1 to {grid}, the tokens along one "
            f"side of a tile."
        )
