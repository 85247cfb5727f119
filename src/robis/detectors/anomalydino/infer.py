"""The infer stage of AnomalyDINO: a category's tokens and a split's tiles to raw tile maps."""

from __future__ import annotations

from robis.detectors.anomalydino.tokens import make_encoder, unit_tokens
from robis.detectors.jobs import InferJob
from robis.detectors.memory_bank.stages import read_bank, write_distance_maps
from robis.encoders.devices import pick_device

# Of tokens of length 1, half of the squared Euclidean distance is 1 - cosine.
COSINE = 0.5


def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile: cosine distances of its tokens to the bank, 0..2.

    Args:
        job: see `write_distance_maps`; its input "model" is the file of `train_category`.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder or other blocks.
        DataError: a map is not finite.
    """
    device = pick_device(job.compute.device)
    network = make_encoder(job.encoder).to(device)
    features = unit_tokens(network)
    bank = read_bank(job, "anomalydino", features.widths[0], device)
    write_distance_maps(job, bank, features, network, factor=COSINE)
