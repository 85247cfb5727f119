"""The train stage of Dinomaly: a model from the tiles of normal images of one category or of all."""

from __future__ import annotations

from robis.detectors.dinomaly.model import Dinomaly, DinomalyLoss, initialize
from robis.detectors.jobs import TrainJob
from robis.detectors.reconstruction.step import Recipe
from robis.detectors.reconstruction.train import recipe_of, train_model, training_tiles
from robis.encoders.build import build_encoder

# By scope, as published.
STEPS = {"category": 5_000, "all": 10_000}
EPS = {"category": 1e-8, "all": 1e-10}


def train_category(job: TrainJob) -> None:
    """Train a model on the tiles of the normal images of its categories: see `train_model`.

    Args:
        job: its options are `scope`, `steps` (None: the published number), `dropout`, `easy_fraction`, `easy_weight`,
            `easy_steps`, `seed` and others of `Recipe`.
    """
    options = job.options
    encoder = build_encoder(**job.encoder, equal_widths=True, seed=options["seed"])
    model = Dinomaly(encoder, options["dropout"])
    initialize(model, options["seed"])
    loss = DinomalyLoss(options["easy_fraction"], options["easy_weight"], options["easy_steps"])
    train_model(job, model, loss, training_tiles(job), training_recipe(job))


def training_recipe(job: TrainJob) -> Recipe:
    """The hyper-parameters of a job; those that depend on the scope are not options."""
    scope = job.options["scope"]
    return recipe_of(job, "dinomaly", steps=job.options["steps"] or STEPS[scope], eps=EPS[scope])
