"""The train stage of the toy detector."""

from __future__ import annotations

import numpy as np
import torch

from robis.detectors.jobs import TrainJob
from robis.detectors.model_files import write_history, write_model
from robis.tiles.store import open_tiles


def train_category(job: TrainJob) -> None:
    """Write the mean of all values of the normal tiles, "mean" float32 (1,), range 0..255."""
    store, _ = open_tiles(job.store.tiles, job.store.table)
    mean = np.mean([tile.mean() for tile in store])
    write_model(job.model, {"mean": torch.tensor([mean], dtype=torch.float32)}, "toy")
    write_history(job.history)
