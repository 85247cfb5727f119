"""AnomalyDINO as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.settings import SharedSettings
from robis.config.stage import POSITIVE, Option, Stage, When, options
from robis.detectors.anomalydino.options import AnomalydinoOptions
from robis.detectors.base import Detector, Explains, Plan
from robis.detectors.few_shot import check_shots, reference_options, shot_runs
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob, TrainJob

if TYPE_CHECKING:
    from robis.detectors.evidence import Explainer
    from robis.detectors.scorers import Scorer

_FEW_SHOT = When("anomalydino.shots", (POSITIVE,))


class AnomalydinoDetector(Detector):
    """AnomalyDINO (arXiv 2405.14529). Each number of shots and each draw of the references is a run."""

    name = "anomalydino"
    option_model = AnomalydinoOptions
    allow_key = "anomalydino.allow"
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "dinov2_vits14",
        "tiling.window": "image",
        "score_images.top_fraction": 0.01,
        "rescore.method": "none",
    }
    explains = Explains("robis.detectors.anomalydino.infer:load_explainer")
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage(
            "robis.detectors.anomalydino.train:train_category",
            reads=(
                *options("anomalydino.references", "anomalydino.rotations", when=_FEW_SHOT),
                *BATCHES,
                *options("anomalydino.shots", "anomalydino.seeds", "anomalydino.allow", passed=False),
            ),
            encoder=TOKENS,
            after=("crop",),
            per=("run", "category"),
            derive=partial(reference_options, "anomalydino"),
        ),
        "infer": Stage(
            "robis.detectors.anomalydino.infer:infer_split",
            reads=(Option("anomalydino.smoothing_sigma"), *MAP_SIZE, *BATCHES, *SHARDS),
            encoder=TOKENS,
            after=("crop", "train"),
        ),
    }
    run_keys = ("anomalydino.shots", "anomalydino.seeds")

    def runs(self, settings: SharedSettings) -> dict[str, dict[str, Any]]:
        return shot_runs(self.name, settings, without="all")

    def check_plan(self, plan: Plan) -> None:
        check_shots(self.name, plan)

    def train(self, job: TrainJob) -> None:
        from robis.detectors.anomalydino.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.anomalydino.infer import load_scorer

        return load_scorer(job)

    def explainer(self, job: ScorerJob, normal: NormalImages | None) -> Explainer:
        from robis.detectors.anomalydino.infer import load_explainer

        return load_explainer(job, normal)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.anomalydino.infer import infer_split

        infer_split(job)
