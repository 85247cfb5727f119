"""Evaluate one category and split from its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robis.arrays.float16 import not_finite
from robis.errors import ConfigError, DataError, first_few
from robis.evaluation.counts import PixelCounts, SegmentationCounts, resize_map, resize_mask
from robis.evaluation.metrics import (
    METRICS,
    SETTINGS,
    class_f1,
    curves_table,
    image_metrics,
    pixel_metrics,
    rank_images,
    rank_pixels,
    segmentation_metrics,
    typed,
)
from robis.io.damage import damaged
from robis.io.images import read_mask
from robis.io.maps import read_map, read_written_mask
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, read_samples
from robis.io.tables import read_table, write_table
from robis.io.threads import threaded

GROUND_TRUTH = "ground_truth"
NORMAL, ANOMALOUS = "normal", "anomalous"
SCORE_KINDS = {"sample_id": "text", "rescored": "numbers", "is_anomalous": "yes or no"}


@dataclass(frozen=True)
class SplitFiles:
    """What the stages before have written of one category and split.

    Attributes:
        samples: the sample table.
        root: folder that its paths are relative to.
        maps: folder of anomaly maps, SAMPLE_ID.tiff, float16.
        masks: folder of final masks, SAMPLE_ID.png.
        scores: table of image scores, of which `rescored` is ranked and `is_anomalous` gives class_f1.
    """

    samples: Path
    root: Path
    maps: Path
    masks: Path
    scores: Path


@dataclass(frozen=True)
class EvaluatedRun:
    """Whose metrics they are.

    Attributes:
        detector, category, split: names for the row.
        settings: plain data on what the results were computed with, kept beside the row (`DataFrame.attrs`).
    """

    detector: str
    category: str
    split: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def evaluate_split(
    files: SplitFiles,
    metrics: Path,
    curves: Path,
    run: EvaluatedRun,
    *,
    resolution: str | int = GROUND_TRUTH,
    threads: int = 1,
) -> None:
    """Compute every metric of one category and split, reading each map and mask once.

    What is unknown is left out, and what is undefined is null. Images without a label count in `images` alone, unless
    they have a mask, which then counts in the pixel and seg_* metrics. Where an anomalous image has no mask,
    `defects`, the pixel and the seg_* metrics are null: its pixels are neither. Ignored pixels count in none of these,
    and change no label: an image stays anomalous though its defects lie in them alone. Memory does not grow with the
    number of images, and the result does not depend on `threads`.

    Args:
        files: what is read.
        metrics: table that is written, one row: detector, category, split, images, anomalous_images, defects
            (ground-truth regions at `resolution`) and METRICS in 0..1.
        curves: table that is written, see `curves_table`.
        run: names for the row.
        resolution: "ground_truth" brings each map to its image's size (bilinear, float16 again); a number R brings
            map and ground truth to R x R pixels (bilinear and nearest), as the papers do. The seg_* metrics always
            compare at the ground truth's size, to which the final mask is brought (nearest).
        threads: images read at a time.

    Raises:
        ConfigError: an unknown resolution.
        DataError: a map, mask or score is missing, damaged or not finite, a ground-truth mask is not of its image's
            size, or a normal image's mask has defects.
    """
    _check_resolution(resolution)
    samples = read_samples(files.samples)
    names = [sample.sample_id for sample in samples]
    _require_files(files.maps, names, ".tiff", "anomaly map", "merge")
    _require_files(files.masks, names, ".png", "final mask", "refine")
    scores = _read_scores(files.scores, names)

    anomalous = np.array([sample.label == ANOMALOUS for sample in samples], bool)
    known = anomalous | np.array([sample.label == NORMAL for sample in samples], bool)
    images = rank_images(scores["rescored"].to_numpy(np.float64)[known], anomalous[known])
    flagged = scores["is_anomalous"].to_numpy(bool)
    usable = list(_usable(samples, files))
    counts, segmentation = _count_all(usable, resolution, threads)
    pixels = rank_pixels(counts)

    values = {
        **image_metrics(images),
        **pixel_metrics(pixels),
        **segmentation_metrics(segmentation),
        "class_f1": class_f1(flagged[known], anomalous[known]),
    }
    about = {"detector": run.detector, "category": run.category, "split": run.split, "images": len(samples)}
    totals = {"anomalous_images": int(anomalous.sum()), "defects": counts.regions if usable else None}
    row = about | totals | {name: values[name] for name in METRICS}
    write_table(curves, curves_table(pixels, images))
    table = typed(pd.DataFrame([row]))
    table.attrs[SETTINGS] = dict(run.settings)
    write_table(metrics, table)


def _check_resolution(resolution: str | int) -> None:
    number = isinstance(resolution, int) and not isinstance(resolution, bool) and resolution > 0
    if not number and resolution != GROUND_TRUTH:
        raise ConfigError(
            f"evaluate.resolution: {resolution!r}; expected {GROUND_TRUTH!r} or a side in pixels such as 518."
        )


def _require_files(folder: Path, names: Sequence[str], suffix: str, what: str, stage: str) -> None:
    missing = [f"{name}{suffix}" for name in names if not (folder / f"{name}{suffix}").is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(names)} images have no {what}; expected one {suffix} file per image. "
            f"Make them again with `snakemake --forcerun {stage}`. Missing:\n{first_few(missing)}"
        )


def _read_scores(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """The rows of the score table in the order of `names`."""
    table = read_table(path, stage="score_images", columns=SCORE_KINDS).set_index("sample_id")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()].unique().tolist()
        raise DataError(f"{path}: more than one score for an image; expected one each:\n{first_few(twice)}")
    missing = [name for name in names if name not in table.index]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of the {len(names)} images have no score; expected one each. Make the table "
            f"again with `snakemake --forcerun score_images`. Missing:\n{first_few(missing)}"
        )
    table = table.loc[list(names)]
    finite = np.isfinite(table["rescored"].to_numpy(np.float64, na_value=np.nan))
    if not finite.all():
        broken = table.index[~finite].tolist()
        raise DataError(f"{path}: `rescored` is not a finite number for:\n{first_few(broken)}")
    return table


@dataclass(frozen=True)
class _Compared:
    """One image whose ground truth is known, with its files; `truth` is None where nothing is defective."""

    sample: IndexedSample
    truth: Path | None
    anomaly_map: Path
    final_mask: Path


def _usable(samples: Sequence[IndexedSample], files: SplitFiles) -> Iterator[_Compared]:
    """The images that pixel metrics are computed from: none where an anomalous image has no mask."""
    if any(sample.label == ANOMALOUS and sample.mask is None for sample in samples):
        return
    for sample in samples:
        if sample.mask is not None or sample.label in (NORMAL, ANOMALOUS):
            yield _Compared(
                sample=sample,
                truth=None if sample.mask is None else files.root / sample.mask,
                anomaly_map=files.maps / f"{sample.sample_id}.tiff",
                final_mask=files.masks / f"{sample.sample_id}.png",
            )


def _count_all(
    images: Sequence[_Compared], resolution: str | int, threads: int
) -> tuple[PixelCounts, SegmentationCounts]:
    pixels, segmentation = PixelCounts(), SegmentationCounts()
    counts = threaded(partial(_count, resolution=resolution), images, threads)
    for image_pixels, image_segmentation in tracked(counts, len(images), "images"):
        pixels.merge(image_pixels)
        segmentation += image_segmentation
    return pixels, segmentation


def _count(image: _Compared, resolution: str | int) -> tuple[PixelCounts, SegmentationCounts]:
    truth = _read_truth(image)
    sample = image.sample
    pixels = _count_pixels(image, truth, resolution)
    final = resize_mask(read_written_mask(image.final_mask, stage="refine"), sample.height, sample.width)
    return pixels, SegmentationCounts.of(final, truth, sample.ignored_pixels)


def _count_pixels(image: _Compared, truth: np.ndarray, resolution: str | int) -> PixelCounts:
    sample = image.sample
    anomaly_map = read_map(image.anomaly_map)
    if not anomaly_map.size or not_finite(anomaly_map) is not None:
        raise damaged(image.anomaly_map, "holds no pixels, or NaN or infinite values; expected finite ones", "merge")
    height, width = (sample.height, sample.width) if isinstance(resolution, str) else (resolution, resolution)
    pixels = PixelCounts()
    ignored = sample.ignored_at((height, width))
    pixels.add(resize_map(anomaly_map, height, width), resize_mask(truth, height, width), ignored)
    return pixels


def _read_truth(image: _Compared) -> np.ndarray:
    sample = image.sample
    expected = (sample.height, sample.width)
    if image.truth is None:
        return np.zeros(expected, bool)
    truth = read_mask(image.truth)
    if truth.shape != expected:
        raise DataError(
            f"{image.truth}: the mask is {truth.shape[0]} x {truth.shape[1]} pixels (height x width); "
            f"its image {sample.image} is {expected[0]} x {expected[1]}. Give both the same size."
        )
    if sample.label == NORMAL and truth.any():
        raise DataError(
            f"{image.truth}: {np.count_nonzero(truth)} defect pixels, but {sample.image} is labeled normal; "
            "expected an empty mask or none. Correct the label or the mask."
        )
    return truth
