"""Images that take part in nothing, by the table that `dataset.exclude` names."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from robis.datasets.samples import Sample, Source
from robis.errors import DataError
from robis.io.names import composed
from robis.io.tables import as_written
from robis.io.text import EncodingError, decoded

COLUMN = "image"


def excluded_images(source: Source) -> tuple[str, ...]:
    """Paths in the column `image` of the table, in its order; none where no table is named.

    Raises DataError where the table cannot be read, or has no such column.
    """
    if source.exclude is None:
        return ()
    path = Path(source.exclude).expanduser()
    try:
        status = os.stat(path)
        return _read(path, (status.st_size, status.st_mtime_ns, status.st_ino))
    except OSError as error:
        raise DataError(
            f"dataset.exclude: {path} cannot be read ({error.strerror}). Expected a CSV with the column {COLUMN}, one "
            f"image per row, as `robis run CONFIG audit` writes it."
        ) from error


def without_excluded(source: Source, samples: Sequence[Sample]) -> list[Sample]:
    """The samples that take part. Raises DataError as `excluded_images` does."""
    excluded = set(excluded_images(source))
    return [sample for sample in samples if not excluded or composed(sample.image) not in excluded]


@lru_cache(maxsize=8)
def _read(path: Path, stamp: object) -> tuple[str, ...]:
    try:
        lines = decoded(path.read_bytes()).splitlines()
    except EncodingError as error:
        raise DataError(f"dataset.exclude: {error.at(path)}") from error
    # Spreadsheets separate cells by what their language has for lists.
    separator = max(",;\t", key=(lines or [""])[0].count)
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    header = [name.strip() for name in next(rows, [])]
    if COLUMN not in header:
        raise DataError(
            f"dataset.exclude: {path} has no column {COLUMN!r}; found {', '.join(header) or 'nothing'}. Its rows name "
            f"the images to leave out, as paths below dataset.root."
        )
    column = header.index(COLUMN)
    cells = [row[column].strip() for row in rows if len(row) > column]
    return tuple(dict.fromkeys(composed(as_written(cell)) for cell in cells if cell))
