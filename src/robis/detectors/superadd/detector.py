"""SuperADD as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.settings import SharedSettings
from robis.config.stage import Option, Stage, When, options, section
from robis.detectors.base import Detector, Explains
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob, TrainJob
from robis.detectors.superadd.options import SuperaddOptions
from robis.detectors.superadd.suggestion import SuperaddSuggestion
from robis.encoders.names import own_input_size
from robis.encoders.steps import token_step
from robis.errors import ConfigError

if TYPE_CHECKING:
    from robis.detectors.evidence import Explainer
    from robis.detectors.scorers import Scorer

_JOINED = When("tiling.window", ("joined",))
_JOINING = options("tiling.image_scale", "tiling.overlap", when=_JOINED)


class SuperaddDetector(Detector):
    """SuperADD (arXiv 2605.14808), a memory bank of normal tokens."""

    name = "superadd"
    option_model = SuperaddOptions
    allow_key = "superadd.allow"
    joins_tokens = True
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "dinov3_vithplus16",
        "tiling.window": 1024,
        "score_images.top_fraction": 0.001,
        "rescore.method": "none",
    }
    explains = Explains("robis.detectors.superadd.evidence:load_explainer")
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage(
            "robis.detectors.superadd.train:train_category",
            reads=(
                *section("superadd", SuperaddOptions, but=("smoothing_sigma", "allow"), harmless=("memory_gb",)),
                Option("superadd.allow", passed=False),
                Option("tiling.window"),
                *_JOINING,
                *BATCHES,
            ),
            encoder=TOKENS,
            after=("crop",),
            per=("run", "category"),
        ),
        "infer": Stage(
            "robis.detectors.superadd.infer:infer_split",
            reads=(
                *options("superadd.seed", "superadd.smoothing_sigma"),
                *_JOINING,
                *MAP_SIZE,
                *BATCHES,
                *SHARDS,
            ),
            encoder=TOKENS,
            after=("crop", "train"),
        ),
    }
    suggestion = SuperaddSuggestion()

    def check_options(self, settings: SharedSettings) -> None:
        encoder = settings.encoder
        step = token_step(encoder.name, encoder.blocks)
        size = encoder.input_size or own_input_size(encoder.name)
        if settings.tiling.window == "joined" and step and size % step:
            raise ConfigError(
                f"encoder.input_size: found {size}; tiling.window: joined needs tiles of whole tokens, a multiple of "
                f"{step} for {encoder.name}."
            )

    def train(self, job: TrainJob) -> None:
        from robis.detectors.superadd.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.superadd.infer import load_scorer

        return load_scorer(job)

    def explainer(self, job: ScorerJob, normal: NormalImages | None) -> Explainer:
        from robis.detectors.superadd.evidence import load_explainer

        return load_explainer(job, normal)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.superadd.infer import infer_split

        infer_split(job)
