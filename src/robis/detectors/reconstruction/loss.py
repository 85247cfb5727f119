"""The loss of reconstruction: cosine distances of whole maps, whose gradient is weighed location by location."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.reconstruction.network import float32, full_precision

# Turns cosine distances of a group's locations, (B, N) or (n,), into factors of the gradient there, of the same shape.
Mining = Callable[[Tensor], Tensor]


def mined_loss(
    encoded: list[Tensor], decoded: list[Tensor], mining: Mining | None, kept: Tensor | None = None
) -> Tensor:
    """1 - cosine of the whole flattened maps, mean over images and groups.

    Args:
        encoded, decoded: (B, N, C) maps of each group. The encoder's take no gradient.
        mining: factors that the gradient with respect to the decoder's map is multiplied with; None: none.
        kept: bool (B, N), the tokens that are not ignored; None: none is. Only they count, and only images that have
            some.

    Returns:
        A scalar.
    """
    losses = []
    with float32(decoded[0]):
        for target, rebuilt in zip(encoded, decoded, strict=True):
            # Under mixed precision the hook sees a gradient of the map's own type, which has to be float32.
            target, rebuilt = full_precision(target.detach()), full_precision(rebuilt)
            if rebuilt.requires_grad and mining:
                factor = _factors(mining, 1 - F.cosine_similarity(target, rebuilt.detach(), dim=-1), kept).unsqueeze(-1)
                rebuilt.register_hook(lambda gradient, factor=factor: gradient * factor)
            if kept is not None:
                target, rebuilt = (tokens.masked_fill(~kept.unsqueeze(-1), 0) for tokens in (target, rebuilt))
            distances = 1 - F.cosine_similarity(target.flatten(1), rebuilt.flatten(1), dim=1)
            losses.append(distances.mean() if kept is None else kept_mean(distances, kept.any(1)))
        return torch.stack(losses).mean()


def _factors(mining: Mining, distances: Tensor, kept: Tensor | None) -> Tensor:
    """The factors (B, N) of all locations; those of ignored ones, which have no gradient, are 0."""
    if kept is None:
        return mining(distances)
    factors = torch.zeros_like(distances)
    if kept.any():
        factors[kept] = mining(distances[kept]).to(factors.dtype)
    return factors


def kept_mean(values: Tensor, kept: Tensor) -> Tensor:
    """Mean of the values of which kept, bool of the same shape, is True; 0 where there is none."""
    return values.masked_fill(~kept, 0).sum() / kept.sum().clamp(min=1)
