"""Images that take part in nothing, by the table that `dataset.exclude` names."""

from __future__ import annotations

from collections.abc import Sequence

from robis.datasets.samples import Sample, Source
from robis.io.csv_rows import read_rows
from robis.io.names import composed, expanded
from robis.io.tables import as_written

COLUMN = "image"
EXPECTED = (
    f"Expected a CSV with the column {COLUMN}: images to leave out, as paths below dataset.root, one per row, as "
    f"`robis run CONFIG audit` writes it."
)


def excluded_images(source: Source) -> tuple[str, ...]:
    """Paths in the column `image` of the table, in its order; none where no table is named.

    Raises DataError where the table cannot be read, or has no such column.
    """
    if source.exclude is None:
        return ()
    path = expanded(source.exclude)
    rows = read_rows(path, (COLUMN,), key="dataset.exclude", expected=EXPECTED)
    cells = [as_written(cells[COLUMN]) for _, cells in rows]
    return tuple(dict.fromkeys(composed(cell) for cell in cells if cell))


def without_excluded(source: Source, samples: Sequence[Sample]) -> list[Sample]:
    """The samples that take part. Raises DataError as `excluded_images` does."""
    excluded = set(excluded_images(source))
    return [sample for sample in samples if not excluded or composed(sample.image) not in excluded]
