"""The loss of reconstruction: cosine distances of whole maps, whose gradient is weighed location by location."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.reconstruction.network import float32, full_precision

# Turns cosine distances (B, N) of a group's locations into factors (B, N) of the gradient there.
Mining = Callable[[Tensor], Tensor]


def mined_loss(encoded: list[Tensor], decoded: list[Tensor], mining: Mining | None) -> Tensor:
    """1 - cosine of the whole flattened maps, mean over images and groups.

    Args:
        encoded, decoded: (B, N, C) maps of each group. The encoder's take no gradient.
        mining: factors that the gradient with respect to the decoder's map is multiplied with; None: none.

    Returns:
        A scalar.
    """
    losses = []
    with float32(decoded[0]):
        for target, rebuilt in zip(encoded, decoded, strict=True):
            # Under mixed precision the hook sees a gradient of the map's own type, which has to be float32.
            target, rebuilt = full_precision(target.detach()), full_precision(rebuilt)
            if rebuilt.requires_grad and mining:
                factor = mining(1 - F.cosine_similarity(target, rebuilt.detach(), dim=-1)).unsqueeze(-1)
                rebuilt.register_hook(lambda gradient, factor=factor: gradient * factor)
            losses.append((1 - F.cosine_similarity(target.flatten(1), rebuilt.flatten(1), dim=1)).mean())
        return torch.stack(losses).mean()
