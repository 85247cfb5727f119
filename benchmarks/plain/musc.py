"""MuSc's mutual scoring and neighborhoods as the published code computes them (arXiv 2401.16753, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mutual_scores(features: Tensor, first: int, last: int) -> Tensor:
    """Every image against all tokens of all images by `cdist`: minimum per image, mean of the nearest ones.

    Args:
        features: float32 (N, T, C).
        first, last: which of the ascending distances to the other images are averaged, [first, last).

    Returns:
        float32 (N, T).
    """
    images, tokens, width = features.shape
    scores = []
    for image in range(images):
        distances = torch.cdist(features[image : image + 1], features.reshape(1, -1, width))
        nearest = distances.view(tokens, images, tokens).min(-1).values
        nearest = torch.cat([nearest[:, :image], nearest[:, image + 1 :]], dim=1)
        lowest = torch.topk(nearest, last, largest=False, sorted=True).values[:, first:]
        scores.append(lowest.mean(1))
    return torch.stack(scores)


def neighborhoods(tokens: Tensor, grid: int, side: int) -> Tensor:
    """Unfold each neighborhood to C side^2 values, pool them adaptively to C, divide by the length.

    Args:
        tokens: float32 (B, grid*grid, C).
        grid: tokens along one side of an image.
        side: of a neighborhood, in tokens.

    Returns:
        float32 (B, grid*grid, C), unit vectors.
    """
    maps = tokens.transpose(1, 2).unflatten(2, (grid, grid))
    patches = F.unfold(maps, side, padding=side // 2).transpose(1, 2)
    pooled = F.adaptive_avg_pool1d(patches.reshape(-1, 1, patches.shape[-1]), tokens.shape[-1])
    pooled = pooled.view(tokens.shape)
    return pooled / pooled.norm(dim=-1, keepdim=True)
