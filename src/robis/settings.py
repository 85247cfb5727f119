"""Every option of robis: its name, default, unit and range, and how overrides change it per category."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from robis.errors import ConfigError, one_of

Precision = Literal["float32", "bf16", "fp16"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[^/\\{}]+$", min_length=1)]


def _without_doubles(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names that differ")
    return names


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dataset(_Section):
    """Which images."""

    name: Name = Field("demo", description="Names the folder of the results: results/NAME/.")
    layout: Literal["mvtec_ad_2", "mvtec_ad", "mpdd", "btad", "visa", "folder"] = Field(
        "mvtec_ad_2", description="How the images lie on disk (docs/datasets.md shows each layout)."
    )
    root: str = Field("data/demo", description="The folder that holds one folder per category.")
    categories: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = Field(
        "all", description="Categories (products) to run: all, or a list of folder names."
    )
    splits: list[Name] = Field(
        ["test_public"], min_length=1, description="Test splits to infer: test_public, test, ..."
    )

    @field_validator("splits", "categories")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        return _without_doubles(value) if isinstance(value, list) else value


class Tiling(_Section):
    """Overlapping windows that cover an image (RoBiS, Swin-Cropping)."""

    window: Literal["image"] | Annotated[int, Field(ge=8)] = Field(
        1024, description="Side of the square window in image pixels, or image: one tile per image."
    )
    overlap: float = Field(0.1, ge=0, lt=1, description="Share of a window that its neighbor covers too.")
    edge: Literal["pad", "shift"] = Field(
        "pad",
        description="A window that leaves the image is filled with zeros (pad, published) or moved inward (shift).",
    )


class Encoder(_Section):
    """The frozen vision transformer."""

    name: str = Field(
        "dinov2_reg_vitb14", description="A short name (dinov2_reg_vitb14, dino_vitb16, ...) or any timm ViT's."
    )
    weights: str = Field(
        "auto",
        description="auto (timm downloads them), random (seeded, for tests and the demo), "
        "or the path of a .safetensors, .pth or .pt file in timm's or DINOv2's own key names.",
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest that a local weights file must have; null: not checked."
    )
    input_size: Annotated[int, Field(ge=14)] | None = Field(
        None, description="Side of the tile that the encoder sees, pixels; null: the encoder's own (518 for DINOv2)."
    )
    blocks: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        None, description="Transformer blocks whose tokens are used, 0-based; null: the published ones."
    )

    @field_validator("blocks")
    @classmethod
    def _ascend(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and sorted(set(value)) != value:
            raise ValueError("ascending numbers")
        return value


class InpFormer(_Section):
    """INP-Former (arXiv 2503.02424), one model per category."""

    prototypes: Count = Field(6, description="Number of intrinsic normal prototypes.")
    epochs: Count = Field(200, description="Passes over the training tiles.")
    batch_size: Count = Field(16, description="Tiles per training step.")
    learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate.")
    final_learning_rate: float = Field(1e-4, ge=0, description="Learning rate after the last step.")
    warmup_steps: int = Field(100, ge=0, description="Steps of linear rise to the highest learning rate.")
    weight_decay: float = Field(1e-4, ge=0, description="Decoupled weight decay.")
    gradient_clip: float = Field(0.1, gt=0, description="Largest norm of the gradient of all parameters.")
    coherence_weight: float = Field(0.2, ge=0, description="Weight of the INP coherence loss.")
    mining_power: float = Field(3.0, ge=0, description="Exponent of soft mining; 0: every location counts the same.")
    augment: bool = Field(True, description="Random exposure and noise on the training tiles (RoBiS).")
    seed: int = Field(0, ge=0, description="Seed of initial weights, order and augmentation.")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="Arithmetic on a GPU; the CPU always uses float32."
    )
    compile: bool = Field(False, description="torch.compile on a GPU; the CPU never compiles.")
    checkpoint_every: Count = Field(10, description="Epochs between two resumable states.")


class Infer(_Section):
    """From tiles to raw tile maps."""

    batch_size: Count = Field(16, description="Tiles per forward pass.")
    precision: Precision = Field("float32", description="Arithmetic on a GPU; the CPU always uses float32.")


class Merge(_Section):
    """From tile maps to one anomaly map per image."""

    scale: float = Field(0.25, gt=0, le=1, description="Size of maps and masks as a share of the image's.")
    blend: Literal["mean", "feather"] = Field(
        "mean", description="Overlapping tiles are averaged (mean, published) or weighted to their centers (feather)."
    )
    normalize: Literal["split", "validation"] = Field(
        "split",
        description="Raw maps become 0..255 by the range of the test split itself (split, published) "
        "or of the validation split (validation: one new image can be judged alone; values above 255 are kept).",
    )


class Binarize(_Section):
    """From anomaly maps to coarse masks."""

    method: Literal["robis", "mebin", "mean_std", "percentile"] = Field(
        "robis", description="robis (mebin or mean_std), mebin, mean_std, or percentile (SuperADD)."
    )
    calibrate: Literal["split", "validation"] = Field(
        "split",
        description="Where thresholds come from: the test split (published) or the validation split, "
        "which then gives the range of the maps, too.",
    )
    std_factor: float = Field(3.0, ge=0, description="Standard deviations above the mean (mean_std, robis).")
    rate: Annotated[int, Field(ge=1, le=254)] = Field(4, description="Gray levels between two of MEBin's thresholds.")
    min_interval: Count = Field(4, description="Thresholds that a stable interval of MEBin must span.")
    erosion: Count = Field(6, description="Side of the erosion block, map pixels; 1: no erosion.")
    percentile: float = Field(95.0, ge=0, le=100, description="Percentile of the map pixels (percentile).")
    percentile_factor: float = Field(1.421, gt=0, description="Factor on that percentile (percentile).")


class Refine(_Section):
    """From coarse masks and images to final masks."""

    method: Literal["sam", "grabcut", "none"] = Field("sam", description="sam, grabcut (no weights), or none.")
    boxes: Count = Field(3, description="Largest components of the coarse mask that become box prompts.")
    multimask: bool = Field(False, description="Join the three masks SAM offers per box instead of taking its one.")
    model: Literal["vit_b", "vit_l", "vit_h"] = Field("vit_h", description="SAM's image encoder.")
    checkpoint: str | None = Field(
        None, description="Path of SAM's checkpoint; null: weights/ and the official file name of the model."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest that SAM's checkpoint must have; null: not checked."
    )
    precision: Precision = Field("float32", description="SAM's arithmetic on a GPU; the CPU always uses float32.")


class ScoreImages(_Section):
    """One anomaly score per image."""

    top_share: Share = Field(
        0.01, description="The score is the mean of this share of the highest map pixels (INP-Former); 0: the maximum."
    )


class Evaluate(_Section):
    """Metrics, where there is ground truth."""

    resolution: Literal["ground_truth"] | Annotated[int, Field(ge=8)] = Field(
        "ground_truth",
        description="Where pixels are compared: ground_truth, or a side in pixels (518, 256: the papers').",
    )


class Report(_Section):
    """The HTML page."""

    images: Count = Field(200, description="Most images shown per detector, category and split.")


class Override(_Section):
    """Other settings for some categories, splits or detectors."""

    where: dict[Literal["category", "split", "detector"], str | Annotated[list[str], Field(min_length=1)]] = Field(
        min_length=1, description="Names that must all match: category, split, detector."
    )
    set: dict[str, Any] = Field(min_length=1, description="Dotted keys and their values, e.g. refine.method: none.")

    def matches(self, chosen: Mapping[str, str]) -> bool:
        return all(chosen.get(kind) in _as_list(names) for kind, names in self.where.items())


Detector = Literal["inp_former"]


class Settings(_Section):
    """The whole config, checked."""

    dataset: Dataset = Dataset()
    detectors: Annotated[list[Detector], Field(min_length=1)] = Field(["inp_former"], description="Methods to run.")
    tiling: Tiling = Tiling()
    encoder: Encoder = Encoder()
    inp_former: InpFormer = InpFormer()
    infer: Infer = Infer()
    merge: Merge = Merge()
    binarize: Binarize = Binarize()
    refine: Refine = Refine()
    score_images: ScoreImages = ScoreImages()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()
    overrides: list[Override] = Field([], description="Applied in order; later ones win.")

    @field_validator("detectors")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return _without_doubles(value)

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> Settings:
        for number, override in enumerate(self.overrides):
            try:
                _apply(self, [override])
            except ConfigError as error:
                mistakes = str(error).removeprefix(f"{_OVERRIDDEN} cannot be used:").strip()
                raise ValueError(f"overrides.{number}.set.{mistakes}") from error
        return self

    def get(self, key: str) -> Any:
        """The value of a dotted key, e.g. "merge.scale"."""
        section, _, name = key.partition(".")
        value = getattr(self, section)
        return getattr(value, name) if name else value

    def effective(self, **chosen: str) -> Settings:
        """The settings that hold for one category, split and detector (those given), overrides applied in order.

        An override whose `where` names something not given here does not apply.
        """
        return _apply(self, [override for override in self.overrides if override.matches(chosen)])


def section_of(name: str) -> type[BaseModel]:
    """The model of a section, e.g. of "merge"."""
    section = Settings.model_fields[name].annotation
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        raise ConfigError(f"{name}: not a section of the config.")
    return section


_OVERRIDDEN = "overridden config"
# Where these live is fixed before a category is known, so an override cannot change them.
_GLOBAL = ("dataset", "detectors", "overrides", "report")


def _apply(settings: Settings, overrides: Sequence[Override]) -> Settings:
    if not overrides:
        return settings
    values = settings.model_dump()
    values["overrides"] = []
    for override in overrides:
        for dotted, value in override.set.items():
            section, _, key = dotted.partition(".")
            sections = [name for name in Settings.model_fields if name not in _GLOBAL]
            if section not in sections:
                raise ConfigError(f"{dotted}: no such section. {one_of(section, sections)}")
            if key not in values[section]:
                raise ConfigError(f"{dotted}: no such key. {one_of(key, values[section])}")
            values[section][key] = copy.deepcopy(value)
    return parse(values, _OVERRIDDEN)


def parse(values: Mapping[str, Any], source: str = "config") -> Settings:
    """Check a config given as nested dicts. Raises ConfigError that lists every mistake in it."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"  {line}" for line in _explain(error)]
        raise ConfigError(f"{source} cannot be used:\n" + "\n".join(lines)) from error


def load(path: str | Path) -> Settings:
    """Read and check a YAML config file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a readable YAML file ({error}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}; expected keys such as dataset: and tiling:.")
    return parse(values, str(path))


def _explain(error: ValidationError) -> Iterator[str]:
    """One line per mistake. A key with alternatives (a word or a number) is reported once, with all of them."""
    grouped: dict[str, list[Any]] = {}
    for detail in error.errors():
        grouped.setdefault(_dotted(detail["loc"]), []).append(detail)
    for key, details in grouped.items():
        first = details[0]
        if first["type"] == "extra_forbidden":
            *parents, name = key.split(".")
            yield f"{key}: unknown key. {one_of(name, _keys_at(parents))}"
        elif first["type"] == "value_error" and not key:
            yield str(first["ctx"]["error"])
        else:
            allowed = " or ".join(dict.fromkeys(_allowed(detail) for detail in details))
            yield f"{key}: found {first['input']!r}; expected {allowed}."


def _dotted(location: Sequence[int | str]) -> str:
    """The key as the user wrote it: pydantic appends the name of the alternative that was tried."""
    parts: list[str] = []
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            parts.append(str(part))
            continue
        fields = getattr(model, "model_fields", None)
        if fields is not None and part in fields:
            parts.append(part)
            model = fields[part].annotation
            if model == list[Override]:
                model = Override
        elif fields is not None:
            parts.append(part)
            model = None
        elif model is not None:
            continue
    return ".".join(parts)


def _keys_at(parents: Sequence[str]) -> list[str]:
    model: Any = Settings
    for name in parents:
        model = Override if name.isdigit() else model.model_fields[name].annotation
    return list(getattr(model, "model_fields", Override.model_fields))


def _allowed(detail: Any) -> str:
    """What pydantic expected, as the end of "expected ..."."""
    if detail["type"] == "literal_error":
        words = [word.strip("'") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return one_of(str(detail["input"]), words).removeprefix("Valid: ").rstrip(".")
    if detail["type"] == "missing":
        return "a value"
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return f"text: put it in quotes, '{detail['input']}'"
    message = str(detail["msg"]).partition(", unable to parse")[0]
    if detail["type"] == "too_short":
        return f"at least {detail['ctx']['min_length']} entry"
    for lead in ("Input should be ", "Value error, ", "Input should "):
        message = message.removeprefix(lead)
    return message


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
