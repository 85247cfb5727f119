"""A coreset that covers tokens: each next one lies farthest from those chosen (greedy k-center).

As in the public code of PatchCore (arXiv 2106.08265): the approximate choice, which never needs all distances, on
tokens of fewer channels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from robis.io.progress import tracked

# No distance: what is chosen never comes again.
CHOSEN = -1.0


def projection(width: int, projected: int, rng: np.random.Generator) -> Tensor:
    """A random matrix (width, projected) float32, uniform within 1 / sqrt(width) around 0, or the identity."""
    if projected == width:
        return torch.eye(width)
    bound = width**-0.5
    return torch.from_numpy(rng.uniform(-bound, bound, (width, projected)).astype(np.float32))


def k_center(points: Tensor, target: int, starts: np.ndarray) -> np.ndarray:
    """Choose points greedily.

    The first is the one with the largest mean distance to the starts, each next one that with the largest distance to
    the nearest of those chosen (or its mean distance to the starts, if that is smaller); the first one on ties. Time is
    in proportion to n * target, memory to n. Equal points are chosen when no others are left.

    Args:
        points: float32 (n, C), on the computing device.
        target: how many to choose, at most n.
        starts: numbers of points.

    Returns:
        Numbers of the chosen points in their order, int64 (target,).
    """
    distances = torch.zeros(len(points), device=points.device)
    for start in torch.from_numpy(starts).to(points.device):
        distances += _distances(points, start)
    distances /= len(starts)
    chosen = torch.empty(target, dtype=torch.long, device=points.device)
    for place in tracked(range(target), target, "patches", "choose"):
        farthest = distances.argmax()
        chosen[place] = farthest
        torch.minimum(distances, _distances(points, farthest), out=distances)
        distances[farthest] = CHOSEN
    return np.asarray(chosen.cpu().numpy())


def _distances(points: Tensor, number: Tensor) -> Tensor:
    """Euclidean distances (n,) of all points to one of them, by differences: 0 to equal ones."""
    return torch.cdist(points, points[number][None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
