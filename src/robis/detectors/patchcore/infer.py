"""The infer stage of PatchCore: a category's coreset and a split's tiles to raw tile maps."""

from __future__ import annotations

import numpy as np
import torch

from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob
from robis.detectors.memory_bank.bank import Bank
from robis.detectors.memory_bank.evidence import BankExplainer, required, single_bank
from robis.detectors.memory_bank.stages import distance_maps, read_bank
from robis.detectors.normal_tokens import Features
from robis.detectors.patchcore.patches import patch_features
from robis.detectors.scorers import TileScorer
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.encoders.encoder import Encoder


def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile, float32: squared distances of its patches to the bank.

    Args:
        job: see `load_scorer`.

    Raises:
        WeightsError: see `load_scorer`.
        DataError: a map is not finite.
    """
    write_tile_maps(load_scorer(job.scorer), job)


@torch.inference_mode()
def load_scorer(job: ScorerJob) -> TileScorer:
    """A category's coreset, ready to score tiles.

    Args:
        job: its option is smoothing_sigma, of the Gaussian that smooths maps, map pixels; 0: none. Its input "model" is
            the file of `train_category`.

    Raises:
        WeightsError: the model is absent, damaged or made for another encoder.
    """
    network, features, bank = _loaded(job)
    tile_maps = distance_maps(bank, features, job.options["smoothing_sigma"])
    # Squared distances of patches with large values exceed the range of float16.
    return TileScorer(tile_maps, network.input_size, network, np.float32, features.grid)


@torch.inference_mode()
def load_explainer(job: ScorerJob, normal: NormalImages | None) -> BankExplainer:
    """The same, ready to say which normal patches are most like those of a region; see `load_scorer`."""
    network, features, bank = _loaded(job)
    # As in maps.
    banks = [single_bank(job, "patchcore", bank, torch.square)]
    return BankExplainer(network, features, banks, required(normal), job.compute)


def _loaded(job: ScorerJob) -> tuple[Encoder, Features, Bank]:
    device = pick_device(job.compute.device)
    network = build_encoder(**job.encoder, on_grid=False).to(device)
    features = patch_features(network)
    return network, features, read_bank(job, "patchcore", features.widths[0], device)
