"""The sample table that every later stage reads: one row per image of a category's split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robis.io.ignored import decode, left_out_at
from robis.io.tables import make_table, read_table, write_table

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class IndexedSample:
    """One readable image.

    Attributes:
        sample_id: unique in its split; names the image's maps and masks, sub-folders included.
        split: name of the split.
        image: posix path relative to the dataset's root.
        label: "normal", "anomalous", or None where it is not known.
        defect: "good", the defect's name, or None.
        mask: posix path of the ground truth relative to the root, or None.
        height, width: size in image pixels, as the image is shown.
        ignore: path of the mask of ignored pixels, relative to the root or absolute, or None.
        ignored: these pixels, see `robis.io.ignored.encode`: with them in the table, every stage that reads it knows
            them, and is stale when they change. None where nothing is ignored.
    """

    sample_id: str
    split: str
    image: str
    label: str | None
    defect: str | None
    mask: str | None
    height: int
    width: int
    ignore: str | None = None
    ignored: bytes | None = None

    @property
    def ignored_pixels(self) -> np.ndarray | None:
        """The ignored pixels, bool (height, width), not to be written to; None where nothing is ignored."""
        return None if self.ignored is None else decode(self.ignored)

    def ignored_at(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """The ignored cells of a grid (H, W) over the image, bool, see `robis.io.ignored.left_out`; None: none is."""
        return left_out_at(self.ignored, *shape)


COLUMNS = tuple(IndexedSample.__dataclass_fields__)
_TYPES = dict.fromkeys((*COLUMNS[:6], "ignore"), "str") | {"height": "int32", "width": "int32", "ignored": "object"}
_KINDS = dict.fromkeys(COLUMNS[:6], "text") | {"height": "integers", "width": "integers"}


def write_samples(path: Path, samples: Sequence[IndexedSample]) -> None:
    """Write a sample table as Parquet, atomically."""
    table = make_table([asdict(sample) for sample in samples], COLUMNS)
    # A split without labels would otherwise have columns of no type at all.
    write_table(path, table.astype(_TYPES))


def read_samples(path: Path) -> list[IndexedSample]:
    """Read a sample table. Raises DataError when it is missing, damaged or lacks a column."""
    table = read_table(path, stage="index", columns=_KINDS)
    # Tables of earlier versions, which a report may compare with, have fewer columns.
    names = [name for name in COLUMNS if name in table]
    columns = [
        [None if missing else value for value, missing in zip(table[name].tolist(), table[name].isna(), strict=True)]
        for name in names
    ]
    return [IndexedSample(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
