"""The infer stage of INP-Former: a trained model and a split's tiles to raw tile maps."""

from __future__ import annotations

from functools import partial

from robis.detectors.inference import write_tile_maps
from robis.detectors.inp_former.model import InpFormer, load_checkpoint
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob
from robis.detectors.model_files import model_encoder
from robis.detectors.reconstruction.evidence import ReconstructionExplainer
from robis.detectors.reconstruction.maps import tile_maps
from robis.detectors.scorers import TileScorer
from robis.encoders.build import build_encoder
from robis.encoders.devices import pick_device
from robis.encoders.weights import read_state
from robis.errors import WeightsError


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
        job: its options are `prototypes` and `seed`; its input "model" is what `train_category` wrote or a published
            checkpoint. An encoder that the checkpoint holds replaces the weights of `encoder`.

    Raises:
        WeightsError: the model file is absent, damaged or made for another encoder.
    """
    network = _loaded(job)
    frozen = network.encoder
    return TileScorer(partial(tile_maps, network), frozen.input_size, frozen, grid=frozen.grid)


def load_explainer(job: ScorerJob, normal: NormalImages | None) -> ReconstructionExplainer:
    """The same, ready to say how badly a region is rebuilt; see `load_scorer`."""
    return ReconstructionExplainer(_loaded(job), normal, job.compute)


def _loaded(job: ScorerJob) -> InpFormer:
    path, encoder = job.inputs["model"], dict(job.encoder)
    state = read_state(path, sha256=None, key="inp_former.weights")
    if any(name.startswith("encoder.") for name in state):
        encoder |= {"weights": "random", "sha256": None}
    network = InpFormer(
        build_encoder(**encoder, equal_widths=True, seed=job.options["seed"]), job.options["prototypes"]
    )
    made_for, name = model_encoder(path, "inp_former"), str(encoder["name"])
    load_checkpoint(network, state, source=f"{path} (made for {made_for or 'an unnamed encoder'})", encoder=name)
    if made_for not in (None, name):
        raise WeightsError(
            f"{path}: made for {made_for}; expected {name}, whose weights have the same shapes. Set encoder.name to "
            f"{made_for}, or train a model for {name}."
        )
    return network.eval().to(pick_device(job.compute.device))
