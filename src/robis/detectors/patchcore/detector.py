"""PatchCore as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.stage import Option, Stage, options, section
from robis.detectors.base import Detector, Explains
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob, TrainJob
from robis.detectors.patchcore.options import PatchcoreOptions

if TYPE_CHECKING:
    from robis.detectors.evidence import Explainer
    from robis.detectors.scorers import Scorer


class PatchcoreDetector(Detector):
    """PatchCore (arXiv 2106.08265), a coreset of the patches of normal images."""

    name = "patchcore"
    option_model = PatchcoreOptions
    allow_key = "patchcore.allow"
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "wide_resnet50_2",
        "tiling.window": "image",
        "score_images.top_fraction": 0.0,
        "rescore.method": "none",
    }
    explains = Explains("robis.detectors.patchcore.infer:load_explainer")
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage(
            "robis.detectors.patchcore.train:train_category",
            reads=(
                *section("patchcore", PatchcoreOptions, but=("smoothing_sigma", "allow")),
                Option("patchcore.allow", passed=False),
                *BATCHES,
            ),
            encoder=TOKENS,
            after=("crop",),
            per=("run", "category"),
        ),
        "infer": Stage(
            "robis.detectors.patchcore.infer:infer_split",
            reads=(*options("patchcore.smoothing_sigma"), *MAP_SIZE, *BATCHES, *SHARDS),
            encoder=TOKENS,
            after=("crop", "train"),
        ),
    }

    def train(self, job: TrainJob) -> None:
        from robis.detectors.patchcore.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.patchcore.infer import load_scorer

        return load_scorer(job)

    def explainer(self, job: ScorerJob, normal: NormalImages | None) -> Explainer:
        from robis.detectors.patchcore.infer import load_explainer

        return load_explainer(job, normal)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.patchcore.infer import infer_split

        infer_split(job)
