"""Tokens of regions that count as normal, which join a bank after its other tokens were chosen: none is thinned out."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from robis.detectors.jobs import TrainJob
from robis.detectors.normal_tokens import Features, TileTokens, Tokens
from robis.errors import DataError
from robis.tiles.allowed import AllowedImage, AllowedTiles

logger = logging.getLogger(__name__)


def with_allowed(bank: list[Tensor], job: TrainJob, features: Features, device: torch.device) -> list[Tensor]:
    """A bank followed by the tokens of the job's regions, which are encoded as they are inspected.

    Args:
        bank: per block (M, C) float32, on the CPU.
        job: its `allowed` images.
        features: makes the tokens of tiles.
        device: where they are encoded.

    Returns:
        Per block (M + n, C) float32, on the CPU.

    Raises:
        DataError: an image or mask cannot be used, or all tokens of the regions are ignored.
    """
    if not job.allowed:
        return bank
    tiles = allowed_tiles(job)
    chosen = tiles.tokens(features.grid)
    require_tokens(int(chosen.sum()), job)
    return joined(bank, TileTokens(features, tiles, job, device, kept=chosen))


def allowed_tiles(job: TrainJob) -> AllowedTiles:
    """The tiles with a region that counts as normal. Raises DataError, see `AllowedTiles`."""
    return AllowedTiles([AllowedImage.of(image) for image in job.allowed])


def require_tokens(count: int, job: TrainJob) -> None:
    """Raise DataError where all tokens of the job's regions are ignored."""
    if not count:
        masks = ", ".join(str(image["mask"]) for image in job.allowed[:3])
        raise DataError(f"{masks}: dataset.ignore leaves none of the tokens of the regions that count as normal.")


def joined(bank: list[Tensor], source: Tokens) -> list[Tensor]:
    """A bank, per block (M, C), followed by all tokens of a source."""
    tokens = source.gather(np.arange(source.count), "encode regions that count as normal")
    logger.info("%d tokens of regions that count as normal join the bank.", source.count)
    return [torch.cat([block, more.cpu()]) for block, more in zip(bank, tokens, strict=True)]
