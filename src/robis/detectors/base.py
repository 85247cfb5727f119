"""What every detector is: one object that knows all that is specific to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from robis.config.section import Section
from robis.config.settings import SharedSettings
from robis.config.stage import Stage
from robis.detectors.jobs import InferJob, NormalImages, ScorerJob, TrainJob
from robis.detectors.suggestion import Suggestion
from robis.tiles.files import TileMaps

if TYPE_CHECKING:
    from robis.detectors.evidence import Explainer
    from robis.detectors.scorers import Scorer


class Plan(ABC):
    """What a detector may ask about a planned run of a category and split."""

    settings: Any
    category: str
    split: str

    @abstractmethod
    def sample_ids(self, split: str) -> list[str]:
        """Sample ids of a split of the category."""

    @abstractmethod
    def splits(self) -> list[str]:
        """Splits that the run infers: its own and the one that its range or thresholds come from."""


@dataclass(frozen=True)
class Explains:
    """How a detector says why a region was marked.

    Attributes:
        run: "module:function" that makes its explainer; the digest of its code starts there.
        held_out: whether it compares with held-out normal images where there are some, and not with those it learned.
    """

    run: str
    held_out: bool = False


class Detector(ABC):
    """An anomaly detector, from tiles to tile maps.

    Attributes:
        name: in the config and in the results.
        option_model: its section of the config.
        published: dotted key -> the published value that `auto` stands for.
        stages: `infer`, and what comes before it: `train` where it learns from normal images, and stages of its own.
        rates_images: whether inference writes `score` and `embedding` of every tile into the tile table.
        compares_tiles: whether a tile's map depends on the other tiles of its split, so that a new image changes all;
            `scorer` then compares with frozen ones.
        joins_tokens: whether it joins the tokens of whole images itself (`tiling.window: joined`).
        run_keys: dotted keys of its section whose lists of values make several runs.
        explains: how it says why a region was marked; None for a detector that cannot.
        scoring_stages: the stages whose options `scorer` takes.
        allow_key: dotted key of the table of regions that count as normal, which `train` takes as
            `TrainJob.allowed`; None for detectors without a memory bank.
        suggestion: when `robis init` chooses it, and with which options.
    """

    name: ClassVar[str]
    option_model: ClassVar[type[Section]]
    published: ClassVar[Mapping[str, Any]]
    stages: ClassVar[Mapping[str, Stage]]
    rates_images: ClassVar[bool] = False
    compares_tiles: ClassVar[bool] = False
    joins_tokens: ClassVar[bool] = False
    run_keys: ClassVar[tuple[str, ...]] = ()
    explains: ClassVar[Explains | None] = None
    scoring_stages: ClassVar[tuple[str, ...]] = ("infer",)
    allow_key: ClassVar[str | None] = None
    suggestion: ClassVar[Suggestion] = Suggestion()

    @property
    def has_encoder(self) -> bool:
        """Whether tiles are encoded, so that regions have embeddings."""
        return any(self.stages[name].encoder for name in self.scoring_stages)

    def runs(self, settings: SharedSettings) -> dict[str, dict[str, Any]]:
        """The runs that a config asks for: name -> dotted key -> value that sets the run apart."""
        return {self.name: {}}

    def trains(self, settings: SharedSettings) -> bool:
        """Whether a run with these settings has a `train` job."""
        return "train" in self.stages and self.given_model(settings, "") is None

    def given_model(self, settings: SharedSettings, category: str) -> Path | None:
        """The file of a model that was trained elsewhere and replaces `train`; None where there is none."""
        return None

    def covers_all(self, settings: SharedSettings) -> bool:
        """Whether one model covers all categories, instead of one each.

        Its train job gets the tiles of every category, and options without overrides by category.
        """
        return False

    def shards(self, settings: SharedSettings) -> int:
        """How many jobs share the inference of a split."""
        return settings.infer.shards

    def fewest_images(self, settings: SharedSettings) -> int:
        """How many images a split must have for the detector to give them scores."""
        return 1

    def check_options(self, settings: SharedSettings) -> None:  # noqa: B027 (optional)
        """Raise ConfigError for options that do not fit each other."""

    def check_plan(self, plan: Plan) -> None:  # noqa: B027 (optional)
        """Raise ConfigError or WeightsError for options that do not fit the images or files at hand."""

    def train(self, job: TrainJob) -> None:
        """Write a model and its history.

        A detector without training steps writes a history without rows.
        """
        raise TypeError(f"{self.name} has nothing to train.")

    @abstractmethod
    def scorer(self, job: ScorerJob) -> Scorer:
        """Load what scores one image at a time.

        Raises:
            WeightsError: a file is absent, damaged or made for another encoder.
        """

    def explainer(self, job: ScorerJob, normal: NormalImages | None) -> Explainer:
        """Load what encodes the tiles of regions and says why they were marked.

        Args:
            job: as for `scorer`.
            normal: the images to compare with, as `explains` says; None where there are none.

        Raises:
            WeightsError: a file is absent, damaged or made for another encoder.
        """
        from robis.detectors.evidence import plain_explainer  # torch with it

        return plain_explainer(job)

    @abstractmethod
    def infer(self, job: InferJob) -> None:
        """Write the raw map of every tile and the tile table; with several shards, this shard's part."""

    def gather(self, parts: Sequence[TileMaps], job: InferJob) -> None:
        """Write what `infer` would have written alone from what the shards wrote, in their order."""
        from robis.detectors.inference import gather_maps  # torch with it

        gather_maps(parts, job)
