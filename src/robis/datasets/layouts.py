"""Folder layouts: which images a category and split hold, their labels and their masks.

A layout is one function and one entry in `LAYOUTS`. The function lists the samples of a category's
split from file names alone; nothing is opened, so that a plan over thousands of categories stays quick.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from robis.errors import DataError, first_few
from robis.files import is_image

NORMAL, ANOMALOUS = "normal", "anomalous"


@dataclass(frozen=True)
class Sample:
    """One image: paths relative to the dataset's root, unknown label and absent mask as None."""

    sample_id: str
    image: str
    label: str | None = None
    defect: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk.

    `categories(root)` names the categories; `read(root, category, split)` lists the samples of a split, none
    where the category does not have it; `expects` says in words what lies below the root.
    """

    splits: tuple[str, ...]
    categories: Callable[[Path], list[str]]
    read: Callable[[Path, str, str], list[Sample]]
    expects: str


def images_in(folder: Path, *, nested: bool = False) -> Iterator[Path]:
    """Image files of a folder (with its sub-folders if `nested`), sorted by path."""
    if not folder.is_dir():
        return
    folders = [Path(name) for name, _, _ in os.walk(folder, followlinks=True)] if nested else [folder]
    # A link that leads nowhere is kept, so that `index` can name it.
    yield from sorted(path for one in folders for path in one.iterdir() if is_image(path) and not path.is_dir())


def _sample(root: Path, split_folder: Path, image: Path, **labels: str | None) -> Sample:
    sample_id = image.relative_to(split_folder).with_suffix("").as_posix()
    return Sample(sample_id, image.relative_to(root).as_posix(), **labels)


def _normal(root: Path, split_folder: Path, normal_folder: Path) -> list[Sample]:
    return [_sample(root, split_folder, image, label=NORMAL, defect="good") for image in images_in(normal_folder)]


def _folders_with(*marks: str) -> Callable[[Path], list[str]]:
    """Categories are the folders that hold one of the given folders."""

    def categories(root: Path) -> list[str]:
        folders = (folder for folder in root.iterdir() if folder.is_dir())
        return sorted(folder.name for folder in folders if any((folder / mark).is_dir() for mark in marks))

    return categories


def _by_stem(folder: Path) -> dict[str, Path]:
    """Masks of a folder by their path below it without suffix. Raises DataError where two would be one."""
    masks: dict[str, Path] = {}
    for mask in images_in(folder, nested=True):
        stem = mask.relative_to(folder).with_suffix("").as_posix()
        if masks.setdefault(stem, mask) != mask:
            raise DataError(f"{masks[stem]} and {mask.name} are masks of the same image. Keep one of them.")
    return masks


def _defect_folders(split_folder: Path) -> list[Path]:
    """Folders with images in them, one per defect; hidden folders and ground truth are none."""
    return sorted(
        folder
        for folder in split_folder.iterdir()
        if folder.is_dir()
        and not folder.name.startswith(".")
        and folder.name != "ground_truth"
        and any(images_in(folder))
    )


def _labeled(
    root: Path, split_folder: Path, mask_of: Callable[[str, str], Path | None], *, good: str = "good"
) -> list[Sample]:
    """Samples of a split with one folder per defect; `mask_of(defect, stem)` finds a defective image's mask."""
    samples = []
    for folder in _defect_folders(split_folder):
        if folder.name == good:
            samples += _normal(root, split_folder, folder)
            continue
        for image in images_in(folder):
            mask = mask_of(folder.name, image.stem)
            relative = mask.relative_to(root).as_posix() if mask else None
            samples.append(_sample(root, split_folder, image, label=ANOMALOUS, defect=folder.name, mask=relative))
    return samples


def _read_mvtec_ad(root: Path, category: str, split: str) -> list[Sample]:
    base = root / category
    if split == "train":
        return _normal(root, base / "train", base / "train" / "good")
    if split != "test" or not (base / "test").is_dir():
        return []
    masks = _by_stem(base / "ground_truth")
    return _labeled(root, base / "test", lambda defect, stem: masks.get(f"{defect}/{stem}_mask"))


def _read_mvtec_ad_2(root: Path, category: str, split: str) -> list[Sample]:
    folder = root / category / split
    if split in ("train", "validation"):
        return _normal(root, folder, folder / "good")
    if split.startswith("test_private"):
        return [_sample(root, folder, image) for image in images_in(folder)]
    if not folder.is_dir():
        return []
    masks = _by_stem(folder / "ground_truth")
    return _labeled(root, folder, lambda defect, stem: masks.get(f"{defect}/{stem}_mask"))


def _read_folder(root: Path, category: str, split: str) -> list[Sample]:
    """`C/train` and `C/validation` flat or with a `good` folder; `C/test` flat (unlabeled) or one folder per defect.

    Masks are optional; where `C/masks` exists, it holds one per defective image: `masks/DEFECT/STEM.*`
    or `masks/STEM.*`, with or without `_mask` after the stem.
    """
    folder = root / category / split
    if split in ("train", "validation"):
        return _normal(root, folder, folder / "good" if (folder / "good").is_dir() else folder)
    if not folder.is_dir():
        return []
    flat = [_sample(root, folder, image) for image in images_in(folder)]
    if not (defects := _defect_folders(folder)):
        return flat
    if flat:
        raise DataError(
            f"{folder}: holds images and folders of images ({defects[0].name}). Expected either images alone, "
            f"without labels, or one folder per defect and good."
        )
    masks = _by_stem(root / category / "masks")

    def mask_of(defect: str, stem: str) -> Path | None:
        names = (f"{defect}/{stem}", f"{defect}/{stem}_mask", stem, f"{stem}_mask")
        return next((masks[name] for name in names if name in masks), None)

    return _labeled(root, folder, mask_of)


def _read_btad(root: Path, category: str, split: str) -> list[Sample]:
    base = root / category
    if split == "train":
        return _normal(root, base / "train", base / "train" / "ok")
    if split != "test" or not (base / "test").is_dir():
        return []
    masks = _by_stem(base / "ground_truth")
    return _labeled(root, base / "test", lambda defect, stem: masks.get(f"{defect}/{stem}"), good="ok")


VISA_TABLE = "split_csv/1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")


def _visa_rows(root: Path) -> list[dict[str, str]]:
    path = root / VISA_TABLE
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). VisA's split table is expected there.") from error
    for number, row in enumerate(rows, start=2):
        if missing := [name for name in VISA_COLUMNS if row.get(name) is None]:
            raise DataError(f"{path}, line {number}: no {missing[0]!r}; expected {', '.join(VISA_COLUMNS)}.")
    return rows


def _visa_categories(root: Path) -> list[str]:
    return sorted({row["object"] for row in _visa_rows(root)})


def _read_visa(root: Path, category: str, split: str) -> list[Sample]:
    samples = []
    for row in _visa_rows(root):
        if row["object"] != category or row["split"] != split:
            continue
        # candle/Data/Images/Anomaly/000.JPG is named Anomaly/000.
        name = PurePosixPath(row["image"])
        sample_id = PurePosixPath(name.parent.name, name.stem).as_posix()
        normal = row["label"] == "normal"
        samples.append(
            Sample(
                sample_id,
                row["image"],
                label=NORMAL if normal else ANOMALOUS,
                defect="good" if normal else row["label"],
                mask=row["mask"] or None,
            )
        )
    return samples


_PER_CATEGORY = "one folder per category, with {} in it"
_TRAIN_OR_TEST = _folders_with("train", "test")

LAYOUTS: dict[str, Layout] = {
    "mvtec_ad_2": Layout(
        ("train", "validation", "test_public", "test_private", "test_private_mixed"),
        _folders_with("train", "test_public", "test_private"),
        _read_mvtec_ad_2,
        _PER_CATEGORY.format("train, test_public or test_private"),
    ),
    "mvtec_ad": Layout(("train", "test"), _TRAIN_OR_TEST, _read_mvtec_ad, _PER_CATEGORY.format("train or test")),
    "mpdd": Layout(("train", "test"), _TRAIN_OR_TEST, _read_mvtec_ad, _PER_CATEGORY.format("train or test")),
    "btad": Layout(("train", "test"), _TRAIN_OR_TEST, _read_btad, _PER_CATEGORY.format("train or test")),
    "visa": Layout(("train", "test"), _visa_categories, _read_visa, f"{VISA_TABLE} with rows in it"),
    "folder": Layout(
        ("train", "validation", "test"), _TRAIN_OR_TEST, _read_folder, _PER_CATEGORY.format("train or test")
    ),
}


def list_categories(layout: str, root: Path) -> list[str]:
    """Names of the categories below `root`, sorted. Raises DataError when there is none."""
    if not root.is_dir():
        raise DataError(
            f"dataset.root: {root} is not a folder. Give the folder that holds the data set; "
            f"`robis data demo` writes the demo's."
        )
    found = LAYOUTS[layout].categories(root)
    if not found:
        raise DataError(
            f"dataset.root: {root} holds no category of layout {layout!r}: expected {LAYOUTS[layout].expects}."
        )
    return found


def list_samples(layout: str, root: Path, category: str, split: str, *, hold_out: bool = False) -> list[Sample]:
    """The samples of one split, sorted by id, from file names alone.

    With `hold_out`, a category without validation images lends every tenth training image to its
    validation split, and its train split goes without them.

    Raises DataError when two files would have the same id.
    """
    read = LAYOUTS[layout].read
    samples = read(root, category, split)
    if hold_out and split in ("train", "validation") and not read(root, category, "validation"):
        train = sorted(read(root, category, "train"), key=lambda sample: sample.sample_id)
        lent = set(range(0, len(train), 10)) if len(train) > 1 else set()
        samples = [sample for n, sample in enumerate(train) if (n in lent) == (split == "validation")]
    samples.sort(key=lambda sample: sample.sample_id)
    by_id: dict[str, str] = {}
    doubles = [
        f"{by_id[sample.sample_id]} and {sample.image}"
        for sample in samples
        if by_id.setdefault(sample.sample_id, sample.image) != sample.image
    ]
    if doubles:
        raise DataError(
            f"{category}/{split}: images that differ in their suffix only would share one mask; rename one of\n"
            + first_few(doubles)
        )
    used: dict[str, str] = {}
    for sample in samples:
        if sample.mask and used.setdefault(sample.mask, sample.image) != sample.image:
            raise DataError(
                f"{sample.mask}: would be the mask of {used[sample.mask]} and of {sample.image}. "
                f"Put masks into one folder per defect."
            )
    return samples
