"""Layouts: which images a category and split hold, their labels and their masks.

A layout is one function and one entry in `LAYOUTS`. The function lists the samples of a category's
split from names alone; no image is opened, so that a plan over thousands of categories stays quick.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robis.datasets.listed import TABLE, VISA, is_usable, listed_categories, listed_splits, read_listed
from robis.datasets.samples import ANOMALOUS, LEARNED, NORMAL, Sample, Source
from robis.errors import DataError, first_few
from robis.io.images import is_image


def _always(source: Source, category: str, samples: Sequence[Sample]) -> bool:
    return True


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk.

    Attributes:
        splits: names of the splits, or a function of the source that gives them.
        categories: names the categories.
        read: lists the samples of a category's split, none where the category does not have it.
        expects: what lies below the root, in words.
        has_masks: whether every defective image of a category has a mask; without masks there are no pixel metrics.
    """

    splits: tuple[str, ...] | Callable[[Source], list[str]]
    categories: Callable[[Source], list[str]]
    read: Callable[[Source, str, str], list[Sample]]
    expects: str
    has_masks: Callable[[Source, str, Sequence[Sample]], bool] = _always


def images_in(folder: Path, *, nested: bool = False) -> Iterator[Path]:
    """Image files of a folder (with its sub-folders if `nested`), sorted by path."""
    if not folder.is_dir():
        return
    found = [path for one in (_walked(folder) if nested else [folder]) for path in entries(one) if is_image(path)]
    # A link that leads nowhere is kept, so that `index` can name it.
    for path in sorted(path for path in found if path.is_file() or (path.is_symlink() and not path.exists())):
        try:
            path.name.encode()
        except UnicodeEncodeError as error:
            name = os.fsencode(path.name)
            raise DataError(f"{path.parent}: the name {name!r} is not UTF-8. Rename the file.") from error
        yield path


def entries(folder: Path) -> list[Path]:
    """What lies in a folder. Raises DataError where it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Allow reading it, or take it out.") from error


def _walked(folder: Path) -> Iterator[Path]:
    """A folder and all below it, links followed, each real folder once: a link upwards must not go on forever."""

    def stop(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}). Allow reading it, or take it out.")

    seen = {folder.resolve()}
    for name, folders, _ in os.walk(folder, followlinks=True, onerror=stop):
        yield Path(name)
        real = {below: (Path(name) / below).resolve() for below in sorted(folders)}
        folders[:] = [below for below, place in real.items() if place not in seen]
        seen.update(real.values())


def _sample(root: Path, split_folder: Path, image: Path, **labels: str | None) -> Sample:
    sample_id = image.relative_to(split_folder).with_suffix("").as_posix()
    return Sample(sample_id, image.relative_to(root).as_posix(), **labels)


def _normal(root: Path, split_folder: Path, normal_folder: Path) -> list[Sample]:
    return [_sample(root, split_folder, image, label=NORMAL, defect="good") for image in images_in(normal_folder)]


def _folders_with(*marks: str) -> Callable[[Source], list[str]]:
    """Categories are the folders, hidden ones left out, that hold one of the given folders."""

    def categories(source: Source) -> list[str]:
        folders = (folder for folder in entries(source.root) if folder.is_dir() and not folder.name.startswith("."))
        found = sorted(folder.name for folder in folders if any((folder / mark).is_dir() for mark in marks))
        for name in found:
            if not is_usable(name):
                raise DataError(
                    f"{source.root}: the folder {name!r} cannot be a category: results are named after it. "
                    f"Rename it: no braces, backslashes or control characters."
                )
        return found

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
        for folder in entries(split_folder)
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


def _read_mvtec_ad(source: Source, category: str, split: str) -> list[Sample]:
    root, base = source.root, source.root / category
    if split == "train":
        return _normal(root, base / "train", base / "train" / "good")
    if split != "test" or not (base / "test").is_dir():
        return []
    masks = _by_stem(base / "ground_truth")
    return _labeled(root, base / "test", lambda defect, stem: masks.get(f"{defect}/{stem}_mask"))


def _read_mvtec_ad_2(source: Source, category: str, split: str) -> list[Sample]:
    root, folder = source.root, source.root / category / split
    if split in ("train", "validation"):
        return _normal(root, folder, folder / "good")
    if split.startswith("test_private"):
        return [_sample(root, folder, image) for image in images_in(folder)]
    if not folder.is_dir():
        return []
    masks = _by_stem(folder / "ground_truth")
    return _labeled(root, folder, lambda defect, stem: masks.get(f"{defect}/{stem}_mask"))


def _read_folder(source: Source, category: str, split: str) -> list[Sample]:
    """`C/train` and `C/validation` flat or with a `good` folder; `C/test` flat (unlabeled) or one folder per defect.

    Masks are optional; where `C/masks` exists, it holds one per defective image: `masks/DEFECT/STEM.*`
    or `masks/STEM.*`, with or without `_mask` after the stem.
    """
    root, folder = source.root, source.root / category / split
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


def _read_btad(source: Source, category: str, split: str) -> list[Sample]:
    root, base = source.root, source.root / category
    if split == "train":
        return _normal(root, base / "train", base / "train" / "ok")
    if split != "test" or not (base / "test").is_dir():
        return []
    masks = _by_stem(base / "ground_truth")
    return _labeled(root, base / "test", lambda defect, stem: masks.get(f"{defect}/{stem}"), good="ok")


def _has_mask_folder(source: Source, category: str, samples: Sequence[Sample]) -> bool:
    return any(images_in(source.root / category / "masks", nested=True))


def _has_some_mask(source: Source, category: str, samples: Sequence[Sample]) -> bool:
    return any(sample.mask for sample in samples)


_PER_CATEGORY = "one folder per category, with {} in it"
_TRAIN_OR_TEST = _folders_with("train", "test")
_OF_TRAIN_OR_TEST = _PER_CATEGORY.format("train or test")

LAYOUTS: dict[str, Layout] = {
    "mvtec_ad_2": Layout(
        ("train", "validation", "test_public", "test_private", "test_private_mixed"),
        _folders_with("train", "test_public", "test_private"),
        _read_mvtec_ad_2,
        _PER_CATEGORY.format("train, test_public or test_private"),
    ),
    "mvtec_ad": Layout(("train", "test"), _TRAIN_OR_TEST, _read_mvtec_ad, _OF_TRAIN_OR_TEST),
    "mpdd": Layout(("train", "test"), _TRAIN_OR_TEST, _read_mvtec_ad, _OF_TRAIN_OR_TEST),
    "btad": Layout(("train", "test"), _TRAIN_OR_TEST, _read_btad, _OF_TRAIN_OR_TEST),
    "visa": Layout(
        ("train", "test"),
        partial(listed_categories, form=VISA),
        partial(read_listed, form=VISA),
        f"{VISA.file} with rows in it",
    ),
    "folder": Layout(
        ("train", "validation", "test"), _TRAIN_OR_TEST, _read_folder, _OF_TRAIN_OR_TEST, _has_mask_folder
    ),
    "table": Layout(
        partial(listed_splits, form=TABLE),
        partial(listed_categories, form=TABLE),
        partial(read_listed, form=TABLE),
        f"{TABLE.file}, or the table that dataset.table names, with rows in it",
        _has_some_mask,
    ),
}


def list_categories(source: Source) -> list[str]:
    """Names of the categories, sorted. Raises DataError when there is none."""
    root, layout = source.root, LAYOUTS[source.layout]
    if not root.is_dir():
        raise DataError(
            f"dataset.root: {root} is not a folder. Give the folder that holds the data set; "
            f"`robis data demo` writes the demo's."
        )
    found = layout.categories(source)
    if not found:
        raise DataError(
            f"dataset.root: {root} holds no category of layout {source.layout!r}: expected {layout.expects}."
        )
    return found


def list_splits(source: Source) -> list[str]:
    """Names of the splits that the layout has, whether or not each category has images in them."""
    splits = LAYOUTS[source.layout].splits
    return list(splits) if isinstance(splits, tuple) else splits(source)


def inspected_splits(source: Source) -> list[str]:
    """Names of the splits that a config may ask for: all but those that models learn from."""
    return [split for split in list_splits(source) if split not in LEARNED]


def list_samples(source: Source, category: str, split: str, *, hold_out: bool = False) -> list[Sample]:
    """The samples of one split, sorted by id, from names alone.

    With `hold_out`, a category without validation images lends every tenth training image to its
    validation split, and its train split goes without them.

    Raises DataError when two files would have the same id.
    """
    read = LAYOUTS[source.layout].read
    samples = read(source, category, split)
    if hold_out and split in ("train", "validation") and not read(source, category, "validation"):
        train = sorted(read(source, category, "train"), key=lambda sample: sample.sample_id)
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
        if sample.mask and sample.label != NORMAL and used.setdefault(sample.mask, sample.image) != sample.image:
            raise DataError(
                f"{sample.mask}: would be the mask of {used[sample.mask]} and of {sample.image}. "
                f"Put masks into one folder per defect."
            )
    return samples
