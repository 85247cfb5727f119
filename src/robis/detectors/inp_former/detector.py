"""INP-Former as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.settings import SharedSettings
from robis.config.stage import Derived, Job, Option, Stage, section
from robis.detectors.base import Detector, Explains, Plan
from robis.detectors.inp_former.options import InpFormerOptions
from robis.detectors.inp_former.suggestion import InpFormerSuggestion
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS, require_timm, require_two_blocks
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob, TrainJob
from robis.io.names import expanded
from robis.io.weights import check_file

if TYPE_CHECKING:
    from robis.detectors.evidence import Explainer
    from robis.detectors.scorers import Scorer


def _given_model(settings: SharedSettings, category: str) -> Path | None:
    weights = settings.get("inp_former.weights")
    return expanded(weights.replace("{category}", category)) if weights else None


def _derived(job: Job) -> Derived:
    """The model that the config gives instead of training, and its digest."""
    model = _given_model(job.settings, job.category or "")
    if model is None:
        return Derived()
    return Derived({"model": model}, frozenset({"model"}), {"model_digest": job.file_digest(model)})


class InpFormerDetector(Detector):
    """INP-Former (arXiv 2503.02424) with the settings of RoBiS (arXiv 2505.21152)."""

    name = "inp_former"
    option_model = InpFormerOptions
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "dinov2_reg_vitb14",
        "tiling.window": 1024,
        "score_images.top_fraction": 0.01,
        "rescore.method": "none",
    }
    explains = Explains("robis.detectors.inp_former.infer:load_explainer", held_out=True)
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage(
            "robis.detectors.inp_former.train:train_category",
            reads=section("inp_former", InpFormerOptions, but=("weights",), harmless=("checkpoint_every",)),
            encoder=TOKENS,
            after=("crop",),
            per=("run", "category"),
        ),
        "infer": Stage(
            "robis.detectors.inp_former.infer:infer_split",
            reads=(
                Option("inp_former.prototypes"),
                Option("inp_former.seed"),
                Option("inp_former.weights", passed=False),
                *MAP_SIZE,
                *BATCHES,
                *SHARDS,
            ),
            encoder=TOKENS,
            after=("crop", "train"),
            derive=_derived,
        ),
    }
    suggestion = InpFormerSuggestion()

    def given_model(self, settings: SharedSettings, category: str) -> Path | None:
        return _given_model(settings, category)

    def check_options(self, settings: SharedSettings) -> None:
        require_timm(settings, self.name)
        require_two_blocks(settings, self.name)

    def check_plan(self, plan: Plan) -> None:
        if model := _given_model(plan.settings, plan.category):
            check_file(model, "inp_former.weights")

    def train(self, job: TrainJob) -> None:
        from robis.detectors.inp_former.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.inp_former.infer import load_scorer

        return load_scorer(job)

    def explainer(self, job: ScorerJob, normal: NormalImages | None) -> Explainer:
        from robis.detectors.inp_former.infer import load_explainer

        return load_explainer(job, normal)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.inp_former.infer import infer_split

        infer_split(job)
