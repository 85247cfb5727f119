"""SubspaceAD as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.settings import SharedSettings
from robis.config.stage import POSITIVE, Option, Stage, When, options
from robis.detectors.base import Detector, Plan
from robis.detectors.few_shot import check_shots, reference_options, shot_runs
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS
from robis.detectors.jobs import InferJob, ScorerJob, TrainJob
from robis.detectors.subspace.options import SubspaceOptions

if TYPE_CHECKING:
    from robis.detectors.scorers import Scorer

_FEW_SHOT = When("subspace.shots", (POSITIVE,))


class SubspaceDetector(Detector):
    """SubspaceAD (arXiv 2602.23013). Each number of shots and each draw of the references is a run."""

    name = "subspace"
    option_model = SubspaceOptions
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "dinov2_reg_vitg14",
        "tiling.window": "image",
        "score_images.top_fraction": 0.01,
        "rescore.method": "none",
    }
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage(
            "robis.detectors.subspace.train:train_category",
            reads=(
                *options("subspace.references", "subspace.rotations", when=_FEW_SHOT),
                Option("subspace.explained_variance"),
                *BATCHES,
                *options("subspace.shots", "subspace.seeds", passed=False),
            ),
            encoder=TOKENS,
            after=("crop",),
            per=("run", "category"),
            derive=partial(reference_options, "subspace"),
        ),
        "infer": Stage(
            "robis.detectors.subspace.infer:infer_split",
            reads=(*MAP_SIZE, *BATCHES, *SHARDS),
            encoder=TOKENS,
            after=("crop", "train"),
        ),
    }
    run_keys = ("subspace.shots", "subspace.seeds")

    def runs(self, settings: SharedSettings) -> dict[str, dict[str, Any]]:
        return shot_runs(self.name, settings, without="all")

    def check_plan(self, plan: Plan) -> None:
        check_shots(self.name, plan)

    def train(self, job: TrainJob) -> None:
        from robis.detectors.subspace.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.subspace.infer import load_scorer

        return load_scorer(job)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.subspace.infer import infer_split

        infer_split(job)
