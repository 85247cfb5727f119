"""What a review changes: labels, training images and masks of the sample table for the next run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from robis.config.settings import SharedSettings
from robis.datasets.allowed import COLUMNS, Allowed, read_allowed
from robis.datasets.layouts import list_categories
from robis.datasets.samples import ANOMALOUS, LEARNED, Source
from robis.errors import DataError, first_few, one_of
from robis.io.atomic import atomic_folder
from robis.io.images import image_size, read_mask
from robis.io.maps import write_mask
from robis.io.names import composed, expanded
from robis.io.tables import write_csv
from robis.workflow.review_masks import FinalMask, has_masks
from robis.workflow.runs import effective, runs_of
from robis.workflow.sample_table import (
    Row,
    all_rows,
    dataset_options,
    source_of,
    without_mask,
    write_mask_of,
    write_table,
)
from robis.workflow.verdict_files import Box, Decisions, Image, Regions, Verdict, decide, read_verdicts

TRAIN = "train"
ALLOWED, ALLOWED_MASKS = "allowed.csv", "allowed"


@dataclass(frozen=True)
class Wishes:
    """What else a review is to change besides labels.

    Attributes:
        masks_of: run whose final masks become ground truth of images that are judged defective; None: no masks.
        to_train: whether good images join the training images of their category.
        allow_of: run with a memory bank, to which its false alarms count as normal; None: none.
    """

    masks_of: str | None = None
    to_train: bool = False
    allow_of: str | None = None


@dataclass(frozen=True)
class Review:
    """What a review changes.

    Attributes:
        rows: the new table; masks that are still to be written are missing.
        good, defective: images whose label the review sets or confirms.
        masks: image -> judged regions of the run whose final mask becomes its ground truth.
        joined: images that join the training images.
        allowed: image -> number of regions that count as normal, and which; None: all.
        changed: (category, split) -> number of images whose label or mask changes.
        open: image -> why its label stays, in words.
    """

    rows: Mapping[Image, Row]
    good: Sequence[Image]
    defective: Sequence[Image]
    masks: Mapping[Image, Regions]
    joined: Sequence[Image]
    allowed: Mapping[Image, tuple[int, Sequence[Box] | None]]
    changed: Mapping[tuple[str, str], int]
    open: Mapping[Image, str]


def plan_review(paths: Sequence[Path], settings: SharedSettings, wishes: Wishes) -> Review:
    """Work out what a review changes; writes nothing.

    Args:
        paths: files of verdicts, one per reviewer.
        settings: whose `dataset` has the images.
        wishes: what is to change besides labels.

    Raises:
        DataError: a file cannot be read, names images that the data set does not inspect, or regions that are no more.
    """
    verdicts = [verdict for path in paths for verdict in read_verdicts(path)]
    source = source_of(settings)
    rows = {(row.category, row.split, row.sample.sample_id): row for row in all_rows(source)}
    _check_known(verdicts, rows)
    decisions = decide(verdicts)
    masks = _masks(decisions, rows, settings, wishes.masks_of) if wishes.masks_of else {}
    _leave_out(decisions, rows, masks)
    allowed = _allowed(decisions, settings, wishes.allow_of, rows, source) if wishes.allow_of else {}
    changed = {image: rows[image].good() for image in decisions.good}
    changed |= {image: _defective(rows[image]) for image in decisions.defective}
    different = Counter(image[:2] for image, row in changed.items() if row != rows[image] or image in masks)
    for row in without_mask((rows | changed).values(), masks):
        reason = "is labeled defective and needs a mask, since other defective images of its split have one"
        decisions.open.setdefault((row.category, row.split, row.sample.sample_id), reason)
    joined = decisions.good if wishes.to_train else []
    _check_left(joined, rows)
    changed |= {image: _in_train(changed[image]) for image in joined}
    return Review(
        rows | changed, decisions.good, decisions.defective, masks, joined, allowed, different, decisions.open
    )


def _check_known(verdicts: Sequence[Verdict], rows: Mapping[Image, Row]) -> None:
    unknown = [verdict for verdict in verdicts if verdict.image not in rows or verdict.image[1] in LEARNED]
    if unknown:
        lines = [f"{verdict.place}: {'/'.join(verdict.image)}" for verdict in unknown]
        count = "1 verdict is" if len(unknown) == 1 else f"{len(unknown)} verdicts are"
        raise DataError(
            f"{count} on images that the config's data set does not inspect. Give the config of the report that was "
            f"reviewed.\n{first_few(lines)}"
        )


def _check_left(joined: Sequence[Image], rows: Collection[Image]) -> None:
    """Raise DataError where all images of a split join the training images: no run accepts an empty split."""
    left = {image[:2] for image in set(rows) - set(joined)}
    if empty := sorted({"/".join(image[:2]) for image in joined if image[:2] not in left}):
        raise DataError(
            f"--to-train: all images of {' and '.join(empty)} are judged good, so that none is left to inspect. Take "
            f"the verdicts on some of them out of the file, or leave --to-train out."
        )


def _masks(decisions: Decisions, rows: Mapping[Image, Row], settings: SharedSettings, run: str) -> dict[Image, Regions]:
    """The regions of a run that become masks, for defective images without one."""
    if run not in (runs := list(runs_of(settings))) and not has_masks(settings, run):
        raise DataError(f"--masks: found {run!r}; expected a run with final masks. {one_of(run, runs)}")
    masks = {}
    for image in list(decisions.defective):
        regions = decisions.regions[image]
        if rows[image].sample.mask is not None:
            continue
        if regions and run not in regions:
            decisions.open[image] = f"its regions are judged in {' and '.join(regions)}, not in {run}"
            decisions.defective.remove(image)
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
            decisions.defective.remove(image)


def _allowed(
    decisions: Decisions, settings: SharedSettings, run: str, rows: Mapping[Image, Row], source: Source
) -> dict[Image, tuple[int, Sequence[Box] | None]]:
    """The false alarms of a run: all regions of good images, and regions that are judged to be one."""
    allow_key(settings, run)
    allowed: dict[Image, tuple[int, Sequence[Box] | None]] = {}
    for image, regions in decisions.regions.items():
        boxes = None if image in decisions.good else regions.get(run, Regions()).false_alarms
        if boxes == []:
            continue
        mask = FinalMask(settings, run, image, _size(rows[image], source))
        # Raises for a region that is no longer there.
        mask.of(boxes or [])
        if count := mask.count if boxes is None else len(boxes):
            allowed[image] = (count, boxes)
    return allowed


def allow_key(settings: SharedSettings, run: str) -> str:
    """The key of the table of regions that count as normal. Raises DataError: the run has no memory bank."""
    keys = {name: of_run.detector.allow_key for name, of_run in runs_of(settings).items()}
    if key := keys.get(run):
        return key
    having = [name for name, key in keys.items() if key]
    raise DataError(
        f"--allow: found {run!r}; expected a run with a memory bank. "
        + (f"Of this config: {', '.join(having)}." if having else "This config has none.")
    )


def _size(row: Row, source: Source) -> tuple[int, int]:
    return image_size(source.root / row.sample.image)


def _defective(row: Row) -> Row:
    """The name of a defect stays; an image that counted as good has none."""
    defect = row.sample.defect if row.sample.label == ANOMALOUS else None
    return row.defective(defect, row.sample.mask if row.sample.label == ANOMALOUS else None)


def _in_train(row: Row) -> Row:
    # The split keeps the name apart from those of training images.
    return replace(row, split=TRAIN, sample=replace(row.sample, sample_id=f"{row.split}/{row.sample.sample_id}"))


def apply_review(review: Review, settings: SharedSettings, out: Path, wishes: Wishes) -> dict[str, Any]:
    """Write the table of a review, and what its wishes take from the masks of a run; the options that use it.

    Returns:
        Sections of a config: `dataset`, and the detector's where regions count as normal.

    Raises:
        DataError: the folder exists, a final mask is missing or empty, or a region is no longer in it.
    """
    if out.exists():
        raise DataError(f"{out}: exists already. Give another folder with --out.")
    source = source_of(settings)
    with atomic_folder(out) as scratch:
        rows = dict(review.rows)
        for image, regions in review.masks.items():
            mask = FinalMask(settings, str(wishes.masks_of), image, _size(rows[image], source)).ground_truth(regions)
            path = write_mask_of(rows[image], mask, scratch, out, source)
            rows[image] = rows[image].defective(rows[image].sample.defect, path)
        write_table(scratch, rows.values(), "the verdicts")
        if review.allowed:
            _write_allowed(review, settings, str(wishes.allow_of), scratch)
    options: dict[str, Any] = {"dataset": dataset_options(out, source)}
    if review.allowed:
        section, _, name = allow_key(settings, str(wishes.allow_of)).rpartition(".")
        options[section] = {name: str(out / ALLOWED)}
    return options


def _write_allowed(review: Review, settings: SharedSettings, run: str, folder: Path) -> None:
    """Write the table of regions that count as normal: those of the config, and those of the review."""
    source = source_of(settings)
    masks = {(row.category, row.image): read_mask(row.mask) for row in _allowed_before(settings, run)}
    for image, (_, boxes) in review.allowed.items():
        row = review.rows[image]
        final = FinalMask(settings, run, image, _size(row, source))
        marked = final.pixels if boxes is None else final.of(boxes)
        place = row.category, composed(row.sample.image)
        if place in masks and masks[place].shape != marked.shape:
            raise DataError(f"{allow_key(settings, run)}: the mask of {place[1]} has another size than the image.")
        masks[place] = masks[place] | marked if place in masks else marked
    lines: list[tuple[str, str, str]] = []
    for (category, path), mask in sorted(masks.items()):
        file = Path(ALLOWED_MASKS, category, f"{len(lines):04d}.png")
        write_mask(folder / file, mask)
        lines.append((category, path, file.as_posix()))
    write_csv(folder / ALLOWED, pd.DataFrame(lines, columns=list(COLUMNS)))


def _allowed_before(settings: SharedSettings, run: str) -> list[Allowed]:
    """The regions that count as normal already, of every category."""
    key = allow_key(settings, run)
    rows = []
    for category in list_categories(source_of(settings)):
        table = effective(settings, detector=run, category=category).get(key)
        if table:
            rows += [row for row in read_allowed(expanded(table), key) if row.category == category]
    return rows
