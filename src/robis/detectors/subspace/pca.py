"""The principal subspace of tokens, and the distance of tokens to it (arXiv 2602.23013)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

# Tokens whose products are summed at a time, which bounds the memory of their float64 copies.
TOKENS_AT_ONCE = 4096


class Moments:
    """Mean and covariance of tokens, summed up in float64 in one pass.

    Deviations are from a token near the mean: around 0 the sums of large values would cancel.

    Attributes:
        count: tokens so far.
        shift: (C,) what deviations are taken from, the mean of the first tokens.
        sums: (C,) of the deviations.
        products: (C, C) sums of their products.
    """

    def __init__(self, first: Tensor) -> None:
        """Start with the first tokens, (n, C) with n > 0."""
        self.count = 0
        self.shift = _float64(first).mean(0)
        self.sums = torch.zeros_like(self.shift)
        self.products = self.shift.new_zeros(len(self.shift), len(self.shift))
        self.add(first)

    def add(self, tokens: Tensor) -> None:
        """Count more tokens, (n, C)."""
        for part in tokens.split(TOKENS_AT_ONCE):
            deviations = _float64(part) - self.shift
            self.count += len(part)
            self.sums += deviations.sum(0)
            self.products.addmm_(deviations.T, deviations)

    @classmethod
    def of(cls, batches: Iterable[Tensor]) -> Moments:
        """Those of all batches (n, C), of which there has to be one."""
        rest = iter(batches)
        moments = cls(next(rest))
        for tokens in rest:
            moments.add(tokens)
        return moments

    @property
    def mean(self) -> Tensor:
        """(C,) float64."""
        return self.shift + self.sums / self.count

    @property
    def covariance(self) -> Tensor:
        """(C, C) float64, divided by the number of tokens."""
        offset = self.sums / self.count
        return self.products / self.count - torch.outer(offset, offset)


@dataclass(frozen=True)
class Subspace:
    """The subspace that holds most of the variance of normal tokens.

    Attributes:
        mean: (C,) float32.
        components: (k, C) float32, orthonormal rows, the direction of the largest variance first.
    """

    mean: Tensor
    components: Tensor

    @classmethod
    def of(cls, moments: Moments, explained_variance: float) -> Subspace:
        """The subspace of the fewest dimensions, at least one, with this fraction of the variance."""
        values, vectors = torch.linalg.eigh(moments.covariance)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        held = values.cumsum(0)
        dimensions = int((held < explained_variance * held[-1]).sum()) + 1
        return cls(moments.mean.float(), vectors[:, :dimensions].T.float().contiguous())

    def distances(self, tokens: Tensor) -> Tensor:
        """Squared distances of tokens (..., C) float32 to the subspace, float32 (...)."""
        deviations = tokens - self.mean
        return (deviations - deviations @ self.components.T @ self.components).square().sum(-1)


def _float64(tokens: Tensor) -> Tensor:
    # Apple's GPUs have no float64.
    return (tokens.cpu() if tokens.device.type == "mps" else tokens).double()
