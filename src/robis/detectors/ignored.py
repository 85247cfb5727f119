"""Scores of ignored tokens: replaced before maps are interpolated and smoothed, so that nothing of them spreads."""

from __future__ import annotations

import torch
from torch import Tensor


def lowest_where(ignored: Tensor | None, scores: Tensor) -> Tensor:
    """Token scores, of which ignored ones are as low as the lowest of the others.

    Args:
        ignored: bool (B, g, h); None: no token is ignored.
        scores: float (B, g, h).

    Returns:
        float (B, g, h); 0 where all tokens of a tile are ignored.
    """
    if ignored is None:
        return scores
    lowest = scores.masked_fill(ignored, torch.inf).amin((1, 2), keepdim=True)
    return torch.where(ignored, torch.where(torch.isinf(lowest), 0.0, lowest), scores)
