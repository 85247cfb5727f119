"""The baseline without a network: distances of a patch's statistics to those of normal images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain.statistics import PATCH, patch_statistics
from robis.detectors.batches import tile_batches
from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob
from robis.detectors.memory_bank.bank import Bank
from robis.detectors.scorers import TileScorer
from robis.detectors.superadd.maps import token_maps
from robis.tiles.files import TileStore
from robis.tiles.store import open_tiles

# Patches of the normal images that are kept, drawn at random.
BANK_SIZE = 20_000
# SuperADD's smoothing by default, in map pixels.
SIGMA = 4.0


@torch.inference_mode()
def infer(normal: TileStore, job: InferJob, *, seed: int) -> None:
    """Write the raw map of every tile of a job: the distance to the nearest of random patches of normal images.

    Args:
        normal: tiles of the normal images.
        job: tiles and output; its encoder is not used.
        seed: of the draw.
    """
    device = torch.device("cpu")
    tiles, _ = open_tiles(normal.tiles, normal.table)
    batches = tile_batches(tiles, job.compute, device, "statistics")
    patches = torch.cat([patch_statistics(batch).flatten(0, 1) for _, batch in batches])
    mean, std = patches.mean(0), patches.std(0) + 1e-3
    chosen = np.random.default_rng(seed).permutation(len(patches))[:BANK_SIZE]
    bank = Bank.of((patches[torch.from_numpy(chosen)] - mean) / std)

    def tile_maps(batch: Tensor, size: int) -> Tensor:
        queries = (patch_statistics(batch) - mean) / std
        side = batch.shape[1] // PATCH
        return token_maps([bank.nearest(queries.flatten(0, 1)).view(-1, side, side)], (size, size), SIGMA)

    on_cpu = replace(job, compute=replace(job.compute, device="cpu"))
    write_tile_maps(TileScorer(tile_maps, tiles.shape[1]), on_cpu)
