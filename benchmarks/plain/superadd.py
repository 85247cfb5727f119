"""Nearest distances and neighbors of tokens by the full distance matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(queries: Tensor, bank: Tensor) -> Tensor:
    """Distance (Q,) of every query (Q, C) to the nearest token of the bank (M, C)."""
    return torch.cdist(queries, bank).min(1).values


def neighbor_distances(tokens: Tensor, neighbors: int) -> Tensor:
    """Distances (n, neighbors) of every token (n, C) to its nearest others, in no order."""
    distances = torch.cdist(tokens, tokens).fill_diagonal_(torch.inf)
    return distances.topk(min(neighbors, len(tokens) - 1), largest=False, sorted=False).values
