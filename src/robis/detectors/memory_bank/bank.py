"""A bank of normal tokens, and the distance of a token to the nearest of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Distances are computed for so many tokens at a time, and with so many of the bank: 64 MB of products.
QUERIES_AT_ONCE, BANK_AT_ONCE = 2048, 8192
# The same on a CPU: 2 MB of products, which stay in the cache of a core until their minima are found.
CPU_QUERIES_AT_ONCE, CPU_BANK_AT_ONCE = 512, 1024
# Most tokens at a time whose distances to all others are computed on a CPU.
CPU_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Bank:
    """Normal tokens, ready for nearest-neighbor search.

    Distances are the same around any center. Around the tokens' own, the terms of |a - b|^2 = |a|^2 + |b|^2 - 2 ab are
    small, and float32 leaves enough of their difference: ViTs have channels that are large in all tokens alike.

    Attributes:
        center: (C,) mean token.
        tokens: (M, C) float32, the center taken off.
        squares: (M,) their squared lengths.
    """

    center: Tensor
    tokens: Tensor
    squares: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> Bank:
        """Make a bank of (M, C) float32 tokens, on their device."""
        center = tokens.mean(0, dtype=torch.float64).float()
        shifted = tokens - center
        return cls(center, shifted, shifted.square().sum(1))

    def nearest(self, queries: Tensor) -> Tensor:
        """Euclidean distance of tokens (Q, C) to the nearest of the bank, float32 (Q,); see `search`."""
        return self.search(queries)[0]

    def search(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Euclidean distance of tokens to the nearest of the bank, and which it is.

        By blocks of matrix products with a running minimum. Which token is nearest is decided by these float32
        products; its distance is then computed from the difference itself, so that of equal tokens it is 0.

        Args:
            queries: (Q, C) float32.

        Returns:
            float32 (Q,), and int64 (Q,), numbers of the bank's tokens.
        """
        at_once = CPU_QUERIES_AT_ONCE if queries.device.type == "cpu" else QUERIES_AT_ONCE
        parts = [self._search(part - self.center) for part in queries.split(at_once)]
        distances, numbers = (torch.cat(values) for values in zip(*parts, strict=True))
        return distances, numbers

    def _search(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        best = queries.new_full((len(queries),), torch.inf)
        where = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
        at_once = CPU_BANK_AT_ONCE if queries.device.type == "cpu" else BANK_AT_ONCE
        for start in range(0, len(self.tokens), at_once):
            chosen = slice(start, start + at_once)
            # Without |a|^2, which is the same for the whole bank.
            found, index = torch.addmm(self.squares[chosen], queries, self.tokens[chosen].T, alpha=-2).min(1)
            nearer = found < best
            best = torch.where(nearer, found, best)
            where = torch.where(nearer, index + start, where)
        return (queries - self.tokens[where]).square_().sum(1).sqrt_(), where

    def neighbors(self, query: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The nearest tokens of the bank.

        Args:
            query: (C,) float32.
            count: how many, at most the whole bank.

        Returns:
            Ascending Euclidean distances float32 (n,), and numbers of the bank's tokens, int64 (n,).
        """
        shifted = query - self.center
        squared = torch.addmv(self.squares, self.tokens, shifted, alpha=-2)
        numbers = squared.topk(min(count, len(squared)), largest=False, sorted=False).indices
        distances, order = (self.tokens[numbers] - shifted).square().sum(1).sqrt().sort(stable=True)
        return distances, numbers[order]


def neighbor_distances(tokens: Tensor, neighbors: int) -> Tensor:
    """Distances of each token to its nearest others, in no order.

    Args:
        tokens: float32 (n, C), at least two.
        neighbors: how many, at most n - 1 are there.

    Returns:
        float32 (n, min(neighbors, n - 1)).
    """
    bank = Bank.of(tokens)
    count = len(tokens)
    distances = tokens.new_empty(count, min(neighbors, count - 1))
    step = max(1, QUERIES_AT_ONCE * BANK_AT_ONCE // count)
    if tokens.device.type == "cpu":
        step = min(step, CPU_ROWS_AT_ONCE)
    for start in range(0, count, step):
        rows = bank.tokens[start : start + step]
        squared = torch.addmm(bank.squares, rows, bank.tokens.T, alpha=-2)
        places = torch.arange(len(rows), device=rows.device)
        squared[places, start + places] = torch.inf
        nearest = _smallest(squared, distances.shape[1])
        distances[start : start + step] = (nearest + bank.squares[start : start + step, None]).clamp_(min=0).sqrt_()
    return distances


def _smallest(values: Tensor, count: int) -> Tensor:
    """The smallest values (n, count) of rows (n, m), in no order. May reorder the rows."""
    if values.device.type != "cpu":
        return values.topk(count, dim=1, largest=False, sorted=False).values
    # In place, by NumPy: in half of the time of `topk`, which also finds the numbers of the columns.
    values.numpy().partition(count - 1, axis=1)
    return values[:, :count]
