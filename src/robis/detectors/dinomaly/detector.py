"""Dinomaly as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.settings import SharedSettings
from robis.config.stage import Option, Stage, section
from robis.detectors.base import Detector, Explains
from robis.detectors.dinomaly.options import DinomalyOptions
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS, require_timm, require_two_blocks
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob, TrainJob

if TYPE_CHECKING:
    from robis.detectors.evidence import Explainer
    from robis.detectors.scorers import Scorer


class DinomalyDetector(Detector):
    """Dinomaly (arXiv 2405.14325). One model per category, or one for all."""

    name = "dinomaly"
    option_model = DinomalyOptions
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "dinov2_reg_vitb14",
        "tiling.window": "image",
        "score_images.top_fraction": 0.01,
        "rescore.method": "none",
    }
    explains = Explains("robis.detectors.dinomaly.infer:load_explainer", held_out=True)
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage(
            "robis.detectors.dinomaly.train:train_category",
            reads=section("dinomaly", DinomalyOptions, harmless=("checkpoint_every",)),
            encoder=TOKENS,
            after=("crop",),
            per=("run", "category"),
        ),
        "infer": Stage(
            "robis.detectors.dinomaly.infer:infer_split",
            reads=(Option("dinomaly.seed"), *MAP_SIZE, *BATCHES, *SHARDS),
            encoder=TOKENS,
            after=("crop", "train"),
        ),
    }

    def covers_all(self, settings: SharedSettings) -> bool:
        return settings.get("dinomaly.scope") == "all"

    def check_options(self, settings: SharedSettings) -> None:
        require_timm(settings, self.name)
        require_two_blocks(settings, self.name)

    def train(self, job: TrainJob) -> None:
        from robis.detectors.dinomaly.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.dinomaly.infer import load_scorer

        return load_scorer(job)

    def explainer(self, job: ScorerJob, normal: NormalImages | None) -> Explainer:
        from robis.detectors.dinomaly.infer import load_explainer

        return load_explainer(job, normal)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.dinomaly.infer import infer_split

        infer_split(job)
