"""The sections from the encoder to the report: every option, its default, unit and range."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from robis.config.section import Precision, Section
from robis.config.types import BatchSize, Bounds, Digest, Fraction, Text, at_most, larger, odd


class Encoder(Section):
    """The frozen network whose tokens detectors compare."""

    name: Text = Field(
        "auto",
        description="A short name (dinov2_reg_vitb14, efficientnet_lite0, clip_vitl14_336, ...), timm's name of a ViT "
        "or CNN, open_clip's name of a ViT, or the path of an open_clip model config (.json). Detectors that read text "
        "need a CLIP model.",
    )
    weights: Text = Field(
        "auto",
        description="auto: the weights of the installed package (efficientnet_lite0), else those that timm or "
        "open_clip downloads. random: seeded random weights. Otherwise a pretrained tag of open_clip (openai, ...), "
        "or the path of a .safetensors, .pth or .pt file with the key names of timm, DINO, DINOv2, DINOv3 or "
        "open_clip.",
    )
    sha256: Digest | None = Field(None, description="SHA-256 digest that a local weights file must have.")
    input_size: (
        Annotated[int, at_most(4096, "Attention over a larger tile does not fit into the memory of a GPU.", least=14)]
        | None
    ) = Field(
        None,
        description="Side of a tile after resizing, in pixels. null: the encoder's default (518 for DINOv2, 640 for "
        "DINOv3, 256 for CNNs). A ViT needs a multiple of its patch.",
        json_schema_extra=larger("smaller defects are seen; more time and memory"),
    )
    blocks: (
        Annotated[
            list[Annotated[int, at_most(999, "No encoder has 1,000 blocks.", least=0)]],
            Field(min_length=1),
        ]
        | None
    ) = Field(
        None,
        description="Transformer blocks, or stages of a CNN, whose tokens are used, counted from 0, in ascending "
        "order. null: those that the detector was published with (docs/methods.md).",
        json_schema_extra=larger("later blocks know more of objects and less of fine detail"),
    )

    @field_validator("blocks")
    @classmethod
    def _ascend(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and sorted(set(value)) != value:
            raise ValueError("ascending numbers")
        return value


class Infer(Section):
    """From tiles to raw tile maps."""

    batch_size: BatchSize = Field(
        16,
        description="Tiles per forward pass on a GPU. A CPU computes tile by tile.",
        json_schema_extra=larger("faster on a GPU; more memory"),
    )
    precision: Precision = Field(
        "float32", description="Number format of the computation on a GPU. The CPU always uses float32."
    )
    shards: Annotated[int, at_most(1000, "Each shard is a job that loads the model once more.")] = Field(
        1,
        description="Number of jobs that share the inference of one category and split, each on its own GPU. The maps "
        "are identical to the bit. Detectors with short inference ignore it.",
        json_schema_extra=larger("more GPUs work on a split at the same time; the same maps"),
    )


class Merge(Section):
    """From tile maps to one anomaly map per image."""

    scale: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Size of maps and masks as a fraction of the image size.",
        json_schema_extra=larger("finer masks; more time and disk space"),
    )
    blend: Literal["mean", "feather", "central"] = Field(
        "mean",
        description="How overlapping tiles are joined. mean: average (RoBiS). feather: weighted average, highest at "
        "the center of a tile. central: each pixel from the tile whose center is nearest (SuperADD).",
    )
    normalize: Literal["split", "validation", "none"] = Field(
        "split",
        description="Which maps set the range that becomes 0 to 255. split: those of the test split itself "
        "(published). validation: those of the validation split, so that a new image can be judged alone; values above "
        "255 are kept. none: maps keep the detector's values (SuperADD).",
    )


class Binarize(Section):
    """From anomaly maps to coarse masks."""

    method: Literal["robis", "mebin", "mean_std", "rate", "percentile", "lines"] = Field(
        "robis",
        description="How thresholds are found. robis: mebin or mean_std, whichever RoBiS chooses for an image. rate: "
        "at most the fraction `rate` of good images gets a mask, judged by held-out normal images. percentile: a "
        "multiple of a percentile. lines: the same, and masks are closed by lines, filled and eroded as in SuperADD.",
    )
    calibrate: Literal["auto", "split", "validation"] = Field(
        "auto",
        description="Which maps thresholds are taken from. split: the test split itself (published). validation: the "
        "validation split, or training images that are then held out; it also sets the range of the maps. auto: "
        "validation with method rate, else split.",
    )
    rate: Annotated[
        float,
        Bounds(
            "More would flag most good parts. The step in gray levels is binarize.threshold_step.",
            gt=0,
            le=0.5,
        ),
    ] = Field(
        0.01,
        description="Largest fraction of good images that may get a mask (rate).",
        json_schema_extra=larger("fewer missed defects, more false alarms; fewer held-out images suffice"),
    )
    confidence: Annotated[float, Bounds("No number of images makes it certain.", ge=0.5, le=0.9999)] = Field(
        0.95,
        description="Probability that this holds (rate). 1 % at 0.95 takes 299 held-out images, 5 % takes 59.",
        json_schema_extra=larger("a higher threshold; more held-out images are needed"),
    )
    std_factor: Annotated[
        float, Bounds("No map has pixels 1,000 standard deviations above its mean.", ge=0, le=1000)
    ] = Field(
        3.0,
        description="Threshold in standard deviations above the mean (mean_std, robis).",
        json_schema_extra=larger("fewer false alarms, faint defects vanish"),
    )
    threshold_step: Annotated[int, at_most(254, "Maps have gray levels from 0 to 255.")] = Field(
        4,
        description="Gray levels between neighboring thresholds that MEBin tries (mebin, robis).",
        json_schema_extra=larger("faster; the threshold is chosen less finely"),
    )
    min_interval: Annotated[int, at_most(255, "MEBin tries at most 255 thresholds.")] = Field(
        4,
        description="Smallest number of thresholds in a stable interval of MEBin (mebin, robis).",
        json_schema_extra=larger("fewer false alarms, faint defects vanish"),
    )
    erosion_size: Annotated[int, at_most(1000, "A larger block erases every defect.")] = Field(
        6,
        description="Side of the square, or with lines of the ellipse, that erodes masks, in map pixels. 1: no "
        "erosion (mebin, mean_std, robis, rate, lines). Published: 6, by SuperADD 3.",
        json_schema_extra=larger("fewer specks, small defects vanish"),
    )
    percentile: float = Field(
        95.0,
        ge=0,
        le=100,
        description="Percentile of the map pixels that the threshold is based on (percentile, lines).",
        json_schema_extra=larger("fewer false alarms, faint defects vanish"),
    )
    percentile_factor: Annotated[
        float, Bounds("A larger factor puts the threshold above every pixel.", gt=0, le=1000)
    ] = Field(
        1.421,
        description="Factor that turns this percentile into the threshold (percentile, lines).",
        json_schema_extra=larger("fewer false alarms, faint defects vanish"),
    )
    closing_sizes: Annotated[
        list[Annotated[int, at_most(999, "A larger block joins all that is in the map.")]], Field(max_length=20)
    ] = Field(
        [],
        description="Sides of the squares that close masks, in map pixels, odd numbers (percentile). The mask at the "
        "threshold is closed with the first, the mask at closing_threshold_factor times the threshold with the second, "
        "and so on; then holes are filled. Empty: no closing, no filling.",
        json_schema_extra=larger("wider gaps are closed, neighboring defects join"),
    )
    closing_threshold_factor: Annotated[
        float, Bounds("A larger factor puts the next threshold above every pixel.", ge=1, le=10)
    ] = Field(
        1.25,
        description="Ratio of successive thresholds in closing_sizes (percentile).",
        json_schema_extra=larger("fewer pixels are closed with the later sizes"),
    )
    line_reach: Annotated[int, at_most(499, "A longer line joins all that is in the map.")] = Field(
        26,
        description="Half the length of the lines that close gaps in masks, in map pixels (lines).",
        json_schema_extra=larger("wider gaps are closed, neighboring defects join"),
    )
    line_angles: Annotated[int, at_most(180, "Closer angles draw the same lines.")] = Field(
        16,
        description="Number of directions of these lines, evenly spread over 180 degrees (lines).",
        json_schema_extra=larger("gaps of more directions are closed; more time"),
    )
    line_threshold_factor: Fraction = Field(
        0.8,
        description="Fraction of the threshold that a pixel must exceed to be closed by a line (lines).",
        json_schema_extra=larger("fewer pixels are closed"),
    )

    @field_validator("closing_sizes")
    @classmethod
    def _odd(cls, value: list[int]) -> list[int]:
        return odd(value)


class Refine(Section):
    """From coarse masks and images to final masks."""

    method: Literal["sam", "grabcut", "none"] = Field(
        "sam", description="How coarse masks are refined: by SAM, by GrabCut (needs no weights), or not at all."
    )
    max_boxes: Annotated[int, at_most(1000, "SAM or GrabCut runs once per box.")] = Field(
        3,
        description="Number of components of the coarse mask, the largest first, that become box prompts; the "
        "others are dropped.",
        json_schema_extra=larger("more regions of an image stay in its final mask; more time"),
    )
    multimask: bool = Field(
        False, description="Whether to join the three masks that SAM proposes per box instead of taking its single one."
    )
    model: Literal["vit_b", "vit_l", "vit_h"] = Field("vit_h", description="Image encoder of SAM.")
    checkpoint: Text | None = Field(
        None, description="Path of the SAM checkpoint. null: the official file name in the folder weights/."
    )
    sha256: Digest | None = Field(None, description="SHA-256 digest that the SAM checkpoint must have.")
    precision: Precision = Field(
        "float32", description="Number format of SAM's computation on a GPU. The CPU always uses float32."
    )


class ScoreImages(Section):
    """One anomaly score per image."""

    top_fraction: Literal["auto", "own"] | Fraction = Field(
        "auto",
        description="Fraction of the map pixels, the highest, whose mean is the image score. 0: the maximum. own: the "
        "score that the detector computes itself.",
        json_schema_extra=larger("large defects count more, a single bright spot counts less"),
    )


class Verdict(Section):
    """Which images are judged anomalous. Metrics depend on it only where `normal_masks` is empty."""

    limit: Literal["auto", "validation", "none"] = Field(
        "auto",
        description="Where the limit of the image scores comes from. validation: from normal images that no model has "
        "seen, those of the validation split, or a tenth of the training images, which is then held out. none: there "
        "is no limit; an image is judged anomalous if its final mask is not empty. auto: validation where validation "
        "images exist or other options hold some out, else none.",
    )
    allowed_false_alarms: Annotated[float, Bounds("More would put the limit below every good image.", ge=0, le=0.5)] = (
        Field(
            0.0,
            description="Fraction of these normal images that may score above the limit. 0: the limit is their highest "
            "score.",
            json_schema_extra=larger("fewer missed defects, more false alarms"),
        )
    )
    normal_masks: Literal["keep", "empty"] = Field(
        "keep",
        description="Final masks of images judged normal by the limit. keep: as they are; the report shows them as "
        "judged normal. empty: without a pixel, for metrics and the submission too.",
    )


class Rescore(Section):
    """Image scores smoothed over similar images (RsCIN in MuSc)."""

    method: Literal["auto", "rscin", "none"] = Field(
        "auto", description="rscin: smooth scores over images with similar embeddings. none: keep the scores."
    )
    neighborhood_sizes: Annotated[
        list[Annotated[int, at_most(1_000_000, "A neighborhood has at most as many images as the split.")]],
        Field(min_length=1),
    ] = Field(
        [1, 2, 3],
        description="Numbers of images in a neighborhood, the image itself included; results are averaged over them. "
        "Published: 1, 2, 3 for MVTec AD and BTAD, 1, 8, 9 for VisA.",
        json_schema_extra=larger("the scores of more similar images are averaged"),
    )
    embeddings: Text = Field(
        "own",
        description="Image embeddings that measure similarity. own: those of the detector. Otherwise the name of "
        "another run that has embeddings, or the path of a .npy (N, D) or Parquet file; {category} and {split} in it "
        "are replaced.",
    )


class Evaluate(Section):
    """Metrics, where there is ground truth."""

    resolution: (
        Literal["ground_truth"]
        | Annotated[int, at_most(16384, "A larger map takes more than 1 GB of memory.", least=8)]
    ) = Field(
        "ground_truth",
        description="Resolution at which pixels are compared: that of the ground truth, or the side of a square in "
        "pixels (518 and 256 in publications).",
        json_schema_extra=larger("a finer comparison; more time"),
    )


class Packs(Section):
    """Frozen models for `robis inspect` (target `packs`)."""

    checked_images: Annotated[int, at_most(1_000_000, "A split has at most as many images.", least=0)] = Field(
        24,
        description="Number of images of the labeled split that each pack inspects and compares with the run's masks. "
        "0: none.",
        json_schema_extra=larger("a more thorough comparison; more time"),
    )


class Report(Section):
    """The HTML report."""

    max_images: Annotated[int, at_most(10_000, "Browsers cannot show a page with more images.")] = Field(
        200,
        description="Largest number of images shown per detector, category and split.",
        json_schema_extra=larger("more images on the page; a larger folder"),
    )
    heatmap_range: Literal["split", "single"] = Field(
        "split", description="Values that the colors of a heatmap span: those of the whole split, or of each image."
    )
    overlays: bool = Field(
        False, description="Whether to write each image with the outline of its final mask, below report/overlays/."
    )
    packs: bool = Field(
        False,
        description="Whether to say if the masks of each run's pack equal the run's. The report then makes packs.",
    )
    detectability: bool = Field(
        False,
        description="Whether to show which sizes of synthetic defects each run finds. The report then makes packs and "
        "measures that.",
    )
    audit: bool = Field(
        False,
        description="Whether to show defects, copies and odd images among the good ones. The report then makes the "
        "audit of each category.",
    )
    evidence: bool = Field(
        False,
        description="Whether to show why regions were marked: the most similar normal patches (memory banks), or how "
        "badly tokens are rebuilt (reconstruction). Tiles with regions are then encoded again.",
    )
    clusters: bool = Field(
        False,
        description="Whether to show which marked regions are alike, sorted into clusters with examples. Tiles with "
        "regions are then encoded again, as for evidence; sorting takes seconds per category.",
    )
    cluster_count: Literal["auto"] | Annotated[int, at_most(100, "A report shows no more clusters.")] = Field(
        "auto",
        description="Number of these clusters per run and category. auto: the number up to 12 that separates them "
        "best, or a single cluster where none does.",
        json_schema_extra=larger("smaller clusters of regions that are more alike"),
    )
    compare: list[Text] = Field(
        [], description="Other results folders (results/NAME) whose runs are shown next to these, image by image."
    )
