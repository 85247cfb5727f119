"""Files of annotation tools as the ground truth of the next run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robis.config.settings import SharedSettings
from robis.errors import DataError
from robis.io.atomic import atomic_folder
from robis.io.images import image_size
from robis.labels.formats import FORMATS
from robis.labels.images import KnownImages
from robis.labels.model import LabeledImage
from robis.workflow.sample_table import (
    TABLE,
    Row,
    all_rows,
    dataset_options,
    source_of,
    without_mask,
    write_mask_of,
    write_table,
)


@dataclass(frozen=True)
class Imported:
    """What a label file gave.

    Attributes:
        table: the sample table that was written.
        dataset: options of the section `dataset` that use it.
        defects: class -> number of images in which most marked pixels have it.
        good: number of images in the file without a region.
        unchanged: number of images of the data set that the file does not name.
        without_mask: paths of defective images that lack a mask, though others of their split have one.
    """

    table: Path
    dataset: Mapping[str, Any]
    defects: Mapping[str, int]
    good: int
    unchanged: int
    without_mask: Sequence[str]


def import_labels(path: Path, kind: str, settings: SharedSettings, out: Path) -> Imported:
    """Write the ground truth of a label file as masks and a sample table (layout `table`) of all of the data set.

    Images of the file without a region become good ones. Images that it does not name keep their labels and masks.

    Args:
        path: the file or folder of labels.
        kind: one of FORMATS.
        settings: whose `dataset` names the images.
        out: folder to write.

    Raises:
        DataError: the folder exists, or the file cannot be read or does not fit the data set.
    """
    if out.exists():
        raise DataError(f"{out}: exists already. Give another folder with --out.")
    source = source_of(settings)
    rows = all_rows(source)
    row_of = {row.sample.image: row for row in rows}
    images = KnownImages(row_of, lambda file: image_size(source.root / file))
    # Defect and mask by image; None for good ones.
    labels: dict[str, tuple[str, str] | None] = {}
    with atomic_folder(out) as scratch:
        for image in FORMATS[kind].read(path, images):
            labels[image.file] = None
            if image.regions:
                mask = write_mask_of(row_of[image.file], image.mask(), scratch, out, source)
                labels[image.file] = (_most_marked(image), mask)
        images.check(path)
        table = [_labeled(row, labels) for row in rows]
        write_table(scratch, table, path)
    defects = Counter(label[0] for label in labels.values() if label)
    unchanged = sum(row.sample.image not in labels for row in rows)
    good = len(labels) - defects.total()
    lacking = [row.sample.image for row in without_mask(table)]
    return Imported(out / TABLE, dataset_options(out, source), dict(defects.most_common()), good, unchanged, lacking)


def _labeled(row: Row, labels: Mapping[str, tuple[str, str] | None]) -> Row:
    if row.sample.image not in labels:
        return row
    label = labels[row.sample.image]
    return row.defective(*label) if label else row.good()


def _most_marked(image: LabeledImage) -> str:
    """The class with most pixels."""
    pixels: Counter[str] = Counter()
    for region in image.regions:
        pixels[region.name] += int(region.mask.sum())
    return pixels.most_common(1)[0][0]
