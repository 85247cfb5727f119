"""Rows of CSV tables that robis or a person wrote, and a spreadsheet may have saved again."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from robis.errors import DataError
from robis.io.text import EncodingError, decoded


def read_rows(path: Path, columns: Sequence[str], *, key: str = "", expected: str) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not empty.

    Args:
        path: the table, in UTF-8; cells are separated by commas, semicolons or tabs, as in its first line.
        columns: which the table must have; others are left out.
        key: the config key that names the file, for messages.
        expected: a sentence about the table, which ends each message.

    Returns:
        Per row the number of its last line, and column -> cell without blanks around it, empty where the row is short.

    Raises:
        DataError: the file cannot be read, or a column is missing or there twice.
    """
    subject = f"{key}: {path}" if key else str(path)
    try:
        status = path.stat()
        return list(_rows(path, tuple(columns), subject, expected, (status.st_size, status.st_mtime_ns, status.st_ino)))
    except OSError as error:
        raise DataError(f"{subject}: cannot be read ({error.strerror}). {expected}") from error


# A plan asks for the same table once per category and split.
@lru_cache(maxsize=8)
def _rows(
    path: Path, columns: tuple[str, ...], subject: str, expected: str, stamp: object
) -> tuple[tuple[int, dict[str, str]], ...]:
    try:
        text = decoded(path.read_bytes())
    except EncodingError as error:
        raise DataError(error.at(subject)) from error
    # Spreadsheets separate cells by what their language has for lists.
    separator = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        missing = ", ".join(repr(name) for name in columns if name not in header)
        if missing:
            raise DataError(f"{subject}: no column {missing}; found {', '.join(header) or 'nothing'}. {expected}")
        if twice := ", ".join(repr(name) for name in columns if header.count(name) > 1):
            raise DataError(f"{subject}: more than one column {twice}; expected one each. {expected}")
        places = {name: header.index(name) for name in columns}
        return tuple((lines.line_num, _cells(row, places)) for row in lines if any(row))
    except csv.Error as error:
        raise DataError(f"{subject}, line {lines.line_num}: cannot be read ({error}). {expected}") from error


def _cells(row: Sequence[str], places: dict[str, int]) -> dict[str, str]:
    return {name: row[place].strip() if place < len(row) else "" for name, place in places.items()}
