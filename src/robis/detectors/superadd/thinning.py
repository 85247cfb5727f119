"""Which tokens make the bank: fewer where they lie close together (SuperADD, arXiv 2605.14808).

Everything here takes tokens; `robis.detectors.superadd.train` brings them from an encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from robis.detectors.memory_bank.bank import neighbor_distances

# A tenth of the mean distance to the neighbors: the first radius within which neighbors count.
FIRST_RADIUS = 0.1


@dataclass(frozen=True)
class Thinning:
    """How tokens are thinned.

    Attributes:
        bank_size: most tokens of the bank.
        rounds: random subsets, each of which contributes an equal part.
        neighbors: nearest neighbors that count for a token.
        radius_growth: factor of the radius from one try to the next.
    """

    bank_size: int
    rounds: int
    neighbors: int
    radius_growth: float


class Draws(Protocol):
    """The random numbers of `thin`."""

    def subset(self, candidates: np.ndarray, size: int) -> np.ndarray:
        """So many different ones of the candidates, which are ascending numbers, in any order."""

    def dice(self, count: int) -> np.ndarray:
        """Numbers from 0 to 1, 1 excluded, one for each token of the subset, in its order."""

    def rest(self, candidates: np.ndarray, size: int) -> np.ndarray:
        """So many different ones of the candidates, at random."""


class SeededDraws:
    """Random numbers of a generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def subset(self, candidates: np.ndarray, size: int) -> np.ndarray:
        return self.rng.choice(candidates, size, replace=False)

    def dice(self, count: int) -> np.ndarray:
        return self.rng.random(count)

    def rest(self, candidates: np.ndarray, size: int) -> np.ndarray:
        return self.rng.permutation(candidates)[:size]


def thin(tokens: Callable[[np.ndarray], Tensor], count: int, thinning: Thinning, draws: Draws) -> np.ndarray:
    """Choose the tokens of a bank as published.

    Each round draws `count // rounds` of the tokens that are not kept yet and thins them to `bank_size // rounds` at
    most. A token counts among its own neighbors, at distance 0. When the radius holds all neighbors and still too many
    are kept, random ones of them go. After the last round random tokens fill up.

    Args:
        tokens: gives the tokens of some numbers, float32 (n, C) on the computing device, in their order.
        count: how many tokens there are.
        thinning: how.
        draws: the random numbers.

    Returns:
        Ascending numbers (min(count, bank_size),), int64.
    """
    kept = np.zeros(count, bool)
    size, target = count // thinning.rounds, thinning.bank_size // thinning.rounds
    for _ in range(thinning.rounds if size > 1 and count > thinning.bank_size else 0):
        candidates = np.flatnonzero(~kept)
        subset = draws.subset(candidates, min(size, len(candidates)))
        dice = draws.dice(len(subset))
        distances = neighbor_distances(tokens(subset), thinning.neighbors - 1)
        distances = torch.cat([distances.new_zeros(len(subset), 1), distances], dim=1)
        chosen = subset[_thinned(distances, dice, target, thinning.radius_growth)]
        # The published code would search forever for a radius that keeps fewer.
        kept[draws.rest(chosen, target) if len(chosen) > target else chosen] = True
    missing = min(count, thinning.bank_size) - int(kept.sum())
    kept[draws.rest(np.flatnonzero(~kept), missing)] = True
    return np.flatnonzero(kept)


def select(tokens: Tensor, target: int, *, neighbors: int, radius_growth: float, rng: np.random.Generator) -> Tensor:
    """Choose `target` tokens of a part, fewer where they lie close together.

    A token is kept with probability 1 / (1 + its neighbors nearer than a radius). The radius starts at a tenth of the
    mean distance to the neighbors and grows until no more than `target` are kept; then random others fill up. A token
    throws its dice once, so that a larger radius keeps no token that a smaller one did not. When the radius holds all
    neighbors and still too many are kept, random ones of them go.

    Args:
        tokens: float32 (n, C).
        target: how many to choose; all where there are no more.
        neighbors: nearest others that count for a token.
        radius_growth: factor of the radius from one try to the next.
        rng: source of all randomness.

    Returns:
        Ascending numbers (min(n, target),), int64 on the CPU.
    """
    count = len(tokens)
    if count <= target:
        return torch.arange(count)
    dice, order = rng.random(count), rng.permutation(count)
    if target == 0 or count == 1:
        return torch.from_numpy(np.sort(order[:target]))
    kept = _thinned(neighbor_distances(tokens, neighbors), dice, target, radius_growth)
    # Kept ones first, each group in random order: what is beyond the target goes, what it lacks is filled up.
    first = order[np.argsort(~kept[order], kind="stable")]
    return torch.from_numpy(np.sort(first[:target]))


def _thinned(distances: Tensor, dice: np.ndarray, target: int, growth: float) -> np.ndarray:
    """Which tokens are kept, bool (n,): no more than `target`, unless the radius holds all neighbors.

    Args:
        distances: float32 (n, k), of each token to its neighbors.
        dice: (n,), a token's random number.
        target: how many may be kept.
        growth: factor of the radius from one try to the next.
    """
    thrown = torch.from_numpy(dice).to(distances.device)
    radius, farthest = FIRST_RADIUS * distances.mean(dtype=torch.float64).item(), distances.max().item()
    while True:
        kept = thrown * (1 + (distances < radius).sum(1)) < 1
        if not 0 < radius <= farthest or int(kept.sum()) <= target:
            return np.asarray(kept.cpu().numpy())
        radius *= growth


def shares_of(total: int, parts: int) -> list[int]:
    """Sizes of so many parts that differ by at most one, the larger ones first."""
    return [total // parts + (number < total % parts) for number in range(parts)]
