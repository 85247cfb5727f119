"""The train stage of AnomalyDINO: the tokens of one category's normal images."""

from __future__ import annotations

import logging

import numpy as np
import torch

from robis.detectors.anomalydino.tokens import make_encoder, rotated, turned_back, unit_tokens
from robis.detectors.jobs import TrainJob
from robis.detectors.memory_bank.allowed import with_allowed
from robis.detectors.memory_bank.stages import write_bank
from robis.detectors.normal_tokens import TileTokens
from robis.detectors.rotation import RotatedTiles, reference_tiles
from robis.encoders.devices import pick_device

logger = logging.getLogger(__name__)


@torch.inference_mode()
def train_category(job: TrainJob) -> None:
    """Write the bank of a category: all tokens of its normal images, or of the references and their rotated copies.

    Tokens of regions that count as normal follow.

    Args:
        job: its options are those of `reference_tiles`.

    Raises:
        ConfigError, DataError: see `reference_tiles`.
        DataError: there are no tiles, tokens that are not finite, or regions that cannot be used.
    """
    device = pick_device(job.compute.device)

    def rotate(tile: np.ndarray, number: int, copy: int) -> np.ndarray:
        return rotated(tile, _angle(copy, job.options["rotations"]))

    tiles = reference_tiles("anomalydino", job, rotate)
    features = unit_tokens(make_encoder(job.encoder).to(device))
    source = TileTokens(features, tiles, job, device, kept=tiles.kept_tokens(features.grid))
    numbers = np.arange(source.count)
    (tokens,) = source.gather(numbers, "encode")
    logger.info("The bank holds %d tokens.", len(tokens))
    places = _origins(tiles, source.places(numbers), features.grid)
    (tokens,) = with_allowed([tokens.cpu()], job, features, device)
    write_bank(tokens, places, job, "anomalydino")


def _angle(copy: int, copies: int) -> float:
    return 360 * copy / (copies + 1)


def _origins(tiles: RotatedTiles, places: np.ndarray, grid: int) -> np.ndarray:
    """Tiles, rows and columns of tokens, int64 (n, 3); of a turned copy's, those of what they show.

    places: the same in the tiles and their copies.
    """
    numbers, copies = np.divmod(places[:, 0], 1 + tiles.copies)
    origins = np.column_stack([tiles.numbers[numbers], places[:, 1:]])
    height, width = tiles.store.shape[1:3]
    sides = np.array([width, height])
    for copy in range(1, 1 + tiles.copies):
        chosen = copies == copy
        centers = (places[chosen][:, :0:-1] + 0.5) * sides / grid - 0.5
        back = turned_back(centers, height, width, _angle(copy, tiles.copies))
        origins[chosen, :0:-1] = np.floor((back + 0.5) / sides * grid)
    return origins
