"""All metrics as one spreadsheet file."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
from openpyxl import Workbook
from openpyxl.cell import Cell as SheetCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from robis.evaluation.metrics import METRICS
from robis.io.atomic import atomic_file
from robis.io.tables import plain_text
from robis.report.overview import MEAN, Cell, Column, Row, SplitTables

PERCENT = "0.0%"
LONGEST_NAME = 31
# A sheet has 1,048,576 rows, one of them the heading.
MOST_ROWS = 1_048_575
# Fixed, so that the same metrics are the same bytes; the first day that a zip file can hold.
_TIME = datetime(1980, 1, 1)


def write_workbook(path: Path, tables: Sequence[SplitTables], images: pd.DataFrame) -> None:
    """Write an .xlsx of this report's runs: means per run and split first, then a sheet per run and split.

    Categories are rows, METRICS columns; values are numbers in 0..1 shown as percent, empty where undefined. If runs
    differ only in their seed, another sheet has mean and sample standard deviation over them. The last sheet, which is
    shown first where there are no metrics, has the rows of `images_table`, as many as a sheet holds.
    """
    book = Workbook()
    book.properties.creator = "robis"
    book.properties.created = _TIME
    names: list[str] = []
    means = [(row, table.split) for table in tables for row in table.means if row.column]
    single = [(row, split) for row, split in means if row.column and row.column.kind in ("run", "seed")]
    sheet = book.active
    if not isinstance(sheet, Worksheet):
        raise RuntimeError("a new workbook has no sheet")
    sheet.title = sheet_name("means", names)
    _fill(sheet, ("detector", "split", "categories"), [((r.name, split, r.categories), r.cells) for r, split in single])
    for table in tables:
        for column, rows in table.runs:
            if column.kind in ("run", "seed"):
                sheet = book.create_sheet(sheet_name(f"{column.name} {table.split}", names))
                _fill(sheet, ("category",), [((row.name,), row.cells) for row in rows])
    seeds = [
        (column, table.split, row)
        for table in tables
        for column, rows in table.runs
        if column.kind == "seeds"
        for row in rows
    ]
    if seeds:
        _fill_seeds(book.create_sheet(sheet_name("seeds", names)), seeds)
    _fill_images(book.create_sheet(sheet_name("images", names)), images)
    book.active = 0 if means else len(book.sheetnames) - 1
    with atomic_file(path) as partial:
        partial.write_bytes(_settled(book))


def _fill(sheet: Worksheet, keys: Sequence[str], rows: Iterable[tuple[Sequence[object], Sequence[Cell]]]) -> None:
    _head(sheet, [*keys, *METRICS])
    for texts, cells in rows:
        _append_metrics(sheet, texts, [cell.value for cell in cells], bold=texts[0] == MEAN)


def _fill_seeds(sheet: Worksheet, rows: Iterable[tuple[Column, str, Row]]) -> None:
    keys = ["detector", "split", "category", "seeds"]
    _head(sheet, [*keys, *(name for metric in METRICS for name in (metric, f"{metric}_std"))])
    for column, split, row in rows:
        values = [number for cell in row.cells for number in (cell.value, cell.std)]
        _append_metrics(sheet, [column.name, split, row.name, column.seeds], values, bold=row.name == MEAN)


def _fill_images(sheet: Worksheet, images: pd.DataFrame) -> None:
    names = images.columns.tolist()
    _head(sheet, names)
    area = names.index("area")
    plain = images.astype(object).where(images.notna(), None)
    for row in plain.head(MOST_ROWS).itertuples(index=False, name=None):
        _append(sheet, row)[area].number_format = "0.00%"
    sheet.auto_filter.ref = sheet.dimensions


def _head(sheet: Worksheet, names: Sequence[str]) -> None:
    sheet.append(list(names))
    for number, cell in enumerate(sheet[1], start=1):
        cell.font = Font(bold=True)
        cell.alignment = Alignment(horizontal="left" if number == 1 else "right")
        sheet.column_dimensions[get_column_letter(number)].width = 24 if number == 1 else 15
    sheet.freeze_panes = "B2"


def _append_metrics(sheet: Worksheet, keys: Sequence[object], values: Sequence[object], *, bold: bool) -> None:
    """Add a row of keys and shares; the shares are shown in percent."""
    cells = _append(sheet, [*keys, *values])
    for cell in cells[len(keys) :]:
        cell.number_format = PERCENT
    for cell in cells if bold else []:
        cell.font = Font(bold=True)


def _append(sheet: Worksheet, values: Sequence[object]) -> list[SheetCell]:
    """Add a row, and give its cells; text stays text, even where it looks like a formula.

    Characters that .xlsx cannot hold become question marks.
    """
    texts = [ILLEGAL_CHARACTERS_RE.sub("?", value) if isinstance(value, str) else value for value in values]
    # To ask the sheet for its last row takes longer with every row.
    cells = [SheetCell(sheet, value=plain_text(value)) for value in texts]
    sheet.append(cells)
    return cells


def sheet_name(wanted: str, taken: list[str]) -> str:
    """A valid name that no sheet has yet, which joins `taken`: at most 31 characters, none of []:*?/\\."""
    base = re.sub(r"[\[\]:*?/\\\x00-\x1f]", "_", wanted).strip("'") or "sheet"
    # Spreadsheet programs keep this name for themselves.
    base = "history_" if base.lower() == "history" else base
    name, number = base[:LONGEST_NAME], 1
    while name.lower() in [other.lower() for other in taken]:
        number += 1
        name = f"{base[: LONGEST_NAME - len(f' {number}')]} {number}"
    taken.append(name)
    return name


def _settled(book: Workbook) -> bytes:
    """The workbook's bytes without the time at which they were written."""
    raw = io.BytesIO()
    book.save(raw)
    settled = io.BytesIO()
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(settled, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                # openpyxl sets the time of saving whatever the properties say.
                stamp = f"{_TIME.isoformat()}Z".encode()
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, content)
            target.writestr(zipfile.ZipInfo(name, _TIME.timetuple()[:6]), content, zipfile.ZIP_DEFLATED)
    return settled.getvalue()
