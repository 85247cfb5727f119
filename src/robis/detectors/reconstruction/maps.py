"""Tile maps: how far the decoder's maps are from the encoder's. Training does not need them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.ignored import lowest_where
from robis.detectors.reconstruction.network import Reconstruction, float32, full_precision
from robis.detectors.smoothing import gaussian_blur

BLUR_SIZE, BLUR_SIGMA = 5, 4.0


def tile_maps(model: Reconstruction, tiles: Tensor, size: int, ignored: Tensor | None = None) -> Tensor:
    """Anomaly maps of tiles, float32 (B, size, size), range 0..2; see `anomaly_maps`.

    Args:
        model: in evaluation mode.
        tiles: uint8 (B, s, s, 3) RGB on the model's device.
        size: side of a map in map pixels.
        ignored: tokens, bool (B, grid, grid); None: none.
    """
    parts = model.parts(tiles)
    cells = [None] * len(parts) if ignored is None else ignored.split([len(part) for part in parts])
    maps = [_maps_of(model, part, size, of_part) for part, of_part in zip(parts, cells, strict=True)]
    return maps[0] if len(maps) == 1 else torch.cat(maps)


def _maps_of(model: Reconstruction, tiles: Tensor, size: int, ignored: Tensor | None) -> Tensor:
    encoded, decoded = model.compare(tiles)
    grid, input_size = model.encoder.grid, model.encoder.input_size
    return anomaly_maps(encoded, decoded, grid=grid, input_size=input_size, size=size, ignored=ignored)


def anomaly_maps(
    encoded: list[Tensor],
    decoded: list[Tensor],
    *,
    grid: int,
    input_size: int,
    size: int,
    ignored: Tensor | None = None,
) -> Tensor:
    """Cosine distances of both groups as smooth maps.

    Per group 1 - cos, mean of the groups (before or after the interpolation is the same), bilinear to the tile
    (corners aligned), bilinear to the map (corners not aligned), Gaussian 5 x 5 with sigma 4 and zero border.

    Args:
        encoded, decoded: (B, grid*grid, C) maps of each group.
        grid: tokens along one side.
        input_size: side of the tile in pixels.
        size: side of the result in map pixels.
        ignored: tokens, bool (B, grid, grid); None: none.

    Returns:
        float32 (B, size, size), range 0..2.
    """
    with float32(encoded[0]):
        cosines = _cosines(encoded, decoded)
        distance = lowest_where(ignored, (1 - torch.stack(cosines).mean(0)).unflatten(1, (grid, grid)))
        tile = F.interpolate(distance[:, None], size=input_size, mode="bilinear", align_corners=True)
        maps = F.interpolate(tile, size=size, mode="bilinear", align_corners=False)
        return gaussian_blur(maps, BLUR_SIZE, BLUR_SIGMA).squeeze(1)


def group_distances(encoded: list[Tensor], decoded: list[Tensor]) -> list[Tensor]:
    """1 - cos of the tokens of each group, float32 (B, g*g), of whose mean `anomaly_maps` makes maps."""
    with float32(encoded[0]):
        return [1 - cosine for cosine in _cosines(encoded, decoded)]


def _cosines(encoded: list[Tensor], decoded: list[Tensor]) -> list[Tensor]:
    return [
        F.cosine_similarity(full_precision(target), full_precision(rebuilt), dim=-1)
        for target, rebuilt in zip(encoded, decoded, strict=True)
    ]
