"""The infer stage of SubspaceAD: a category's subspace and a split's tiles to raw tile maps."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.ignored import lowest_where
from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob, ScorerJob
from robis.detectors.model_files import open_model
from robis.detectors.scorers import TileScorer
from robis.detectors.smoothing import gaussian_blur
from robis.detectors.subspace.pca import Subspace
from robis.detectors.subspace.tokens import joint_tokens, joint_width, make_encoder
from robis.encoders.devices import pick_device

BLUR_SIZE, BLUR_SIGMA = 3, 4.0


def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile: float32 (N, m, m), at least 0, and the tile table beside it.

    Args:
        job: see `load_scorer`.

    Raises:
        WeightsError: see `load_scorer`.
        DataError: a map is not finite.
    """
    write_tile_maps(load_scorer(job.scorer), job)


@torch.inference_mode()
def load_scorer(job: ScorerJob) -> TileScorer:
    """A category's subspace, ready to score tiles.

    Args:
        job: its input "model" is the file of `train_category`. Distances are float32, whatever the precision.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder.
    """
    device = pick_device(job.compute.device)
    network = make_encoder(job.encoder).to(device)
    width = joint_width(network)
    with open_model(job.inputs["model"], "subspace", encoder=str(job.encoder["name"])) as model:
        shapes: dict[str, tuple[int | None, ...]] = {"mean": (width,), "components": (None, width)}
        subspace = Subspace(*(model.tensor(name, shape, device) for name, shape in shapes.items()))

    def tile_maps(batch: Tensor, size: int, ignored: Tensor | None = None) -> Tensor:
        tokens = joint_tokens(network, batch)
        with torch.autocast(device.type, enabled=False):
            distances = subspace.distances(tokens).unflatten(1, (network.grid, network.grid))
            return token_maps(lowest_where(ignored, distances), size)

    # Squared distances of tokens with large channels exceed the range of float16.
    return TileScorer(tile_maps, network.input_size, network, np.float32, network.grid)


def token_maps(distances: Tensor, size: int) -> Tensor:
    """Anomaly maps from the distances of tokens: bilinear (corners not aligned), Gaussian 3 x 3 with sigma 4.

    Args:
        distances: float32 (B, g, g).
        size: side of a map in map pixels.

    Returns:
        float32 (B, size, size).
    """
    maps = F.interpolate(distances[:, None], size=(size, size), mode="bilinear", align_corners=False)
    return gaussian_blur(maps, BLUR_SIZE, BLUR_SIGMA, "reflect").squeeze(1)
