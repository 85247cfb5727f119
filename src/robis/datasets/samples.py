"""What a layout gives: the images of a split, and where their data set lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robis.io.images import mask_files

NORMAL, ANOMALOUS = "normal", "anomalous"
# Splits that models learn from; every other one is inspected.
LEARNED = ("train", "validation")


@dataclass(frozen=True)
class Source:
    """A data set on disk.

    Attributes:
        layout: name of an entry of `LAYOUTS`.
        root: the folder that paths are relative to.
        table: for layouts that list their images in a file, its path, relative to the root or absolute;
            None for the layout's own.
        allow_outside_root: whether that file may name images outside the root.
        ignore: pattern of the masks of ignored pixels, relative to the root or absolute, with {category}, {split} and
            {name}; None where nothing is ignored.
        exclude: path of a table of images that take part in nothing (`robis.datasets.excluded`); None for none.
    """

    layout: str
    root: Path
    table: str | None = None
    allow_outside_root: bool = False
    ignore: str | None = None
    exclude: str | None = None


@dataclass(frozen=True)
class Sample:
    """One image: posix paths relative to the dataset's root, unknown label and absent mask as None.

    The mask is a file, or a folder of several masks that `read_mask` joins. `ignore` is the mask of ignored pixels.
    """

    sample_id: str
    image: str
    label: str | None = None
    defect: str | None = None
    mask: str | None = None
    ignore: str | None = None


def sample_files(root: Path, sample: Sample) -> list[str]:
    """List the files of a sample, its image and its masks, as posix paths relative to the root."""
    if sample.mask is None:
        return [sample.image]
    names = [path.name for path in mask_files(root / sample.mask)] if (root / sample.mask).is_dir() else []
    return [sample.image, *([f"{sample.mask}/{name}" for name in names] or [sample.mask])]


def read_files(root: Path, sample: Sample) -> list[str]:
    """List all files that are read of a sample: `sample_files`, and its mask of ignored pixels."""
    return [*sample_files(root, sample), *([sample.ignore] if sample.ignore else [])]
