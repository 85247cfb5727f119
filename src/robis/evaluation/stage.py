"""Evaluate one category and split from its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from robis.arrays.float16 import value_range
from robis.errors import ConfigError, DataError, first_few
from robis.evaluation.counts import PixelCounts, SegmentationCounts, resize_map, resize_mask
from robis.evaluation.metrics import (
    METRICS,
    class_f1,
    curves_table,
    image_metrics,
    pixel_metrics,
    rank_images,
    rank_pixels,
    segmentation_metrics,
    typed,
)
from robis.io.images import read_mask
from robis.io.maps import read_map
from robis.io.tables import read_table, write_table
from robis.io.threads import threaded

GROUND_TRUTH = "ground_truth"
NORMAL, ANOMALOUS = "normal", "anomalous"
SAMPLE_COLUMNS = ("sample_id", "image", "label", "mask", "height", "width")
SCORE_COLUMNS = ("sample_id", "rescored", "is_anomalous")


@dataclass(frozen=True)
class _Sample:
    """One image whose ground truth is known, with its files; `truth` is None where nothing is defective."""

    name: str
    normal: bool
    truth: Path | None
    anomaly_map: Path
    final_mask: Path
    height: int
    width: int


def evaluate_split(
    samples: Path,
    root: Path,
    maps: Path,
    masks: Path,
    scores: Path,
    metrics: Path,
    curves: Path,
    *,
    category: str,
    split: str,
    detector: str,
    resolution: str | int = GROUND_TRUTH,
    threads: int = 1,
) -> None:
    """Compute every metric of one category and split, reading each map and mask once.

    samples: the sample table; root: the folder its paths start from. maps, masks: folders with
    `{sample_id}.tiff` (float16 anomaly maps) and `{sample_id}.png` (final masks). scores: the image scores,
    of which `rescored` is ranked and `is_anomalous` gives class_f1.

    resolution: "ground_truth" brings each map to its image's size (bilinear, float16 again); a number R
    brings map and ground truth to R x R pixels (bilinear and nearest), as the papers do. The seg_* metrics
    always compare at the ground truth's size, to which the final mask is brought (nearest).

    metrics: one row: detector, category, split, images, anomalous_images, defects (ground-truth regions at
    `resolution`) and METRICS in 0..1. curves: as `curves_table`.

    What is unknown is left out, and what is undefined is null. Images without a label count in `images`
    alone, unless they have a mask, which then counts in the pixel and seg_* metrics. Where an anomalous
    image has no mask, `defects`, the pixel and the seg_* metrics are null: its pixels are neither.

    Memory does not grow with the number of images, and the result does not depend on `threads`.

    Raises ConfigError for an unknown resolution; DataError where a map, mask or score is missing or not
    finite, a ground-truth mask is not of its image's size, or a normal image's mask has defects.
    """
    _check_resolution(resolution)
    table = _read_columns(samples, SAMPLE_COLUMNS)
    names = table["sample_id"].astype(str).tolist()
    _require_files(maps, names, ".tiff", "anomaly map", split)
    _require_files(masks, names, ".png", "final mask", split)
    image_scores = _read_scores(scores, names)

    label = table["label"].astype(object)
    anomalous = (label == ANOMALOUS).to_numpy(bool)
    known = anomalous | (label == NORMAL).to_numpy(bool)
    ranked_images = rank_images(image_scores["rescored"].to_numpy(np.float64)[known], anomalous[known])
    found = image_scores["is_anomalous"].to_numpy(bool)

    pixels, segmentation = PixelCounts(), SegmentationCounts()
    has_mask = table["mask"].notna().to_numpy(bool)
    complete = bool(np.all(has_mask[anomalous]))
    usable = list(_samples(table[known | has_mask], root, maps, masks)) if complete else []
    count = partial(_count, resolution=resolution)
    for image_pixels, image_segmentation in threaded(count, usable, threads):
        pixels.merge(image_pixels)
        segmentation += image_segmentation
    ranked_pixels = rank_pixels(pixels)

    values: dict[str, float | None] = {
        **image_metrics(ranked_images),
        **pixel_metrics(ranked_pixels),
        **segmentation_metrics(segmentation),
        "class_f1": class_f1(found[known], anomalous[known]),
    }
    row = {
        "detector": detector,
        "category": category,
        "split": split,
        "images": len(table),
        "anomalous_images": int(anomalous.sum()),
        "defects": pixels.regions if usable else None,
        **{name: values[name] for name in METRICS},
    }
    write_table(curves, curves_table(ranked_pixels, ranked_images))
    write_table(metrics, typed(pd.DataFrame([row])))


def _check_resolution(resolution: str | int) -> None:
    number = isinstance(resolution, int) and not isinstance(resolution, bool) and resolution > 0
    if not number and resolution != GROUND_TRUTH:
        raise ConfigError(
            f"evaluate.resolution: {resolution!r}; expected {GROUND_TRUTH!r} or a side in pixels such as 518."
        )


def _read_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    table = read_table(path)
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; found {', '.join(map(str, table))}. Make it again.")
    return table


def _require_files(folder: Path, names: Sequence[str], suffix: str, what: str, split: str) -> None:
    missing = [name for name in names if not (folder / f"{name}{suffix}").is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of the {len(names)} images of {split} have no {what}; expected one "
            f"{suffix} file per image. Make that folder again. Missing:\n"
            + first_few([f"{name}{suffix}" for name in missing])
        )


def _read_scores(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """The rows of the score table in the order of `names`."""
    table = _read_columns(path, SCORE_COLUMNS).set_index("sample_id")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()].unique().tolist()
        raise DataError(f"{path}: more than one score for an image; expected one each:\n{first_few(twice)}")
    missing = [name for name in names if name not in table.index]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of the {len(names)} images have no score; expected one each. "
            f"Make the table again. Missing:\n{first_few(missing)}"
        )
    table = table.loc[list(names)]
    finite = np.isfinite(table["rescored"].to_numpy(np.float64, na_value=np.nan))
    if not finite.all():
        broken = table.index[~finite].tolist()
        raise DataError(f"{path}: `rescored` is not a finite number for:\n{first_few(broken)}")
    return table


def _samples(table: pd.DataFrame, root: Path, maps: Path, masks: Path) -> Iterator[_Sample]:
    for row in table.to_dict("records"):
        name = str(row["sample_id"])
        yield _Sample(
            name=str(row["image"]),
            normal=row["label"] == NORMAL,
            truth=None if pd.isna(row["mask"]) else root / row["mask"],
            anomaly_map=maps / f"{name}.tiff",
            final_mask=masks / f"{name}.png",
            height=int(row["height"]),
            width=int(row["width"]),
        )


def _count(sample: _Sample, resolution: str | int) -> tuple[PixelCounts, SegmentationCounts]:
    truth = _read_truth(sample)
    final = resize_mask(read_mask(sample.final_mask), sample.height, sample.width)
    anomaly_map = read_map(sample.anomaly_map)
    if anomaly_map.size and not np.isfinite(value_range(anomaly_map)).all():
        raise DataError(
            f"{sample.anomaly_map}: holds NaN or infinite values; expected finite ones. Make the map again."
        )
    height, width = (sample.height, sample.width) if isinstance(resolution, str) else (resolution, resolution)
    pixels = PixelCounts()
    pixels.add(resize_map(anomaly_map, height, width), resize_mask(truth, height, width))
    return pixels, SegmentationCounts.of(final, truth)


def _read_truth(sample: _Sample) -> np.ndarray:
    expected = (sample.height, sample.width)
    if sample.truth is None:
        return np.zeros(expected, bool)
    truth = read_mask(sample.truth)
    if truth.shape != expected:
        raise DataError(
            f"{sample.truth}: the mask is {truth.shape[0]} x {truth.shape[1]} pixels (height x width); "
            f"its image {sample.name} is {expected[0]} x {expected[1]}. Give both the same size."
        )
    if sample.normal and truth.any():
        raise DataError(
            f"{sample.truth}: {np.count_nonzero(truth)} defect pixels, but {sample.name} is labeled normal; "
            "expected an empty mask or none. Correct the label or the mask."
        )
    return truth
