"""The sample table of one category and split, checked file by file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from robis.datasets.layouts import ANOMALOUS, Sample, images_in, list_samples
from robis.datasets.table import IndexedSample, write_samples
from robis.errors import DataError, first_few
from robis.files import image_size, read_mask, threaded


@dataclass(frozen=True)
class _Checked:
    height: int
    width: int
    problem: str | None


def index_split(
    table: Path,
    *,
    layout: str,
    root: Path,
    category: str,
    split: str,
    hold_out: bool = False,
    threads: int = 1,
) -> None:
    """Write the sample table of one split.

    Raises DataError that lists every image that cannot be read and every mask that is missing,
    unreadable, of another size than its image, or empty.
    """
    samples = list_samples(layout, root, category, split, hold_out=hold_out)
    if not samples:
        raise DataError(
            f"{category}/{split}: no images below {root / category} where layout {layout!r} has them"
            + (", or too few in train to hold some out" if split == "validation" else "")
            + f". Folders there: {', '.join(_folders(root / category)) or 'none'}. "
            f"See docs/datasets.md, or change dataset.layout or dataset.splits."
        )
    masks_exist = layout != "folder" or any(images_in(root / category / "masks", nested=True))
    checked = list(threaded(lambda sample: _check(sample, root, masks_exist), samples, threads))
    problems = [row.problem for row in checked if row.problem]
    if problems:
        raise DataError(
            f"{category}/{split}: {len(problems)} of {len(samples)} samples cannot be used:\n"
            + first_few(problems, limit=len(problems))
        )
    write_samples(
        table,
        [
            IndexedSample(split=split, height=row.height, width=row.width, **asdict(sample))
            for sample, row in zip(samples, checked, strict=True)
        ],
    )


def _folders(category: Path) -> list[str]:
    """Folders of a category, two levels deep, for a message."""
    found = [*category.glob("*/"), *category.glob("*/*/")]
    return sorted(path.relative_to(category).as_posix() for path in found if path.is_dir())[:20]


def _check(sample: Sample, root: Path, masks_exist: bool) -> _Checked:
    try:
        height, width = image_size(root / sample.image)
    except DataError as error:
        return _Checked(0, 0, str(error))
    problem = None
    if sample.mask is None:
        if sample.label == ANOMALOUS and masks_exist:
            problem = f"{root / sample.image}: defective, but has no mask. Add the mask, or move the image to good."
    else:
        problem = _mask_problem(root / sample.mask, height, width)
    return _Checked(height, width, problem)


def _mask_problem(path: Path, height: int, width: int) -> str | None:
    try:
        mask = read_mask(path)
    except DataError as error:
        return str(error)
    if mask.shape != (height, width):
        found = f"{mask.shape[1]} x {mask.shape[0]}"
        return f"{path}: mask of {found} pixels; expected its image's {width} x {height}."
    if not mask.any():
        return f"{path}: mask without a defect pixel. Mark the defect, or move the image to good."
    return None
