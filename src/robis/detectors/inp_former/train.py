"""The train stage of INP-Former: one category's model from the tiles of its normal images."""

from __future__ import annotations

from robis.detectors.inp_former.model import InpFormer, InpFormerLoss, initialize
from robis.detectors.jobs import TrainJob
from robis.detectors.reconstruction.train import recipe_of, train_model, training_tiles
from robis.encoders.build import build_encoder

EPS = 1e-10


def train_category(job: TrainJob) -> None:
    """Train one category's model on the tiles of its normal images: see `train_model`.

    Args:
        job: its options are `prototypes`, `epochs`, `checkpoint_every` (epochs), `coherence_weight`, `mining_power`,
            `seed` and others of `Recipe`.
    """
    options = job.options
    tiles = training_tiles(job)
    model = InpFormer(build_encoder(**job.encoder, equal_widths=True, seed=options["seed"]), options["prototypes"])
    initialize(model, options["seed"])
    per_epoch = len(tiles) // max(1, min(job.compute.batch_size, len(tiles)))
    steps, checkpoint_every = (options[name] * per_epoch for name in ("epochs", "checkpoint_every"))
    recipe = recipe_of(job, "inp_former", steps=steps, checkpoint_every=checkpoint_every, eps=EPS)
    train_model(job, model, InpFormerLoss(options["coherence_weight"], options["mining_power"]), tiles, recipe)
