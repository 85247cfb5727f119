"""The infer stage of the toy detector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob, ScorerJob
from robis.detectors.model_files import open_model
from robis.detectors.scorers import TileScorer
from robis.encoders.devices import pick_device


def infer_split(job: InferJob) -> None:
    """Write `gain` times the distance of each pixel's gray to the mean, and the tile table."""
    write_tile_maps(load_scorer(job.scorer), job)


@torch.inference_mode()
def load_scorer(job: ScorerJob) -> TileScorer:
    """The mean gray of the normal images, ready to score tiles."""
    with open_model(job.inputs["model"], "toy") as model:
        mean = model.tensor("mean", (1,), pick_device(job.compute.device))

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        distance = job.options["gain"] * (batch.float().mean(-1) - mean).abs()
        return F.interpolate(distance[:, None], size=size, mode="area").squeeze(1)

    return TileScorer(tile_maps, int(job.size.window))
