"""Train and infer stages of detectors with one bank of tokens: writing it, and the squared distances to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.ignored import lowest_where
from robis.detectors.jobs import ScorerJob, TrainJob
from robis.detectors.memory_bank.bank import Bank
from robis.detectors.model_files import open_model, write_history, write_model
from robis.detectors.normal_tokens import Features
from robis.detectors.smoothing import gaussian_filter


def write_bank(tokens: Tensor, places: np.ndarray, job: TrainJob, detector: str) -> None:
    """Write a bank, and a history without rows.

    Args:
        tokens: float32 (M, C), "tokens" of a safetensors file.
        places: int64 (m, 3), "origins" of that file: the tile of the first tokens, and row and column in it. Those
            behind are of no tile.
        job: where to write.
        detector: its name.
    """
    tensors = {"tokens": tokens, "origins": torch.from_numpy(places)}
    write_model(job.model, tensors, detector, encoder=str(job.encoder["name"]))
    write_history(job.history)


def read_bank(job: ScorerJob, detector: str, width: int, device: torch.device) -> Bank:
    """The bank of `write_bank`, the job's input "model".

    Raises WeightsError when the file is absent, damaged or made for another encoder or other blocks.
    """
    with open_model(job.inputs["model"], detector, encoder=str(job.encoder["name"])) as model:
        return Bank.of(model.tensor("tokens", (None, width), device))


def distance_maps(bank: Bank, features: Features, sigma: float, *, factor: float = 1) -> Callable[..., Tensor]:
    """What makes maps of tiles: squared Euclidean distances of their tokens to a bank.

    Args:
        bank: normal tokens, on the device.
        features: makes tokens of tiles, of one block.
        sigma: see `token_maps`.
        factor: what distances are multiplied by.

    Returns:
        A function of uint8 tiles (B, s, s, 3) RGB, the side of a map and ignored tokens, see `TileScorer`, which gives
        float32 (B, side, side), at least 0. Distances are float32, whatever the precision.
    """

    def tile_maps(tiles: Tensor, size: int, ignored: Tensor | None = None) -> Tensor:
        (tokens,) = features.tokens(tiles)
        with torch.autocast(tokens.device.type, enabled=False):
            distances = bank.nearest(tokens.float().flatten(0, 1)).square().mul(factor)
            return token_maps(lowest_where(ignored, distances.view(-1, features.grid, features.grid)), size, sigma)

    return tile_maps


def token_maps(distances: Tensor, size: int, sigma: float) -> Tensor:
    """Anomaly maps from the distances of tokens: bilinear (corners not aligned), SciPy's Gaussian filter.

    Args:
        distances: float32 (B, g, g).
        size: side of a map in map pixels.
        sigma: of the Gaussian in map pixels; 0: none.

    Returns:
        float32 (B, size, size).
    """
    maps = F.interpolate(distances[:, None], size=(size, size), mode="bilinear", align_corners=False).squeeze(1)
    return gaussian_filter(maps, sigma) if sigma else maps
