"""The train stage of SubspaceAD: the principal subspace of the tokens of one category's normal images."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from robis.detectors.batches import tile_batches
from robis.detectors.checks import require_finite
from robis.detectors.few_shot import choose_references
from robis.detectors.jobs import TrainJob
from robis.detectors.model_files import write_history, write_model
from robis.detectors.subspace.pca import Moments, Subspace
from robis.detectors.subspace.tokens import RotatedTiles, joint_tokens, make_encoder
from robis.encoders.devices import autocast, pick_device
from robis.encoders.encoder import Encoder
from robis.errors import DataError
from robis.tiles.store import open_tiles

logger = logging.getLogger(__name__)


@torch.inference_mode()
def train_category(job: TrainJob) -> None:
    """Write the subspace of a category's normal images, and a history without rows.

    The model is a safetensors file with "mean" (C,) and "components" (k, C), float32.

    Args:
        job: its options are
            shots: number of reference images; 0: all training images, without rotated copies;
            reference_seed: of the draw of references, and of the angles;
            references: reference sample ids; the first `shots` are used. Drawn at random if empty;
            rotations: rotated copies of each tile of a reference image;
            explained_variance: see `Subspace.of`.

    Raises:
        ConfigError, DataError: see `choose_references`.
        DataError: there are no tiles, or tokens that are not finite.
    """
    tiles = _tiles(job)
    if not len(tiles):
        raise DataError(f"{job.store.tiles}: the tile store is empty; expected at least one tile of a normal image.")
    network = make_encoder(job.encoder).to(pick_device(job.compute.device))
    subspace = Subspace.of(Moments.of(_tokens(network, tiles, job)), job.options["explained_variance"])
    dimensions, width = subspace.components.shape
    logger.info("The subspace has %d of %d dimensions.", dimensions, width)
    tensors = {"mean": subspace.mean, "components": subspace.components}
    write_model(job.model, tensors, "subspace", encoder=str(job.encoder["name"]))
    write_history(job.history)


def _tiles(job: TrainJob) -> RotatedTiles:
    """The tiles to learn from: of the references with their copies, or all."""
    store, rows = open_tiles(job.store.tiles, job.store.table)
    options = job.options
    if not options["shots"]:
        return RotatedTiles(store, np.arange(len(store)), 0, 0)
    names = sorted(rows["sample_id"].unique())
    chosen = choose_references("subspace", options, names, source=job.store.table)
    numbers = np.flatnonzero(rows["sample_id"].isin(chosen))
    return RotatedTiles(store, numbers, options["rotations"], options["reference_seed"])


def _tokens(network: Encoder, tiles: RotatedTiles, job: TrainJob) -> Iterator[Tensor]:
    """The tokens (n, C) of each batch."""
    device = network.mean.device
    for start, batch in tile_batches(tiles, job.compute, device, "encode"):
        with autocast(device, job.compute.precision):
            tokens = joint_tokens(network, batch)
        require_finite(tokens, "tokens", range(start, start + len(tokens)), job.store.tiles)
        yield tokens.flatten(0, 1)
