"""The train stage of SubspaceAD: the principal subspace of the tokens of one category's normal images."""

from __future__ import annotations

import logging

import torch

from robis.detectors.jobs import TrainJob
from robis.detectors.model_files import write_history, write_model
from robis.detectors.normal_tokens import Features, TileTokens
from robis.detectors.rotation import reference_tiles
from robis.detectors.subspace.pca import Moments, Subspace
from robis.detectors.subspace.tokens import joint_tokens, joint_width, make_encoder, random_rotation
from robis.encoders.devices import pick_device

logger = logging.getLogger(__name__)


@torch.inference_mode()
def train_category(job: TrainJob) -> None:
    """Write the subspace of a category's normal images, and a history without rows.

    The model is a safetensors file with "mean" (C,) and "components" (k, C), float32.

    Args:
        job: its options are
            shots, references, rotations: see `reference_tiles`;
            reference_seed: of the draw of references, and of the angles;
            explained_variance: see `Subspace.of`.

    Raises:
        ConfigError, DataError: see `reference_tiles`.
        DataError: there are no tiles, or tokens that are not finite.
    """
    device = pick_device(job.compute.device)
    tiles = reference_tiles("subspace", job, random_rotation(job.options["reference_seed"]))
    network = make_encoder(job.encoder).to(device)
    features = Features(lambda batch: [joint_tokens(network, batch)], network.grid, [joint_width(network)])
    source = TileTokens(features, tiles, job, device, kept=tiles.kept_tokens(features.grid))
    moments = Moments.of(tokens for _, (tokens,) in source.encoded("encode"))
    subspace = Subspace.of(moments, job.options["explained_variance"])
    dimensions, width = subspace.components.shape
    logger.info("The subspace has %d of %d dimensions.", dimensions, width)
    tensors = {"mean": subspace.mean, "components": subspace.components}
    write_model(job.model, tensors, "subspace", encoder=str(job.encoder["name"]))
    write_history(job.history)
