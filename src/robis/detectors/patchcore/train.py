"""The train stage of PatchCore: a coreset of the patches of one category's normal images, in bounded memory."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from robis.detectors.jobs import TrainJob
from robis.detectors.memory_bank.allowed import with_allowed
from robis.detectors.memory_bank.stages import write_bank
from robis.detectors.normal_tokens import TileTokens, Tokens
from robis.detectors.patchcore.coreset import k_center, projection
from robis.detectors.patchcore.patches import patch_features
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.tiles.ignored import kept_tokens
from robis.tiles.store import open_tiles

logger = logging.getLogger(__name__)


@torch.inference_mode()
def train_category(job: TrainJob) -> None:
    """Write the bank of a category's normal images, in the order of the patches, then regions that count as normal.

    Patches are encoded twice: for the choice only their projections are kept, then those chosen are gathered.

    Args:
        job: its options are
            coreset_fraction: share of the patches that is chosen, rounded down, at least one;
            start_points, projected_width: see `robis.detectors.patchcore.coreset`;
            seed: of the start points and the projection.

    Raises:
        DataError: there are no tiles, tokens that are not finite, or regions that cannot be used.
    """
    options, device = job.options, pick_device(job.compute.device)
    store, rows = open_tiles(job.store.tiles, job.store.table)
    features = patch_features(build_encoder(**job.encoder, on_grid=False).to(device))
    source = TileTokens(features, store, job, device, kept=kept_tokens(rows, features.grid))
    target = max(1, int(source.count * options["coreset_fraction"]))
    rng = np.random.default_rng(options["seed"])
    if target < source.count:
        starts = rng.choice(source.count, min(options["start_points"], source.count), replace=False)
        points = _projected(source, projection(source.widths[0], options["projected_width"], rng))
        numbers = np.sort(k_center(points, target, starts))
        del points
    else:
        numbers = np.arange(source.count)
    (tokens,) = source.gather(numbers, "gather")
    logger.info("The bank holds %d of %d patches.", len(tokens), source.count)
    (tokens,) = with_allowed([tokens.cpu()], job, features, device)
    write_bank(tokens, source.places(numbers), job, "patchcore")


def _projected(source: Tokens, matrix: Tensor) -> Tensor:
    """All tokens times a matrix (C, P), float32 (N, P) on the device."""
    matrix = matrix.to(source.device)
    points = torch.empty(source.count, matrix.shape[1], device=source.device)
    for start, (tokens,) in source.encoded("encode"):
        points[start : start + len(tokens)] = tokens.float() @ matrix
    return points
