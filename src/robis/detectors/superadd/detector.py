"""SuperADD as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from robis.config.stage import Option, Stage, section
from robis.detectors.base import Detector
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS
from robis.detectors.jobs import InferJob, TrainJob
from robis.detectors.superadd.options import SuperaddOptions
from robis.detectors.superadd.suggestion import SuperaddSuggestion


class SuperaddDetector(Detector):
    """SuperADD (arXiv 2605.14808), a memory bank of normal tokens."""

    name = "superadd"
    option_model = SuperaddOptions
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "dinov3_vithplus16",
        "tiling.window": 1024,
        "score_images.top_fraction": 0.001,
        "rescore.method": "none",
    }
    stages: ClassVar[Mapping[str, Stage]] = {
        "train": Stage(
            "robis.detectors.superadd.train:train_category",
            reads=(*section("superadd", SuperaddOptions, harmless=("memory_gb",)), *BATCHES),
            encoder=TOKENS,
            after=("crop",),
            per=("run", "category"),
        ),
        "infer": Stage(
            "robis.detectors.superadd.infer:infer_split",
            reads=(Option("superadd.seed"), *MAP_SIZE, *BATCHES, *SHARDS),
            encoder=TOKENS,
            after=("crop", "train"),
        ),
    }
    suggestion = SuperaddSuggestion()

    def train(self, job: TrainJob) -> None:
        from robis.detectors.superadd.train import train_category

        train_category(job)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.superadd.infer import infer_split

        infer_split(job)
