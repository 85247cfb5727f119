"""The sample table that every later stage reads: one row per image of a category's split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from robis.io.tables import make_table, read_table, write_table


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
    """

    sample_id: str
    split: str
    image: str
    label: str | None
    defect: str | None
    mask: str | None
    height: int
    width: int


COLUMNS = tuple(IndexedSample.__dataclass_fields__)
_TYPES = dict.fromkeys(COLUMNS[:6], "str") | {"height": "int32", "width": "int32"}
_KINDS = dict.fromkeys(COLUMNS[:6], "text") | {"height": "integers", "width": "integers"}


def write_samples(path: Path, samples: Sequence[IndexedSample]) -> None:
    """Write a sample table as Parquet, atomically."""
    table = make_table([asdict(sample) for sample in samples], COLUMNS)
    # A split without labels would otherwise have columns of no type at all.
    write_table(path, table.astype(_TYPES))


def read_samples(path: Path) -> list[IndexedSample]:
    """Read a sample table. Raises DataError when it is missing, damaged or lacks a column."""
    table = read_table(path, stage="index", columns=_KINDS)
    columns = [
        [None if missing else value for value, missing in zip(table[name].tolist(), table[name].isna(), strict=True)]
        for name in COLUMNS
    ]
    return [IndexedSample(*row) for row in zip(*columns, strict=True)]
