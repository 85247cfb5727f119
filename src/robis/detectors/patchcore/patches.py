"""Features of patches: the neighborhoods of every place of a network's maps (arXiv 2106.08265, public code)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.normal_tokens import Features
from robis.encoders.encoder import Encoder

# Side of a patch in values of a map; channels of a layer's patch, and of all layers' together.
PATCH = 3
LAYER_WIDTH = WIDTH = 1024


def patch_features(network: Encoder) -> Features:
    """The patches of an encoder, on the grid of its first layer."""
    side = network.input_size
    first = network.layer_maps(torch.zeros(1, side, side, 3, device=network.mean.device))[0]
    return Features(lambda tiles: [patches_of(network.layer_maps(tiles))], first.shape[-1], [WIDTH])


def patches_of(maps: Sequence[Tensor]) -> Tensor:
    """Describe every place of the first layer's map.

    The 3 x 3 neighborhood of a place (beyond the border 0) is flattened, channel by channel, and averaged down to 1024
    values of each layer. Coarser layers are brought to the first one's grid (bilinear, corners not aligned). The values
    of all layers, one after the other, are averaged down to 1024.

    Args:
        maps: (B, C, h, w) of each layer.

    Returns:
        float32 (B, h * w, 1024), with h and w of the first layer.
    """
    size = maps[0].shape[-2:]
    layers = []
    for values in maps:
        # One tile after the other: neighborhoods take nine times the memory of the map.
        layer = torch.cat([_neighborhoods(one) for one in values.float().split(1)])
        # Averaging and interpolation commute; this order needs the memory of the coarse grid.
        layers.append(F.interpolate(layer, size=size, mode="bilinear", align_corners=False))
    return F.adaptive_avg_pool1d(torch.cat(layers, 1).flatten(2).transpose(1, 2), WIDTH)


def _neighborhoods(values: Tensor) -> Tensor:
    """The neighborhoods of a map (1, C, h, w), each averaged down: (1, 1024, h, w)."""
    flat = F.unfold(values, PATCH, padding=PATCH // 2).transpose(1, 2)
    return F.adaptive_avg_pool1d(flat, LAYER_WIDTH).transpose(1, 2).unflatten(2, values.shape[-2:])
