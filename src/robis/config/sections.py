"""The sections of a config that all detectors share: every option, its default, unit and range."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from robis.io.names import composed, folder_problem

Precision = Literal["float32", "bf16", "fp16"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Shots = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0)]
Prompts = Annotated[list[Annotated[str, Field(pattern=r"\{\}")]], Field(min_length=1)]


def _folder_name(name: str) -> str:
    """The name in composed Unicode, as names are compared; raises ValueError where results cannot be named so."""
    if reason := folder_problem(composed(name)):
        raise ValueError(f"a name for a folder of results; this name {reason}")
    return composed(name)


Name = Annotated[str, Field(pattern=r"^[^/\\{}<>]+$", min_length=1), AfterValidator(_folder_name)]
DatasetName = Annotated[str, Field(pattern=r"^[^\s./\\{}<>]([^/\\{}<>]*[^\s./\\{}<>])?$"), AfterValidator(_folder_name)]


def without_doubles(names: list[str]) -> list[str]:
    """The names; raises ValueError when one is there twice."""
    if len(set(names)) < len(names):
        raise ValueError("names that differ")
    return names


class Section(BaseModel):
    """What all sections have in common: no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dataset(Section):
    """Which images."""

    name: DatasetName = Field("demo", description="Names the folder of the results: results/NAME/.")
    layout: Literal["mvtec_ad_2", "mvtec_ad", "mvtec_loco", "mpdd", "btad", "visa", "folder", "table"] = Field(
        "mvtec_ad_2", description="How the images lie on disk (docs/datasets.md shows each layout)."
    )
    root: str = Field("data/demo", description="The folder that holds one folder per category.")
    table: str | None = Field(
        None,
        description="The file that lists the images, relative to the root or absolute (layouts table and visa); "
        "null: samples.csv, in visa split_csv/1cls.csv.",
    )
    allow_outside_root: bool = Field(False, description="Whether that file may name images outside the root.")
    categories: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = Field(
        "all", description="Categories (products) to run: all, or a list of folder names."
    )
    splits: list[Name] = Field(
        ["test_public"],
        min_length=1,
        description="Splits to inspect: test_public, test, ... (a table's may have any name).",
    )

    @field_validator("splits", "categories")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        return without_doubles(value) if isinstance(value, list) else value


class Tiling(Section):
    """Overlapping windows that cover an image (RoBiS, Swin-Cropping)."""

    window: Literal["auto", "image"] | Annotated[int, Field(ge=8)] = Field(
        "auto",
        description="Side of the square window in image pixels, or image: one tile per image.",
    )
    overlap: float = Field(0.1, ge=0, lt=1, description="Share of a window that its neighbor covers too.")
    edge: Literal["pad", "shift"] = Field(
        "pad",
        description="A window that leaves the image is filled with zeros (pad, published) or moved inward (shift).",
    )
    resample: Literal["bilinear", "bicubic"] = Field(
        "bilinear",
        description="Antialiased filter that resizes a tile; the public code of musc and winclip is bicubic.",
    )


class Encoder(Section):
    """The frozen network whose tokens detectors compare."""

    name: str = Field(
        "auto",
        description="A short name (dinov2_reg_vitb14, efficientnet_lite0, clip_vitl14_336, ...), timm's name of any "
        "ViT or CNN, open_clip's of any ViT, or the path of an open_clip model config (.json). Detectors that read "
        "text need a CLIP.",
    )
    weights: str = Field(
        "auto",
        description="auto (efficientnet_lite0's come with a Python package, timm or open_clip downloads others), "
        "random (seeded), a pretrained tag of open_clip's (openai, laion400m_e32, ...), or the path of a .safetensors, "
        ".pth or .pt file in the key names of timm, DINO, DINOv2, DINOv3 or open_clip.",
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest that a local weights file must have; null: not checked."
    )
    input_size: Annotated[int, Field(ge=14)] | None = Field(
        None,
        description="Side of the tile that the encoder sees, pixels; null: the encoder's own (518 for DINOv2, 640 for "
        "DINOv3, 256 for CNNs). A ViT needs a multiple of its patch.",
    )
    blocks: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        None,
        description="Transformer blocks, or stages of a CNN, whose tokens are used, 0-based; null: the published ones "
        "(musc: the last of each quarter; superadd: these, or 3, 5, 8, 10 of 12; winclip uses none).",
    )

    @field_validator("blocks")
    @classmethod
    def _ascend(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and sorted(set(value)) != value:
            raise ValueError("ascending numbers")
        return value


class Infer(Section):
    """From tiles to raw tile maps."""

    batch_size: Count = Field(16, description="Tiles per forward pass.")
    precision: Precision = Field("float32", description="Arithmetic on a GPU; the CPU always uses float32.")
    shards: Annotated[int, Field(ge=1, le=1000)] = Field(
        1,
        description="Jobs that share the inference of one category's split, each on a GPU of its own; "
        "the maps are the same to the bit. Detectors with short inference ignore it.",
    )


class Merge(Section):
    """From tile maps to one anomaly map per image."""

    scale: float = Field(0.25, gt=0, le=1, description="Size of maps and masks as a share of the image's.")
    blend: Literal["mean", "feather", "central"] = Field(
        "mean",
        description="Overlapping tiles are averaged (mean, RoBiS) or weighted to their centers (feather), or each "
        "pixel is taken from the tile whose center is nearest (central, SuperADD).",
    )
    normalize: Literal["split", "validation"] = Field(
        "split",
        description="Raw maps become 0..255 by the range of the test split itself (split, published) "
        "or of the validation split (validation: one new image can be judged alone; values above 255 are kept).",
    )


class Binarize(Section):
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
    threshold_step: Annotated[int, Field(ge=1, le=254)] = Field(
        4, description="Gray levels between two of MEBin's thresholds."
    )
    min_interval: Count = Field(4, description="Thresholds that a stable interval of MEBin must span.")
    erosion_size: Count = Field(6, description="Side of the erosion block, map pixels; 1: no erosion.")
    percentile: float = Field(95.0, ge=0, le=100, description="Percentile of the map pixels (percentile).")
    percentile_factor: float = Field(1.421, gt=0, description="Factor on that percentile (percentile).")
    closing_sizes: list[Annotated[int, Field(ge=1)]] = Field(
        [],
        description="Sides of blocks, map pixels, odd numbers: the mask at the threshold is closed with the first, at "
        "closing_threshold_factor times the threshold with the next, and so on; then holes are filled. Empty: neither "
        "(percentile).",
    )
    closing_threshold_factor: float = Field(
        1.25, ge=1, description="Factor from one of these thresholds to the next (percentile)."
    )

    @field_validator("closing_sizes")
    @classmethod
    def _odd(cls, value: list[int]) -> list[int]:
        if any(side % 2 == 0 for side in value):
            raise ValueError("odd numbers")
        return value


class Refine(Section):
    """From coarse masks and images to final masks."""

    method: Literal["sam", "grabcut", "none"] = Field("sam", description="sam, grabcut (no weights), or none.")
    max_boxes: Count = Field(3, description="Largest components of the coarse mask that become box prompts.")
    multimask: bool = Field(False, description="Join the three masks SAM offers per box instead of taking its one.")
    model: Literal["vit_b", "vit_l", "vit_h"] = Field("vit_h", description="SAM's image encoder.")
    checkpoint: str | None = Field(
        None, description="Path of SAM's checkpoint; null: weights/ and the official file name of the model."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest that SAM's checkpoint must have; null: not checked."
    )
    precision: Precision = Field("float32", description="SAM's arithmetic on a GPU; the CPU always uses float32.")


class ScoreImages(Section):
    """One anomaly score per image."""

    top_fraction: Literal["auto", "own"] | Share = Field(
        "auto",
        description="Fraction of the highest map pixels to average, 0: the maximum. own: the score that the detector "
        "itself gives an image.",
    )


class Rescore(Section):
    """Scores of similar images smoothed over each other (MuSc's RsCIN)."""

    method: Literal["auto", "rscin", "none"] = Field(
        "auto", description="rscin: re-score by the image embeddings. none: keep the scores."
    )
    neighborhood_sizes: Annotated[list[Count], Field(min_length=1)] = Field(
        [1, 2, 3],
        description="Sizes of the neighborhoods, the image included. Published: 1, 2, 3 for MVTec AD and BTAD, "
        "1, 8, 9 for VisA.",
    )
    embeddings: str = Field(
        "own",
        description="Image embeddings that measure similarity: own, the detector's; the name of another run that has "
        "embeddings; or a .npy (N, D) or Parquet file, with {category} and {split} in its path.",
    )


class Evaluate(Section):
    """Metrics, where there is ground truth."""

    resolution: Literal["ground_truth"] | Annotated[int, Field(ge=8)] = Field(
        "ground_truth",
        description="Where pixels are compared: ground_truth, or a side in pixels (518, 256: the papers').",
    )


class Report(Section):
    """The HTML page."""

    images: Count = Field(200, description="Most images shown per detector, category and split.")
    vis: Literal["split", "single"] = Field(
        "split", description="Heatmaps are colored by the range of the whole split, or of each single image."
    )
    compare: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="Other results folders (results/NAME) whose runs are shown beside these, image by image."
    )
