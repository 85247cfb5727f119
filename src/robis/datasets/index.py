"""The sample table of one category and split, checked file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from robis.datasets import problems
from robis.datasets.layouts import LAYOUTS, list_samples
from robis.datasets.problems import Problem, grouped
from robis.datasets.samples import ANOMALOUS, NORMAL, Sample, Source
from robis.errors import DataError
from robis.io.images import image_size, read_mask
from robis.io.samples import IndexedSample, write_samples
from robis.io.threads import threaded


@dataclass(frozen=True)
class Checked:
    """What was found in a sample's files.

    Attributes:
        height, width: size of the image in pixels, as it is shown; 0 where it cannot be read.
        defect_share: share of the mask's pixels that are defective; None without a usable mask.
        problem: why the sample cannot be used.
    """

    height: int = 0
    width: int = 0
    defect_share: float | None = None
    problem: Problem | None = None


def index_split(
    samples: Path,
    *,
    layout: str,
    root: Path,
    category: str,
    split: str,
    table: str | None = None,
    allow_outside_root: bool = False,
    hold_out: bool = False,
    threads: int = 1,
) -> None:
    """Write the sample table of one split.

    Args:
        samples: the table to write.
        layout, root, table, allow_outside_root: the data set, as in `Source`.
        category, split: which images.
        hold_out: as in `list_samples`.
        threads: files opened at the same time.

    Raises DataError that lists every image that cannot be read and every mask that is missing,
    unreadable, of another size than its image, or at odds with the image's label.
    """
    source = Source(layout, root, table, allow_outside_root)
    found = list_samples(source, category, split, hold_out=hold_out)
    if not found:
        raise DataError(nothing_found(source, category, split))
    checked = check_samples(source, category, found, threads=threads)
    if wrong := [one.problem for one in checked if one.problem]:
        raise DataError(
            f"{category}/{split}: {len(wrong)} of {len(found)} samples cannot be used:\n{grouped(wrong)}\n"
            f"`robis data check` lists the same for all categories and splits at once."
        )
    write_samples(
        samples,
        [
            IndexedSample(split=split, height=one.height, width=one.width, **asdict(sample))
            for sample, one in zip(found, checked, strict=True)
        ],
    )


def check_samples(source: Source, category: str, samples: Sequence[Sample], *, threads: int = 1) -> list[Checked]:
    """Open every image of a split as far as its size, and decode every mask; in the order of the samples."""
    masks_exist = LAYOUTS[source.layout].has_masks(source, category, samples)
    checked = threaded(lambda sample: _check(sample, source.root, masks_exist), samples, threads)
    return list(tqdm(checked, total=len(samples), desc="index", unit="image", disable=None))


def _check(sample: Sample, root: Path, masks_exist: bool) -> Checked:
    try:
        height, width = image_size(root / sample.image)
    except DataError as error:
        return Checked(problem=Problem(problems.UNREADABLE_IMAGE, str(error)))
    if sample.mask is None:
        missing = sample.label == ANOMALOUS and masks_exist
        problem = Problem(problems.MISSING_MASK, str(root / sample.image)) if missing else None
        return Checked(height, width, problem=problem)
    path = root / sample.mask
    try:
        mask = read_mask(path)
    except DataError as error:
        return Checked(height, width, problem=Problem(problems.UNREADABLE_MASK, str(error)))
    if mask.shape != (height, width):
        text = f"{path}: {mask.shape[1]} x {mask.shape[0]} pixels; the image has {width} x {height}"
        return Checked(height, width, problem=Problem(problems.MASK_SIZE, text))
    share = float(np.count_nonzero(mask)) / mask.size
    if share == 0 and sample.label == ANOMALOUS:
        return Checked(height, width, problem=Problem(problems.EMPTY_MASK, str(path)))
    if share > 0 and sample.label == NORMAL:
        return Checked(height, width, problem=Problem(problems.MARKED_NORMAL, str(path)))
    return Checked(height, width, share)


def nothing_found(source: Source, category: str, split: str) -> str:
    folder = source.root / category
    found = [*folder.glob("*/"), *folder.glob("*/*/")] if folder.is_dir() else []
    names = sorted(path.relative_to(folder).as_posix() for path in found if path.is_dir())[:20]
    seen = f"Folders of {category}: {', '.join(names)}" if names else f"Expected {LAYOUTS[source.layout].expects}"
    too_few = ", or too few in train to hold some out" if split == "validation" else ""
    return (
        f"{category}/{split}: no images in {source.root} where layout {source.layout!r} has them{too_few}. {seen}. "
        f"See docs/datasets.md, or change dataset.layout or dataset.splits."
    )
