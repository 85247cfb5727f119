"""The infer stage of PatchCore: a category's coreset and a split's tiles to raw tile maps."""

from __future__ import annotations

import numpy as np
import torch

from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob
from robis.detectors.memory_bank.stages import distance_maps, read_bank
from robis.detectors.patchcore.patches import patch_features
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device


@torch.inference_mode()
def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile, float32: squared distances of its patches to the bank.

    Args:
        job: its option is smoothing_sigma, of the Gaussian that smooths maps, map pixels; 0: none. Its input "model" is
            the file of `train_category`.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder.
        DataError: a map is not finite.
    """
    device = pick_device(job.compute.device)
    network = build_encoder(**job.encoder).to(device)
    features = patch_features(network)
    bank = read_bank(job, "patchcore", features.widths[0], device)
    tile_maps = distance_maps(bank, features, job.options["smoothing_sigma"])
    # Squared distances of patches with large values exceed the range of float16.
    write_tile_maps(tile_maps, job, input_size=network.input_size, dtype=np.float32)
