"""The sample table of one category and split, checked file by file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from robis.datasets import problems
from robis.datasets.excluded import without_excluded
from robis.datasets.folders import subfolders
from robis.datasets.identical import Placed, identical_images
from robis.datasets.layouts import LAYOUTS, category_folder, list_category, list_samples
from robis.datasets.problems import Problem, grouped
from robis.datasets.samples import ANOMALOUS, NORMAL, Sample, Source
from robis.datasets.unused import unused_beside
from robis.errors import DataError
from robis.io.ignored import decode, encode
from robis.io.images import MaskContent, image_size, read_mask, read_mask_content
from robis.io.names import shown
from robis.io.progress import tracked
from robis.io.samples import IndexedSample, write_samples
from robis.io.threads import threaded

log = logging.getLogger(__name__)

# Classes and instances of defects are few, soft edges and lossy compression leave many values.
MOST_LEVELS = 16
# Hardly any defect covers that much of an image, an inverted mask nearly always does.
NEARLY_ALL = 0.9
# An inverted mask of a large defect marks less, but still the border, where defects rarely lie.
MOST = 0.5


@dataclass(frozen=True)
class Checked:
    """What a sample's files hold.

    Attributes:
        height, width: size of the image in pixels, as it is shown; 0 where it cannot be read.
        defect_share: share of the mask's pixels that are defective; None without a usable mask.
        ignored: its ignored pixels, see `robis.io.ignored.encode`; None where nothing is ignored.
        ignored_share: share of the image's pixels that are ignored.
        problem: why the sample cannot be used.
        remark: what is likely to be wrong with a mask that can be used.
    """

    height: int = 0
    width: int = 0
    defect_share: float | None = None
    ignored: bytes | None = None
    ignored_share: float = 0.0
    problem: Problem | None = None
    remark: Problem | None = None


def index_split(
    samples: Path,
    source: Source,
    *,
    category: str,
    split: str,
    hold_out: bool = False,
    hold_out_every: int | None = None,
    threads: int = 1,
) -> None:
    """Write the sample table of one split.

    Args:
        samples: the table to write.
        source: the data set.
        category, split: which images.
        hold_out, hold_out_every: as in `list_samples`.
        threads: files opened at the same time.

    Logs as a warning what can be used, but is likely to be a mistake: images and masks that the layout does not use,
    identical images, masks that do not look like masks.

    Raises DataError that lists every image that cannot be read and every mask that is missing,
    unreadable, of another size than its image, or at odds with the image's label.
    """
    listed = list_samples(source, category, split, hold_out=hold_out, hold_out_every=hold_out_every)
    if not listed:
        raise DataError(nothing_found(source, category, split))
    checked = check_samples(source, category, listed, threads=threads)
    by_split = list_category(source, category)
    images = [
        Placed(category, place, sample.image)
        for place, those in by_split.items()
        for sample in without_excluded(source, those)
    ]
    remarks = [
        *unused_beside(source, category, split, by_split),
        *identical_images(source.root, images, split=split, threads=threads),
        *label_remarks(category, split, listed),
        *(result.remark for result in checked if result.remark),
    ]
    if remarks:
        log.warning("%s/%s:\n%s", category, split, grouped(remarks))
    if wrong := [result.problem for result in checked if result.problem]:
        raise DataError(
            f"{category}/{split}: {len(wrong)} of {len(listed)} samples cannot be used:\n{grouped(wrong)}\n"
            f"`robis data check` lists the same for all categories and splits at once."
        )
    write_samples(
        samples,
        [
            IndexedSample(
                split=split, height=result.height, width=result.width, ignored=result.ignored, **asdict(sample)
            )
            for sample, result in zip(listed, checked, strict=True)
        ],
    )


def check_samples(source: Source, category: str, samples: Sequence[Sample], *, threads: int = 1) -> list[Checked]:
    """Open every image of a split as far as its size, and decode every mask; in the order of the samples."""
    masks_exist = LAYOUTS[source.layout].has_masks(source, category, samples)
    # One mask of ignored pixels often serves all images.
    read_ignored = lru_cache(maxsize=8)(_read_ignored)

    def check(sample: Sample) -> Checked:
        checked = _check(source, category, sample, masks_exist)
        if sample.ignore is None or checked.problem:
            return checked
        return _with_ignored(checked, source, sample, read_ignored)

    return _each_remark_once(list(tracked(threaded(check, samples, threads), len(samples), "images")))


def _each_remark_once(checked: Sequence[Checked]) -> list[Checked]:
    """The same, where a remark on a mask that several images share is made of the first of them alone."""
    seen: set[Problem | None] = set()
    once = []
    for result in checked:
        once.append(replace(result, remark=None) if result.remark in seen else result)
        seen.add(result.remark)
    return once


@dataclass(frozen=True)
class _IgnoredMask:
    """A mask of ignored pixels.

    Attributes:
        shape: its height and width.
        ignored: what is ignored, see `robis.io.ignored.encode`.
        share: of its pixels that are ignored.
        remark: what makes it doubtful, or None.
    """

    shape: tuple[int, int]
    ignored: bytes
    share: float
    remark: Problem | None = None


def _read_ignored(path: Path) -> _IgnoredMask | Problem:
    try:
        content = read_mask_content(path)
    except DataError as error:
        return Problem(problems.UNREADABLE_IGNORE, str(error))
    mask = content.marked
    share = float(np.count_nonzero(mask)) / mask.size
    odd = problems.EMPTY_IGNORE if share == 0 else problems.LOSSY_IGNORE if content.lossy else None
    remark = Problem(odd, str(path)) if odd else None
    return _IgnoredMask((mask.shape[0], mask.shape[1]), encode(mask), share, remark)


def _with_ignored(
    checked: Checked, source: Source, sample: Sample, read_ignored: Callable[[Path], _IgnoredMask | Problem]
) -> Checked:
    """What a sample's files hold, the mask of ignored pixels included."""
    path = source.root / str(sample.ignore)
    mask = read_ignored(path)
    if isinstance(mask, Problem):
        return replace(checked, problem=mask)
    if mask.shape != (checked.height, checked.width):
        size = f"{mask.shape[1]} x {mask.shape[0]}"
        text = f"{path}: {size} pixels; the image {sample.image} has {checked.width} x {checked.height}"
        return replace(checked, problem=Problem(problems.IGNORE_SIZE, text))
    if mask.share == 1:
        return replace(checked, problem=Problem(problems.ALL_IGNORED, f"{sample.image}, by {path}"))
    checked = replace(checked, remark=checked.remark or mask.remark)
    if mask.share == 0:
        return checked
    checked = replace(checked, ignored=mask.ignored, ignored_share=mask.share)
    if checked.remark is None and checked.defect_share:
        defects = read_mask(source.root / str(sample.mask))
        if not defects[~decode(mask.ignored)].any():
            return replace(checked, remark=Problem(problems.IGNORED_DEFECT, sample.image))
    return checked


def label_remarks(category: str, split: str, samples: Sequence[Sample]) -> list[Problem]:
    """Say what is odd about the labels and names of a split: no normal image among defective ones, masks as images."""
    remarks = []
    defects = sorted({sample.defect or "unnamed" for sample in samples if sample.label == ANOMALOUS})
    if defects and not any(sample.label == NORMAL for sample in samples):
        remarks.append(Problem(problems.NO_NORMAL, f"{category}/{split}: {', '.join(defects)}"))
    ids = {sample.sample_id for sample in samples}
    for sample in samples:
        stem, _, ending = sample.sample_id.rpartition("_")
        if ending.lower() in ("mask", "gt") and stem in ids:
            remarks.append(Problem(problems.MASK_AS_IMAGE, f"{sample.image}, beside the image {stem}"))
    return remarks


def _check(source: Source, category: str, sample: Sample, masks_exist: bool) -> Checked:
    try:
        height, width = image_size(source.root / sample.image)
    except DataError as error:
        return Checked(problem=Problem(problems.UNREADABLE_IMAGE, str(error)))
    if sample.mask is None:
        missing = sample.label == ANOMALOUS and masks_exist
        return Checked(height, width, problem=_missing_mask(source, category, sample) if missing else None)
    path = source.root / sample.mask
    try:
        mask = read_mask_content(path)
    except DataError as error:
        return Checked(height, width, problem=Problem(problems.UNREADABLE_MASK, str(error)))
    if mask.marked.shape != (height, width):
        size = f"{mask.marked.shape[1]} x {mask.marked.shape[0]}"
        text = f"{path}: {size} pixels; the image has {width} x {height}"
        return Checked(height, width, problem=Problem(problems.MASK_SIZE, text))
    share = float(np.count_nonzero(mask.marked)) / mask.marked.size
    if share == 0 and sample.label == ANOMALOUS:
        return Checked(height, width, problem=Problem(problems.EMPTY_MASK, str(path)))
    if share > 0 and sample.label == NORMAL:
        return Checked(height, width, problem=Problem(problems.MARKED_NORMAL, str(path)))
    return Checked(height, width, share, remark=_odd_mask(path, mask, share))


def _missing_mask(source: Source, category: str, sample: Sample) -> Problem:
    """Say which image has no mask, and where it was looked for."""
    layout, image = LAYOUTS[source.layout], source.root / sample.image
    if not layout.mask_name:
        return Problem(problems.MISSING_MASK, f"{image}: its row names none")
    place, _, stem = sample.sample_id.rpartition("/")
    name = layout.mask_name.replace("DEFECT", place).replace("STEM", stem)
    folders = layout.mask_folders(source, category)
    groups = [folder / place / stem for folder in folders if (folder / place / stem).is_dir()]
    hint = f". Layout mvtec_loco reads several masks of one image, as in {groups[0]}" if groups else ""
    return Problem(problems.MISSING_MASK, f"{image}: there is no {category}/{name}{hint}")


def _odd_mask(path: Path, mask: MaskContent, share: float) -> Problem | None:
    """What makes a mask doubtful: lossy compression, many gray levels, too much of the image marked."""
    if mask.lossy:
        return Problem(problems.LOSSY_MASK, str(path))
    if mask.levels > MOST_LEVELS:
        return Problem(problems.MANY_LEVELS, f"{path}: {mask.levels} values above 0")
    if share > NEARLY_ALL or (share > MOST and _marks_border(mask.marked)):
        return Problem(problems.NEARLY_ALL, f"{path}: {100 * share:.1f} % of the pixels")
    return None


def _marks_border(marked: np.ndarray) -> bool:
    """Whether nearly all pixels at the border of a mask, bool (H, W), are marked."""
    border = np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]])
    return bool(np.count_nonzero(border) > NEARLY_ALL * border.size)


def nothing_found(source: Source, category: str, split: str) -> str:
    """Say that a split has no images, where they were looked for, and what is there."""
    layout, folder = LAYOUTS[source.layout], category_folder(source, category)
    inside = [below for child in subfolders(folder) for below in (child, *subfolders(child))]
    names = [shown(path.relative_to(folder).as_posix()) for path in inside][:20]
    there = f"Folders of {category}: {', '.join(names)}" if names else f"Expected {layout.expects}"
    too_few = ", or too few in train to hold some out" if split == "validation" else ""
    needs_none = " Some detectors need no images in train (docs/methods.md)." if split == "train" else ""
    return (
        f"{category}/{split}: no images in {source.root} where layout {source.layout!r} has them{too_few} "
        f"({layout.reads}). {there}. See docs/datasets.md, or change dataset.layout or dataset.splits.{needs_none}"
    )
