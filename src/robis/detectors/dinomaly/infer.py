"""The infer stage of Dinomaly: a trained model and a split's tiles to raw tile maps."""

from __future__ import annotations

from functools import partial

import torch

from robis.detectors.dinomaly.model import Dinomaly
from robis.detectors.inference import write_tile_maps
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob
from robis.detectors.model_files import open_model
from robis.detectors.reconstruction.evidence import ReconstructionExplainer
from robis.detectors.reconstruction.maps import tile_maps
from robis.detectors.scorers import TileScorer
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device


def infer_split(job: InferJob) -> None:
    """Write the raw map of every tile: float16 (N, m, m), range 0..2, and the tile table beside it.

    Args:
        job: see `load_scorer`.

    Raises:
        WeightsError: see `load_scorer`.
        DataError: a map is not finite.
    """
    write_tile_maps(load_scorer(job.scorer), job)


def load_scorer(job: ScorerJob) -> TileScorer:
    """A trained model, ready to score tiles.

    Args:
        job: its option is `seed`, of random encoder weights; its input "model" is what `train_category` wrote.

    Raises:
        WeightsError: the model file is absent, damaged or made for another encoder.
    """
    network = _loaded(job)
    frozen = network.encoder
    return TileScorer(partial(tile_maps, network), frozen.input_size, frozen, grid=frozen.grid)


def load_explainer(job: ScorerJob, normal: NormalImages | None) -> ReconstructionExplainer:
    """The same, ready to say how badly a region is rebuilt; see `load_scorer`."""
    return ReconstructionExplainer(_loaded(job), normal, job.compute)


def _loaded(job: ScorerJob) -> Dinomaly:
    network = Dinomaly(build_encoder(**job.encoder, equal_widths=True, seed=job.options["seed"]))
    with open_model(job.inputs["model"], "dinomaly", encoder=str(job.encoder["name"])) as model:
        cpu = torch.device("cpu")
        state = {name: model.tensor(name, tuple(value.shape), cpu) for name, value in network.trainable().items()}
    network.load_state_dict(state, strict=False)
    return network.eval().to(pick_device(job.compute.device))
