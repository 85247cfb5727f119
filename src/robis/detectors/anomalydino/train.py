"""The train stage of AnomalyDINO: the tokens of one category's normal images."""

from __future__ import annotations

import logging

import numpy as np
import torch

from robis.detectors.anomalydino.tokens import make_encoder, rotated, unit_tokens
from robis.detectors.jobs import TrainJob
from robis.detectors.memory_bank.allowed import with_allowed
from robis.detectors.memory_bank.stages import write_bank
from robis.detectors.normal_tokens import TileTokens
from robis.detectors.rotation import reference_tiles
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
        return rotated(tile, 360 * copy / (job.options["rotations"] + 1))

    tiles = reference_tiles("anomalydino", job, rotate)
    features = unit_tokens(make_encoder(job.encoder).to(device))
    source = TileTokens(features, tiles, job, device, kept=tiles.kept_tokens(features.grid))
    (tokens,) = source.gather(np.arange(source.count), "encode")
    logger.info("The bank holds %d tokens.", len(tokens))
    (tokens,) = with_allowed([tokens.cpu()], job, features, device)
    write_bank(tokens, job, "anomalydino")
