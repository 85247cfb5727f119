"""Tables as Parquet and CSV."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from robis.errors import DataError

# Imported where it is used: it is slow to import, and models run without it.
if TYPE_CHECKING:
    import pandas as pd
from robis.io.atomic import atomic_file

# Spreadsheet programs take a cell that begins with one of these for a formula, also behind white space; the last four
# are the same characters in full width (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically."""
    with atomic_file(path) as partial:
        table.to_parquet(partial, index=False)


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet table. Raises DataError when it is missing or damaged."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet table ({error}).") from error


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, atomically: text as `plain_text` gives it, numbers with all their digits, null as empty."""
    cells = table.rename(columns=plain_text)
    text = cells.select_dtypes(exclude="number").columns
    cells[text] = cells[text].map(plain_text)
    with atomic_file(path) as partial:
        cells.to_csv(partial, index=False, lineterminator="\n")


def plain_text(value: object) -> object:
    """Text that a spreadsheet shows and does not execute: what it would take for a formula gets an apostrophe in front.

    Tabs and line breaks become spaces: some programs begin a new cell at them. Anything but text is returned as it is.
    """
    if not isinstance(value, str):
        return value
    text = re.sub(r"[\t\r\n]", " ", value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text
