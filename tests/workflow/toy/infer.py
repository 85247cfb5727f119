"""The infer stage of the toy detector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob
from robis.detectors.model_files import open_model
from robis.encoders.devices import pick_device
from robis.tiles.store import open_tiles


@torch.inference_mode()
def infer_split(job: InferJob) -> None:
    """Write `gain` times the distance of each pixel's gray to the mean, and the tile table."""
    with open_model(job.inputs["model"], "toy") as model:
        mean = model.tensor("mean", (1,), pick_device(job.compute.device))
    store, _ = open_tiles(job.store.tiles, job.store.table)

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        distance = job.options["gain"] * (batch.float().mean(-1) - mean).abs()
        return F.interpolate(distance[:, None], size=size, mode="area").squeeze(1)

    write_tile_maps(tile_maps, job, input_size=store.shape[1])
