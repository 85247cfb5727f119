"""Which layout a folder of images has, by the names of its folders and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robis.datasets.folders import below, has_images, images_in, subfolder, subfolders
from robis.datasets.layouts import LAYOUTS
from robis.datasets.listed import TABLE, VISA
from robis.datasets.masks import Masks
from robis.datasets.samples import ANOMALOUS, NORMAL, Source
from robis.datasets.words import folded, is_anomalous, is_mask_folder, is_normal
from robis.errors import DataError
from robis.io.names import composed, expanded, folder_problem, on_disk

# Of the good images in a folder without splits, every so many are kept for the test.
EVERY_NTH_GOOD = 5
COLUMNS = ("category", "split", "image", "label", "mask", "defect")
_SPLITS = ("train", "test", "test_public", "test_private")


@dataclass(frozen=True)
class Guess:
    """A layout that fits a folder.

    Attributes:
        layout: as dataset.layout.
        root: as dataset.root.
        reason: what in the folder shows it.
        categories: as dataset.categories; empty for all.
        table: rows of a table that lists the images, `COLUMNS`; None where the layout needs no table of its own.
    """

    layout: str
    root: Path
    reason: str
    categories: tuple[str, ...] = ()
    table: pd.DataFrame | None = None


def guess_layout(folder: Path) -> Guess:
    """The layout of a folder: a data set with categories, one category, sorted images, or images alone.

    Raises DataError for a folder that does not exist or holds no images.
    """
    folder = on_disk(expanded(folder))
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the folder that holds the images.")
    for layout, form in (("visa", VISA), ("table", TABLE)):
        if (folder / form.file).is_file():
            return Guess(layout, folder, f"{form.file} lists the images")
    if _has_splits(folder):
        layout, reason = _layout_of([folder])
        name = _name(folder)
        return Guess(layout, _parent(folder), f"one category, {name}: {reason}", (name,))
    children = [child for child in subfolders(folder) if not is_mask_folder(child.name)]
    if categories := [child for child in children if _has_splits(child)]:
        return Guess(*_with_root(folder, _layout_of(categories)))
    return _guess_table(folder, children)


def as_source(guess: Guess, table: Path | None = None) -> Source:
    """The data set of a guess; `table` is where its table was written."""
    return Source(guess.layout, guess.root, str(table.absolute()) if table else None)


def _with_root(root: Path, layout: tuple[str, str]) -> tuple[str, Path, str]:
    return layout[0], root, layout[1]


def _has_splits(folder: Path) -> bool:
    return any(has_images(child, nested=True) for child in subfolders(folder, lambda name: folded(name) in _SPLITS))


def _name(folder: Path) -> str:
    return composed(folder.resolve().name)


def _parent(folder: Path) -> Path:
    return folder.parent if folder.name not in ("", "..") else folder.resolve().parent


def _layout_of(categories: Sequence[Path]) -> tuple[str, str]:
    """The layout of folders that hold splits, and what shows it."""
    names = {folded(child.name) for category in categories for child in subfolders(category)}
    tests = {folded(child.name) for category in categories for child in subfolders(subfolder(category, "test"))}
    if names & {"test_public", "test_private"}:
        return "mvtec_ad_2", "test_public/ or test_private/ in each category"
    if {"ground_truth", "validation"} <= names and tests & {"logical_anomalies", "structural_anomalies"}:
        return "mvtec_loco", "logical_anomalies/ or structural_anomalies/ in test/"
    if "ground_truth" in names and all((subfolder(category, "train") / "good").is_dir() for category in categories):
        return "mvtec_ad", "train/good/, test/ and ground_truth/ in each category"
    return "folder", "train/ or test/ in each category"


def _guess_table(folder: Path, children: Sequence[Path]) -> Guess:
    """Images that lie in no split: a table says which are learned from, and which are inspected."""
    if any(is_normal(child.name) and has_images(child, nested=True) for child in children):
        rows, reason = list(_sorted_rows(folder, folder)), "images sorted into good and defective ones"
    elif any(is_normal(below_child.name) for child in children for below_child in subfolders(child)):
        rows = [row for child in children for row in _sorted_rows(folder, child)]
        reason = "images sorted into good and defective ones in each category"
    elif has_images(folder):
        rows, reason = list(_flat_rows(folder, folder)), "images alone, of which none is known to be good"
    else:
        rows = [row for child in children for row in _flat_rows(folder, child, nested=True)]
        reason = "one folder of images per category, of which none is known to be good"
    if not rows:
        expected = ", ".join(f"{name} ({LAYOUTS[name].expects})" for name in ("folder", "mvtec_ad_2"))
        raise DataError(f"{folder}: no images found. Expected a layout such as {expected}; see docs/datasets.md.")
    return Guess("table", folder, reason, table=pd.DataFrame(rows, columns=list(COLUMNS)))


Row = tuple[str, str, str, str, str, str]


def _flat_rows(root: Path, folder: Path, *, nested: bool = False) -> Iterator[Row]:
    category = _category(folder)
    for image in images_in(folder, nested=nested):
        yield category, "test", below(image, root), "", "", ""


def _sorted_rows(root: Path, folder: Path) -> Iterator[Row]:
    """Rows of a category whose folders are named after labels: good images to learn from and some to test on."""
    category, masks = _category(folder), Masks(subfolders(folder, is_mask_folder))
    labels = subfolders(folder, lambda name: not is_mask_folder(name))
    good = [image for label in labels if is_normal(label.name) for image in images_in(label, nested=True)]
    for number, image in enumerate(good):
        split = "test" if number % EVERY_NTH_GOOD == EVERY_NTH_GOOD - 1 else "train"
        yield category, split, below(image, root), NORMAL, "", ""
    for label in (label for label in labels if not is_normal(label.name)):
        defect = "" if is_anomalous(label.name) else composed(label.name)
        for image in images_in(label, nested=True):
            stem = composed(image.stem)
            places = (f"{composed(label.name)}/{stem}", stem)
            mask = masks.find(*(name for place in places for name in (place, f"{place}_mask")))
            yield category, "test", below(image, root), ANOMALOUS, below(mask, root) if mask else "", defect


def _category(folder: Path) -> str:
    name = _name(folder)
    if reason := folder_problem(name):
        raise DataError(f"{folder}: the folder's name {reason}. Results are named after a category. Rename it.")
    return name
