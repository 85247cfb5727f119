"""WinCLIP as a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.settings import SharedSettings
from robis.config.stage import Derived, Job, Option, Stage, options
from robis.detectors.base import Detector, Plan
from robis.detectors.few_shot import check_shots, reference_options, shot_runs
from robis.detectors.inputs import BATCHES, IMAGES, MAP_SIZE
from robis.detectors.jobs import InferJob, ScorerJob, TrainJob
from robis.detectors.winclip.options import WinclipOptions
from robis.encoders.names import CLIP_ARCHITECTURES, is_clip
from robis.errors import ConfigError, one_of
from robis.tiles.files import TileMaps

if TYPE_CHECKING:
    from robis.detectors.scorers import Scorer


def _class_name(job: Job) -> Derived:
    return Derived({"class_name": job.settings.get("winclip.class_name") or (job.category or "").replace("_", " ")})


class WinclipDetector(Detector):
    """WinCLIP (arXiv 2303.14814). Each number of shots and each draw of the references is a run."""

    name = "winclip"
    option_model = WinclipOptions
    published: ClassVar[Mapping[str, Any]] = {
        "encoder.name": "clip_vitb16plus",
        "tiling.window": "image",
        "score_images.top_fraction": "own",
        "rescore.method": "none",
    }
    stages: ClassVar[Mapping[str, Stage]] = {
        "winclip_embed_prompts": Stage(
            "robis.detectors.winclip.text:embed_prompts",
            reads=(
                Option("winclip.class_name", passed=False),
                *options("winclip.normal_states", "winclip.anomalous_states", "winclip.templates"),
            ),
            encoder=("name", "weights"),
            per=("category",),
            derive=_class_name,
        ),
        "winclip_embed_tiles": Stage(
            "robis.detectors.winclip.tiles:embed_tiles",
            reads=(Option("winclip.scales"), *BATCHES),
            encoder=IMAGES,
            after=("crop",),
            per=("category", "split"),
        ),
        "train": Stage(
            "robis.detectors.winclip.train:train_category",
            reads=(
                *options("winclip.scales", "winclip.references", *(option.key for option in BATCHES)),
                *options("winclip.shots", "winclip.seeds", passed=False),
            ),
            encoder=IMAGES,
            after=("crop",),
            per=("run", "category"),
            derive=partial(reference_options, "winclip"),
        ),
        "infer": Stage(
            "robis.detectors.winclip.infer:infer_split",
            reads=(Option("winclip.scales"), Option("winclip.temperature"), *MAP_SIZE),
            encoder=IMAGES,
            after=("crop", "winclip_embed_prompts", "winclip_embed_tiles", "train"),
        ),
    }
    rates_images = True
    scoring_stages = ("winclip_embed_tiles", "infer")
    run_keys = ("winclip.shots", "winclip.seeds")

    def runs(self, settings: SharedSettings) -> dict[str, dict[str, Any]]:
        return shot_runs(self.name, settings, without="0shot")

    def trains(self, settings: SharedSettings) -> bool:
        return settings.get("winclip.shots") != 0

    def shards(self, settings: SharedSettings) -> int:
        """One: inference only compares stored features and is short."""
        return 1

    def check_options(self, settings: SharedSettings) -> None:
        name = settings.encoder.name
        if not is_clip(name):
            near = one_of(name, CLIP_ARCHITECTURES)
            raise ConfigError(f"encoder.name: found {name!r}; {self.name} needs a model with language. {near}")

    def check_plan(self, plan: Plan) -> None:
        check_shots(self.name, plan)

    def train(self, job: TrainJob) -> None:
        from robis.detectors.winclip.train import train_category

        train_category(job)

    def scorer(self, job: ScorerJob) -> Scorer:
        from robis.detectors.winclip.infer import load_scorer

        return load_scorer(job)

    def infer(self, job: InferJob) -> None:
        from robis.detectors.winclip.infer import infer_split

        infer_split(job)

    def gather(self, parts: Sequence[TileMaps], job: InferJob) -> None:
        raise TypeError(f"{self.name} has no shards.")
