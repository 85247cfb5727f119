"""From tiles to tokens, and from the scores of tokens to maps: what comes before and after scoring."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.batches import in_passes
from robis.detectors.checks import require_finite
from robis.detectors.ignored import lowest_where
from robis.detectors.jobs import Compute
from robis.detectors.musc.scores import layer_norm, score_maps
from robis.encoders.devices import autocast
from robis.encoders.encoder import Encoder
from robis.tiles.ignored import cells_of


def encoded(model: Encoder, batch: Tensor, compute: Compute) -> tuple[list[Tensor], Tensor]:
    """Tokens and embeddings of tiles, which depend neither on the other tiles nor on the number of threads.

    Args:
        model: the encoder.
        batch: uint8 (B, s, s, 3) RGB, at most `compute.batch_size` of them.
        compute: how to compute.

    Returns:
        Per layer (B, g*g, C), and (B, D).
    """
    with autocast(batch.device, compute.precision):
        passes = in_passes(model.with_embedding, batch, compute)
    layers = zip(*(layers for layers, _ in passes), strict=True)
    count = len(batch)
    return [torch.cat(parts)[:count] for parts in layers], torch.cat([embedding for _, embedding in passes])[:count]


def normed_layers(layers: Sequence[Tensor], numbers: Sequence[int], source: str | Path) -> Iterator[Tensor]:
    """Each layer as `layer_norm` gives it.

    Args:
        layers: from `encoded`.
        numbers: of the tiles; source: where they are from, for messages.

    Raises:
        DataError: a token is not finite.
    """
    for raw in layers:
        normed = layer_norm(raw)
        require_finite(normed, "tokens", numbers, source)
        yield normed


def maps_and_scores(
    scores: Tensor, ignored: Sequence[bytes | None] | None, input_size: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Maps of tiles, and the largest values that they have before they are resized.

    Scores are at least 0, which stands for ignored pixels.

    Args:
        scores: float32 (B, g*g) of tokens, on the CPU.
        ignored: pixels of each tile, see `robis.io.ignored.encode`; None: none is.
        input_size: side of a tile as the encoder sees it, pixels.
        size: side of a map in pixels.

    Returns:
        float32 (B, size, size) and (B,).
    """
    if ignored:
        grid = math.isqrt(scores.shape[1])
        cells = torch.from_numpy(cells_of(ignored, (grid, grid)))
        scores = lowest_where(cells, scores.unflatten(1, (grid, grid))).flatten(1)
    maps = score_maps(scores, input_size)
    pixels = torch.from_numpy(cells_of(ignored, (input_size, input_size))) if ignored else None
    highest = (maps if pixels is None else maps.masked_fill(pixels, 0)).amax((1, 2))
    if size != input_size:
        maps = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False).squeeze(1)
    return maps.numpy(), highest.numpy()
