"""What a review changes: labels, training images and masks of the sample table for the next run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robis.config.settings import SharedSettings
from robis.datasets.samples import ANOMALOUS, LEARNED, Source
from robis.errors import DataError, first_few
from robis.evaluation.counts import resize_mask
from robis.io.atomic import atomic_folder
from robis.io.images import image_size
from robis.io.maps import read_written_mask
from robis.workflow import results
from robis.workflow.sample_table import Row, all_rows, dataset_options, source_of, write_mask_of, write_table
from robis.workflow.verdict_files import Box, Decisions, Image, Regions, Verdict, decide, read_verdicts

TRAIN = "train"
SLACK = 2  # pixels by which a region's box may differ: the report's are of the mask before it is enlarged


@dataclass(frozen=True)
class Review:
    """What a review changes.

    Attributes:
        rows: the new table; masks that are still to be written are missing.
        good, defective: images whose label the review sets or confirms.
        masks: image -> judged regions of the run whose final mask becomes its ground truth.
        joined: images that join the training images.
        changed: (category, split) -> number of images whose label or mask changes.
        open: image -> why nothing follows, in words.
    """

    rows: Mapping[Image, Row]
    good: Sequence[Image]
    defective: Sequence[Image]
    masks: Mapping[Image, Regions]
    joined: Sequence[Image]
    changed: Mapping[tuple[str, str], int]
    open: Mapping[Image, str]


def plan_review(
    paths: Sequence[Path], settings: SharedSettings, *, masks_of: str | None = None, to_train: bool = False
) -> Review:
    """Work out what a review changes; writes nothing.

    Args:
        paths: files of verdicts, one per reviewer.
        settings: whose `dataset` has the images.
        masks_of: run whose final masks become ground truth of images that are judged defective; None: labels alone.
        to_train: whether good images join the training images of their category.

    Raises:
        DataError: a file cannot be read, or names images that the data set does not inspect.
    """
    verdicts = [verdict for path in paths for verdict in read_verdicts(path)]
    rows = {(row.category, row.split, row.sample.sample_id): row for row in all_rows(source_of(settings))}
    _check_known(verdicts, rows)
    decisions = decide(verdicts)
    masks = _masks(decisions, rows, masks_of) if masks_of else {}
    _leave_out(decisions, rows, masks)
    changed = {image: rows[image].good() for image in decisions.good}
    changed |= {image: _defective(rows[image]) for image in decisions.defective}
    different = Counter(image[:2] for image, row in changed.items() if row != rows[image] or image in masks)
    joined = decisions.good if to_train else []
    changed |= {image: _in_train(changed[image]) for image in joined}
    return Review(rows | changed, decisions.good, list(decisions.defective), masks, joined, different, decisions.open)


def _check_known(verdicts: Sequence[Verdict], rows: Mapping[Image, Row]) -> None:
    unknown = [verdict for verdict in verdicts if verdict.image not in rows or verdict.image[1] in LEARNED]
    if unknown:
        lines = [f"{verdict.place}: {'/'.join(verdict.image)}" for verdict in unknown]
        count = "1 verdict is" if len(unknown) == 1 else f"{len(unknown)} verdicts are"
        raise DataError(
            f"{count} on images that the config's data set does not inspect. Give the config of the report that was "
            f"reviewed.\n{first_few(lines)}"
        )


def _masks(decisions: Decisions, rows: Mapping[Image, Row], run: str) -> dict[Image, Regions]:
    """The regions of a run that become masks, for defective images without one."""
    masks = {}
    for image, regions in list(decisions.defective.items()):
        if rows[image].sample.mask is not None:
            continue
        if regions and run not in regions:
            decisions.open[image] = f"its regions are judged in {' and '.join(regions)}, not in {run}"
            del decisions.defective[image]
        else:
            masks[image] = regions.get(run, Regions())
    return masks


def _leave_out(decisions: Decisions, rows: Mapping[Image, Row], masks: Collection[Image]) -> None:
    """Leave images without a mask open where others have one: a split has masks of all defective images or of none."""
    with_masks = {image[:2] for image in masks}
    with_masks |= {image[:2] for image, row in rows.items() if row.sample.label == ANOMALOUS and row.sample.mask}
    for image in list(decisions.defective):
        if image[:2] in with_masks and image not in masks and rows[image].sample.mask is None:
            decisions.open[image] = "needs a mask, since other defective images of its split have one"
            del decisions.defective[image]


def _defective(row: Row) -> Row:
    """The name of a defect stays; an image that counted as good has none."""
    defect = row.sample.defect if row.sample.label == ANOMALOUS else None
    return row.defective(defect, row.sample.mask if row.sample.label == ANOMALOUS else None)


def _in_train(row: Row) -> Row:
    # The split keeps the name apart from those of training images.
    return replace(row, split=TRAIN, sample=replace(row.sample, sample_id=f"{row.split}/{row.sample.sample_id}"))


def apply_review(review: Review, settings: SharedSettings, out: Path, *, masks_of: str | None = None) -> dict[str, Any]:
    """Write the table of a review, and masks where it takes some from a run; the options of `dataset` that use it.

    Raises DataError: the folder exists, a final mask is missing or empty, or a region is no longer in it.
    """
    if out.exists():
        raise DataError(f"{out}: exists already. Give another folder with --out.")
    source = source_of(settings)
    with atomic_folder(out) as scratch:
        rows = dict(review.rows)
        for image, regions in review.masks.items():
            file = _final_mask(settings, str(masks_of), image)
            mask = _ground_truth(file, regions, rows[image], source)
            path = write_mask_of(rows[image], mask, scratch, out, source)
            rows[image] = rows[image].defective(rows[image].sample.defect, path)
        write_table(scratch, rows.values(), "the verdicts")
    return dataset_options(out, source)


def _final_mask(settings: SharedSettings, run: str, image: Image) -> Path:
    category, split, sample_id = image
    folder = Path(results.FOLDER, settings.dataset.name)
    return results.place(results.MASKS, folder, detector=run, category=category, split=split) / f"{sample_id}.png"


def _ground_truth(file: Path, regions: Regions, row: Row, source: Source) -> np.ndarray:
    """Of a final mask at the image's size, the regions judged to be defects; without any, all but false alarms."""
    size = image_size(source.root / row.sample.image)
    mask = resize_mask(read_written_mask(file, stage="refine"), *size)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if regions.defects:
        judged: np.ndarray = np.isin(labels, [_label_at(box, stats, file) for box in regions.defects])
    else:
        judged = mask & ~np.isin(labels, [_label_at(box, stats, file) for box in regions.false_alarms])
    if not judged.any():
        raise DataError(f"{file}: marks nothing, though the image is judged defective. Draw its mask by hand.")
    return judged


def _label_at(box: Box, stats: np.ndarray, file: Path) -> int:
    fits = np.flatnonzero((np.abs(stats[1:, :4] - np.array(box)) <= SLACK).all(axis=1))
    if not len(fits):
        raise DataError(f"{file}: has no region at {box}. Review a report of the present results.")
    # Specks beside each other: the nearest.
    distances = np.abs(stats[1 + fits, :4] - np.array(box)).sum(axis=1)
    return 1 + int(fits[distances.argmin()])
