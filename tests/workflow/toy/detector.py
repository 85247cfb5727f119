"""The toy as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.stage import Option, Stage
from robis.detectors.base import Detector
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS
from robis.detectors.jobs import InferJob, ScorerJob, TrainJob
from robis.detectors.toy.options import ToyOptions

if TYPE_CHECKING:
    from robis.detectors.scorers import Scorer


class ToyDetector(Detector):
    """The distance of each pixel's gray to the mean of the normal images."""

    name = "toy"
    option_model = ToyOptions
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "efficientnet_lite0",
        "tiling.window": 32,
        "score_images.top_fraction": 0.01,
        "rescore.method": "none",
    }
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage("robis.detectors.toy.train:train_category", after=("crop",), per=("run", "category")),
        "infer": Stage(
            "robis.detectors.toy.infer:infer_split",
            reads=(Option("toy.gain"), *MAP_SIZE, *BATCHES, *SHARDS),
            after=("crop", "train"),
        ),
    }

    def train(self, job: TrainJob) -> None:
        from robis.detectors.toy.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.toy.infer import load_scorer

        return load_scorer(job)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.toy.infer import infer_split

        infer_split(job)
