"""MuSc as a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.settings import SharedSettings
from robis.config.stage import Stage, options, section
from robis.detectors.base import Detector, Plan
from robis.detectors.inputs import BATCHES, MAP_SIZE, SHARDS, TOKENS
from robis.detectors.jobs import InferJob, ScorerJob
from robis.detectors.musc.options import MuscOptions
from robis.detectors.musc.suggestion import MuscSuggestion
from robis.errors import ConfigError
from robis.tiles.files import TileMaps

if TYPE_CHECKING:
    from robis.detectors.scorers import Scorer


class MuscDetector(Detector):
    """MuSc (arXiv 2401.16753), which needs no normal images."""

    name = "musc"
    option_model = MuscOptions
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "clip_vitl14_336",
        "tiling.window": "image",
        "score_images.top_fraction": "own",
        "rescore.method": "rscin",
    }
    stages: ClassVar[Mapping[str, Stage]] = {
        "infer": Stage(
            "robis.detectors.musc.infer:infer_split",
            reads=(
                *section("musc", MuscOptions, but=("reference_images",), harmless=("memory_gb",)),
                *MAP_SIZE,
                *BATCHES,
                *SHARDS,
            ),
            encoder=TOKENS,
            after=("crop",),
        ),
        # For packs only.
        "embed_references": Stage(
            "robis.detectors.musc.reference:write_reference",
            reads=(*options("musc.reference_images", "musc.seed"), *BATCHES),
            encoder=TOKENS,
            after=("crop",),
        ),
    }
    suggestion = MuscSuggestion()
    rates_images = True
    compares_tiles = True

    def fewest_images(self, settings: SharedSettings) -> int:
        return 2 * int(settings.get("musc.subsets"))

    def check_plan(self, plan: Plan) -> None:
        subsets = plan.settings.get("musc.subsets")
        for split in plan.splits():
            images = len(plan.sample_ids(split))
            if images < self.fewest_images(plan.settings):
                keys = "merge.normalize: split, binarize.calibrate: split and verdict.limit: none"
                way_out = f" Or set {keys}." if split == "validation" else ""
                raise ConfigError(
                    f"musc.subsets: found {subsets} for the {images} images of {plan.category}/{split}; mutual "
                    f"scoring needs at least 2 images in each part.{way_out}"
                )

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.musc.alone import load_scorer

        return load_scorer(job)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.musc.infer import infer_split

        infer_split(job)

    def gather(self, parts: Sequence[TileMaps], job: InferJob) -> None:
        from robis.detectors.musc.infer import gather_shards

        gather_shards(parts, job)
