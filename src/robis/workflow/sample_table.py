"""A sample table for the next run: all images of a data set, with labels and masks that someone gave."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from robis.config.settings import SharedSettings
from robis.datasets.layouts import list_categories, list_samples, list_splits
from robis.datasets.samples import ANOMALOUS, LEARNED, NORMAL, Sample, Source
from robis.errors import DataError
from robis.io.maps import write_mask
from robis.io.names import expanded

TABLE = "samples.csv"
COLUMNS = ("category", "split", "image", "label", "mask", "defect", "sample_id")


@dataclass(frozen=True)
class Row:
    """An image of the data set."""

    category: str
    split: str
    sample: Sample

    def good(self) -> Row:
        """The same image as a good one."""
        return replace(self, sample=replace(self.sample, label=NORMAL, defect="good", mask=None))

    def defective(self, defect: str | None, mask: str | None) -> Row:
        """The same image as an anomalous one."""
        return replace(self, sample=replace(self.sample, label=ANOMALOUS, defect=defect, mask=mask))


def source_of(settings: SharedSettings) -> Source:
    """The data set of a config."""
    dataset = settings.dataset
    root = expanded(dataset.root)
    return Source(dataset.layout, root, dataset.table, dataset.allow_outside_root)


def all_rows(source: Source) -> list[Row]:
    """Every image of a data set, category by category, with nothing held out. Raises DataError."""
    return [
        Row(category, split, sample)
        for category in list_categories(source)
        for split in list_splits(source)
        for sample in list_samples(source, category, split)
    ]


def write_mask_of(row: Row, mask: np.ndarray, scratch: Path, out: Path, source: Source) -> str:
    """Write an image's mask, bool (H, W), for a table; its path relative to the data set's root.

    Args:
        row: the image. Its sample id names the mask: unlike a path, it never leads upward, and it is unique in a split.
        mask: of the image's size.
        scratch: folder to write to, which becomes `out`.
        out: folder of the table.
        source: the data set.
    """
    place = Path("masks", row.category, row.split, f"{row.sample.sample_id}.png")
    write_mask(scratch / place, mask)
    return _below(out / place, source)


def _below(path: Path, source: Source) -> str:
    """A path relative to the data set's root. Links are followed: `..` leads from where a linked root lies."""
    return Path(os.path.relpath(path.resolve(), source.root.resolve())).as_posix()


def without_mask(rows: Iterable[Row], with_mask: Collection[tuple[str, str, str]] = ()) -> list[Row]:
    """Defective images without a mask in splits where others have one, which no run accepts.

    Args:
        rows: the table.
        with_mask: category, split and sample id of images that get a mask besides.
    """
    defective = [row for row in rows if row.sample.label == ANOMALOUS]
    has = [bool(row.sample.mask) or (row.category, row.split, row.sample.sample_id) in with_mask for row in defective]
    splits = {(row.category, row.split) for row, mask in zip(defective, has, strict=True) if mask}
    pairs = zip(defective, has, strict=True)
    return [row for row, mask in pairs if not mask and (row.category, row.split) in splits]


def write_table(folder: Path, rows: Iterable[Row], origin: object) -> None:
    """Write the table of the layout `table` into a folder.

    Raises DataError for training and validation images with defects; `origin` names the file that says so.
    """
    rows = list(rows)
    learned = [row.sample.image for row in rows if row.split in LEARNED and row.sample.label == ANOMALOUS]
    if learned:
        raise DataError(
            f"{origin}: {len(learned)} training or validation images have defects, such as {learned[0]}. Models learn "
            f"from good images. Move these images to another split first."
        )
    lines = [(row.category, row.split, *_cells(row.sample)) for row in rows]
    # A blank at the start of a name is only read back from between quotes.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any(cell[:1] == " " for line in lines for cell in line) else 0
    pd.DataFrame(lines, columns=list(COLUMNS)).to_csv(folder / TABLE, index=False, quoting=quoting)


def _cells(sample: Sample) -> tuple[str, ...]:
    return sample.image, sample.label or "", sample.mask or "", sample.defect or "", sample.sample_id


def dataset_options(out: Path, source: Source) -> dict[str, Any]:
    """Options of the section `dataset` that use the table of a folder."""
    table = out / TABLE
    if out.resolve().is_relative_to(source.root.resolve()):
        return {"layout": "table", "table": _below(table, source)}
    return {"layout": "table", "table": str(table.resolve()), "allow_outside_root": True}
