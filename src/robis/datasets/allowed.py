"""Regions of images that count as normal, by a table: places where a run flagged what is no defect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robis.errors import DataError
from robis.io.csv_rows import read_rows
from robis.io.names import composed, expanded, on_disk
from robis.io.tables import as_written

COLUMNS = ("category", "image", "mask")
EXPECTED = (
    "Expected a CSV with the columns category, image (a path below dataset.root) and mask (a path beside the CSV), as "
    "`robis review apply --allow RUN` writes it."
)


@dataclass(frozen=True)
class Allowed:
    """An image with regions that count as normal.

    Attributes:
        category: whose model learns them.
        image: posix path below the root of the data set, composed.
        mask: file of the image's size that marks the regions.
        place: the table and its line, for messages.
    """

    category: str
    image: str
    mask: Path
    place: str


def read_allowed(path: Path, key: str) -> list[Allowed]:
    """The rows of a table, sorted by category, image and mask.

    Args:
        path: the table.
        key: the config key that names it.

    Raises:
        DataError: the table cannot be read, or a cell is empty.
    """
    rows = [_row(path, line, cells, key) for line, cells in read_rows(path, COLUMNS, key=key, expected=EXPECTED)]
    return sorted(rows, key=lambda row: (row.category, row.image, str(row.mask)))


def _row(path: Path, line: int, cells: dict[str, str], key: str) -> Allowed:
    category, image, mask = (composed(as_written(cells[name])) for name in COLUMNS)
    if not (category and image and mask):
        raise DataError(f"{key}: {path}, line {line}: an empty cell. {EXPECTED}")
    return Allowed(category, image, on_disk(path.parent / expanded(mask)), f"{path}, line {line}")
