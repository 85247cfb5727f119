"""The infer stage of PatchCore: a category's coreset and a split's tiles to raw tile maps."""

from __future__ import annotations

from robis.detectors.jobs import InferJob
from robis.detectors.memory_bank.stages import read_bank, write_distance_maps
from robis.detectors.patchcore.patches import patch_features
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device


def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile: squared distances of its patches to the bank.

    Args:
        job: see `write_distance_maps`; its input "model" is the file of `train_category`.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder.
        DataError: a map is not finite.
    """
    device = pick_device(job.compute.device)
    network = build_encoder(**job.encoder).to(device)
    features = patch_features(network)
    write_distance_maps(job, read_bank(job, "patchcore", features.widths[0], device), features, network)
